"""Delimited rows, CSV and TSV: the first line names the columns; the delimiter is found by trying.

In CSV a field may be quoted and then hold delimiters and line breaks. In TSV a quotation mark is a character
like any other, unless the file can only have come from a program that quotes.
"""

import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from training.data.files.names import refuse_repeated
from training.data.rows import Row, RowSet
from training.errors import DataFileError
from training.options import DELIMITERS

NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
OPTIONS = {character: name for name, character in DELIMITERS.items()}

_TRIED_ROWS = 100
_TRIED_CHARACTERS = 2**20
_LONGEST_FIELD = 2**31 - 1  # the library's own limit is 131,072 characters
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n')  # which Excel writes and reads


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    quoting: bool

    def records(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the fields of each record that is not blank, with the line where it ends.

        Raises:
            csv.Error: A quoted field is broken.
        """
        csv.field_size_limit(_LONGEST_FIELD)
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE,
            skipinitialspace=self.delimiter != "\t",
            strict=True,
        )
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields

    @property
    def name(self) -> str:
        return OPTIONS.get(self.delimiter, shlex.quote(self.delimiter))

    def __str__(self) -> str:
        return f"{NAMES.get(self.delimiter, self.delimiter)}s between fields"


def read_delimited(path: Path, text: str, *, tabs: bool, delimiter: str | None = None) -> RowSet:
    """Read CSV or TSV.

    Args:
        path: The file, for messages.
        text: What is in it.
        tabs: Whether its name says that it is TSV.
        delimiter: What stands between fields; None to find it.

    Raises:
        DataFileError: A line has a field too many or too few, a quoted field is broken, or two columns have
            one name; names the line.
    """
    said = _SEPARATOR_LINE.match(text)
    if said:
        text, delimiter = "\n" + text[said.end() :], delimiter or said[1]
    dialect = _find_dialect(text, "\t" if tabs else ",", delimiter)
    rows = tuple(_rows(path, text, dialect))
    usual = dialect == _Dialect("\t" if tabs else ",", not tabs)
    quoting = ", fields in quotation marks" if tabs and dialect.quoting else ""
    option = "" if delimiter or said else f" (--delimiter {dialect.name})"
    notes = () if usual else (f"read as {dialect}{quoting}{option}",)
    return RowSet(str(path), "line", rows, notes, tuple(_swallowed(rows, dialect)))


def _rows(path: Path, text: str, dialect: _Dialect) -> Iterator[Row]:
    names: list[str] = []
    line = 0
    try:
        for line, fields in dialect.records(text):
            if not names:
                names = [field.strip() for field in fields]
                refuse_repeated(path, filter(None, names))
                continue
            if any(field.strip() for field in fields[len(names) :]) or len(fields) < len(names):
                raise DataFileError(f"{path}:{line}: {_miscounted(fields, names, dialect)}")
            yield Row(line, {name: field for name, field in zip(names, fields, strict=False) if name})
    except csv.Error as error:
        raise DataFileError(
            f"{path}:{line + 1}: {error}: a field that begins with a quotation mark must end with one, and "
            "those within it are doubled"
        ) from error


def _swallowed(rows: Sequence[Row], dialect: _Dialect) -> Iterator[str]:
    """Warn of quoted fields that hold nothing but whole rows, as where a quotation mark has no partner."""
    for row in rows:
        for field in row.values.values():
            inner = str(field).split("\n")[1:-1]
            if inner and all(_width(f"{line}\n", dialect) == len(row.values) for line in inner):
                where = f"a quoted field that ends in line {row.line}"
                yield f"{where} holds whole rows; is a quotation mark missing?"


def _miscounted(fields: Sequence[str], names: Sequence[str], dialect: _Dialect) -> str:
    name = NAMES.get(dialect.delimiter, repr(dialect.delimiter))
    hint = f"; a field that holds a {name} must be in quotation marks" if dialect.quoting else ""
    more = hint if len(fields) > len(names) else ""
    return f"{len(fields)} fields where the header names {len(names)} (read as {dialect}){more}"


def _find_dialect(text: str, usual: str, given: str | None) -> _Dialect:
    """Find the delimiter that splits the first records alike and into most fields, else the usual one."""
    if given == "\t" or (given is None and usual == "\t" and _width(text, _Dialect("\t", False)) > 1):
        return _Dialect("\t", _tabs_are_quoted(text))
    if given:
        return _Dialect(given, True)
    head = text[:_TRIED_CHARACTERS]
    found = [_Dialect(one, True) for one in dict.fromkeys((usual, *NAMES))]
    best = max(found, key=lambda one: (_is_even(head, one), _width(head, one)))
    best = best if _width(head, best) > 1 else found[0]
    return _Dialect("\t", _tabs_are_quoted(text)) if best.delimiter == "\t" else best


def _width(text: str, dialect: _Dialect) -> int:
    """Count the fields of the header."""
    try:
        return len(next(dialect.records(text), (0, []))[1])
    except csv.Error:
        return 0


def _is_even(text: str, dialect: _Dialect, most: int | None = _TRIED_ROWS) -> bool:
    """Tell whether the records have as many fields as the first, more than one."""
    try:
        widths = {len(fields) for _, fields in islice(dialect.records(text), most)}
    except csv.Error:
        return False
    return len(widths) == 1 and widths != {1}


def _tabs_are_quoted(text: str) -> bool:
    """Tell whether a program that quotes fields must have written this TSV.

    Such a program quotes all fields, or those that hold a quotation mark, which it doubles, a tab or a line
    break. Where fields with marks at both ends can be meant as they stand, they are.
    """
    plain = _Dialect("\t", False)
    if not _is_even(text, plain, None):
        return _is_even(text, _Dialect("\t", True), None)
    fields = [field for _, record in plain.records(text) for field in record]
    marked = [field for field in fields if field.startswith('"')]
    if not marked or not all(_QUOTED.fullmatch(field) for field in marked):
        return False
    return len(marked) == len(fields) or all('""' in field[1:-1] for field in marked)
