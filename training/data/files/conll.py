"""CoNLL columns: a word and its tags on a line, a blank line between sentences, ``-DOCSTART-`` between texts.

A sentence is a row: ``tokens`` is the first column, ``tags`` the last, ``column-2`` and so on those between.
Where the first column counts the words of each sentence, it is left out. CoNLL-U has its own names of
columns, ``tokens`` and ``tags`` (the universal part of speech) among them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.rows import Row, RowSet
from training.errors import DataFileError

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".txt")

_CONLLU = ("tokens", "lemma", "tags", "xpos", "feats", "head", "deprel", "deps", "misc")
_CONLLU_COLUMNS = len(_CONLLU) + 1
_JOINED = re.compile(r"\d+[-.]\d+")  # words written as one, and words that are not written: CoNLL-U
_DOCUMENT = "-DOCSTART-"
_WANTED = "expected a word and its tags on each line, and a blank line between sentences"

_Line = tuple[int, tuple[str, ...]]


def read_conll(path: Path, text: str) -> RowSet:
    """Read sentences.

    Args:
        path: The file, for messages.
        text: What is in it.

    Raises:
        DataFileError: A line has another number of columns than those before, or there is one column only;
            names the line.
    """
    sentences = list(_sentences(text))
    lines = [line for sentence in sentences for line in sentence]
    width = len(lines[0][1]) if lines else 0
    for number, fields in lines:
        if len(fields) != width or width == 1:
            found = "one column" if width == 1 else f"{len(fields)} columns where the first line has {width}"
            raise DataFileError(f"{path}:{number}: {found}; {_WANTED}")
    counted = all(_counts_words(sentence) for sentence in sentences)
    names = _CONLLU if counted and width == _CONLLU_COLUMNS else _names(width - counted)
    rows = []
    for sentence in sentences:
        columns = zip(names, _columns(sentence, counted), strict=True)
        rows.append(Row(sentence[0][0], {name: list(column) for name, column in columns}))
    return RowSet(str(path), "line", tuple(rows))


def _names(width: int) -> tuple[str, ...]:
    return ("tokens", *(f"column-{number}" for number in range(2, width)), "tags")


def _columns(sentence: Sequence[_Line], counted: bool) -> Iterator[tuple[str, ...]]:
    columns = zip(*(fields for _, fields in sentence), strict=True)
    if counted:
        next(columns)
    return columns


def _counts_words(sentence: Sequence[_Line]) -> bool:
    first = [fields[0] for _, fields in sentence]
    return len(sentence[0][1]) > 2 and first == [str(place + 1) for place in range(len(first))]  # noqa: PLR2004


def _sentences(text: str) -> Iterator[list[_Line]]:
    """Yield the lines of each sentence, without comments."""
    tabs = "\t" in text
    lines = [(number, _fields(line, tabs)) for number, line in enumerate(text.split("\n"), start=1)]
    tags = {fields[-1] for _, fields in lines if fields and not fields[0].startswith("#")}
    widths = {len(fields) for _, fields in lines if fields and not fields[0].startswith("#")}
    sentence: list[_Line] = []
    for number, fields in lines:
        if fields and not sentence and fields[0].startswith("#") and _is_comment(fields, widths, tags):
            continue
        if fields and fields[0] != _DOCUMENT:
            if not _JOINED.fullmatch(fields[0]) or len(fields) != _CONLLU_COLUMNS:
                sentence.append((number, fields))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _fields(line: str, tabs: bool) -> tuple[str, ...]:
    if not line.strip():
        return ()
    return tuple(field.strip() for field in line.split("\t")) if tabs else tuple(line.split())


def _is_comment(fields: Sequence[str], widths: set[int], tags: set[str]) -> bool:
    """Tell a comment before a sentence from a word that is a number sign, which has a tag of the file."""
    return len(fields) not in widths or fields[-1] not in tags
