"""Rows to examples: which columns are needed, which rows can be used, and what their labels are.

A row with a missing field, an empty text or a value of the wrong type is set aside with its line and the
reason; it is never dropped silently and never stops a run. What makes the whole file useless (a column that
no row has, no usable row, one label only, a label in dev that train lacks) is an error. Nothing here
tokenises.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mask_store import TaskKind
from masking import ChoiceInput, TaskInput, TextInput, WordsInput
from training.data.rows import RowSet
from training.errors import ColumnError, LabelError, NoExamplesError
from training.options import ROLES, Role

DEFAULT_COLUMNS: dict[Role, tuple[str, ...]] = {
    "text": ("text", "sentence"),
    "pair": ("text_pair",),
    "label": ("label",),
    "tokens": ("tokens",),
    "tags": ("tags",),
    "context": ("context",),
    "choices": ("choices",),
}
MIN_LABELS = 2
SHOWN_LINES = 5

Target = str | int | tuple[str, ...]
Columns = Mapping[Role, str]


@dataclass(frozen=True)
class Example:
    """One usable row.

    Attributes:
        line: where it stands in its file.
        input: what the task is asked.
        target: the right answer: a label, a tag for each word, or the 0-based index of a choice.
    """

    line: int
    input: TaskInput
    target: Target


@dataclass(frozen=True)
class Unusable:
    """One row that can't be used.

    Attributes:
        line: where it stands in its file.
        reason: what is wrong with it.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class ExampleSet:
    """The usable rows of one file or split, and the others.

    Attributes:
        source: name of the file or split, for messages.
        unit: what the line numbers count, ``line`` or ``row``.
        examples: the usable rows, in order.
        unusable: the others, in order.
    """

    source: str
    unit: str
    examples: tuple[Example, ...]
    unusable: tuple[Unusable, ...]


class _UnusableRowError(Exception):
    """Raised by the readers of one row, caught by `read_examples`."""


def choose_columns(
    kind: TaskKind, named: Mapping[Role, str | None], row_sets: Iterable[RowSet]
) -> dict[Role, str]:
    """Decide which column plays which role.

    A column that the user named must be there; otherwise the first default name that is there is taken. Texts
    form pairs where a pair column is named, or the rows have one of the default name.

    Args:
        kind: kind of task.
        named: column per role as the user named it, None for "the default".
        row_sets: the rows to learn from and the rows to check with; each must have every column.

    Returns:
        Column per role; the role ``pair`` is absent where texts are single.

    Raises:
        NoExamplesError: a set holds no row at all.
        ColumnError: a column isn't there; lists the columns that are, and the nearest name.
    """
    first, *others = row_sets
    for rows in (first, *others):
        if not rows.rows:
            raise NoExamplesError(f"{rows.source}: the file is empty, there is no row to read")
    columns = {role: _find_column(role, named.get(role), first) for role in ROLES[kind]}
    chosen = {role: column for role, column in columns.items() if column is not None}
    for rows in others:
        for role, column in chosen.items():
            _find_column(role, column, rows)
    return chosen


def read_examples(rows: RowSet, kind: TaskKind, columns: Columns) -> ExampleSet:
    """Turn rows into examples.

    Args:
        rows: rows as read.
        kind: kind of task.
        columns: column per role, from `choose_columns`.

    Returns:
        Every row, as an example or as unusable with the reason.

    Raises:
        NoExamplesError: not one row can be used; the message has the first reasons.
    """
    read = _READERS[kind]
    examples: list[Example] = []
    unusable: list[Unusable] = []
    for line, values in rows.rows:
        try:
            examples.append(Example(line, *read(values, columns)))
        except _UnusableRowError as error:
            unusable.append(Unusable(line, str(error)))
    if not examples:
        reasons = "; ".join(describe_unusable(unusable, rows.unit))
        raise NoExamplesError(f"{rows.source}: none of the {len(rows.rows)} rows can be used: {reasons}")
    return ExampleSet(rows.source, rows.unit, tuple(examples), tuple(unusable))


def learn_labels(kind: TaskKind, train: ExampleSet, dev: ExampleSet) -> tuple[str, ...]:
    """Collect the labels of a task from its training examples.

    Args:
        kind: kind of task.
        train: examples to learn from.
        dev: examples to check with.

    Returns:
        The labels, sorted; in numeric order where all are whole numbers. Empty for multiple choice.

    Raises:
        LabelError: there is one label only, or dev has one that train lacks.
    """
    if kind == "multiple-choice":
        return ()
    labels = {label for example in train.examples for label in _labels_of(example)}
    if len(labels) < MIN_LABELS:
        only = next(iter(labels))
        raise LabelError(
            f"{train.source}: every row has the label {only!r}; a task needs at least two labels"
        )
    unknown: dict[str, list[int]] = {}
    for example in dev.examples:
        for label in dict.fromkeys(_labels_of(example)):
            if label not in labels:
                unknown.setdefault(label, []).append(example.line)
    if unknown:
        found = "; ".join(f"{label!r} ({_lines(lines, dev.unit)})" for label, lines in unknown.items())
        known = ", ".join(map(repr, sort_labels(labels)[:20]))
        raise LabelError(f"{dev.source}: labels that {train.source} lacks: {found}; it has {known}")
    return sort_labels(labels)


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels: as numbers if every one is a whole number, else as text."""
    labels = set(labels)
    if all(_whole(label) is not None for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def describe_unusable(unusable: Iterable[Unusable], unit: str) -> list[str]:
    """Say in a line per reason which rows can't be used, as ``2 rows (lines 3, 9): the label is missing``."""
    by_reason: dict[str, list[int]] = {}
    for row in unusable:
        by_reason.setdefault(row.reason, []).append(row.line)
    return [
        f"{len(lines)} {'row' if len(lines) == 1 else 'rows'} ({_lines(lines, unit)}): {reason}"
        for reason, lines in by_reason.items()
    ]


def _find_column(role: Role, named: str | None, rows: RowSet) -> str | None:
    candidates = (named,) if named else DEFAULT_COLUMNS[role]
    there = rows.columns
    for name in candidates:
        if name in there:
            return name
    if role == "pair" and not named:
        return None
    wanted = " or ".join(repr(name) for name in candidates)
    near = difflib.get_close_matches(candidates[0], there, n=1, cutoff=0.5)
    hint = f"; did you mean --{role}-column {near[0]}?" if near else f"; name it with --{role}-column"
    listed = ", ".join(repr(name) for name in there)
    raise ColumnError(f"{rows.source}: no column {wanted}; there are {listed}{hint}")


def _lines(lines: list[int], unit: str) -> str:
    shown = ", ".join(map(str, lines[:SHOWN_LINES]))
    more = f" and {len(lines) - SHOWN_LINES} more" if len(lines) > SHOWN_LINES else ""
    return f"{unit}{'s' if len(lines) > 1 else ''} {shown}{more}"


def _labels_of(example: Example) -> tuple[str, ...]:
    target = example.target
    return target if isinstance(target, tuple) else (str(target),)


def _read_text(values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
    pair = _text(values, columns["pair"]) if "pair" in columns else None
    return TextInput(_text(values, columns["text"]), pair), _label(values, columns["label"])


def _read_words(values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
    words = _texts(values, columns["tokens"])
    column = columns["tags"]
    tags = tuple(_label_text(tag, f"a tag in {column!r}") for tag in _list(values, column))
    if len(words) != len(tags):
        raise _UnusableRowError(f"{len(words)} tokens but {len(tags)} tags")
    return WordsInput(words), tags


def _read_choices(values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
    choices = _texts(values, columns["choices"])
    if len(choices) < MIN_LABELS:
        raise _UnusableRowError(f"{len(choices)} choice in {columns['choices']!r}, at least two are needed")
    label = _label(values, columns["label"])
    index = _whole(label)
    if index is None or not 0 <= index < len(choices):
        raise _UnusableRowError(f"label {label!r} is no index of a choice, 0 to {len(choices) - 1}")
    return ChoiceInput(_text(values, columns["context"]), choices), index


_READERS: dict[TaskKind, Callable[[Mapping[str, object], Columns], tuple[TaskInput, Target]]] = {
    "sequence-classification": _read_text,
    "token-classification": _read_words,
    "multiple-choice": _read_choices,
}


def _value(values: Mapping[str, object], column: str) -> object:
    value = values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise _UnusableRowError(f"{column!r} is missing")
    return value


def _checked_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _UnusableRowError(f"{what} is no text but {type(value).__name__}")
    if not value.strip():
        raise _UnusableRowError(f"{what} is empty")
    return value


def _text(values: Mapping[str, object], column: str) -> str:
    return _checked_text(_value(values, column), repr(column))


def _list(values: Mapping[str, object], column: str) -> list[object]:
    """Read a list; in CSV and TSV, where every field is text, one written as JSON."""
    value = _value(values, column)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise _UnusableRowError(f"{column!r} is a broken JSON list") from None
    if not isinstance(value, list):
        raise _UnusableRowError(f"{column!r} is no list but {type(value).__name__}")
    if not value:
        raise _UnusableRowError(f"{column!r} is empty")
    return value


def _texts(values: Mapping[str, object], column: str) -> tuple[str, ...]:
    return tuple(_checked_text(item, f"an element of {column!r}") for item in _list(values, column))


def _label(values: Mapping[str, object], column: str) -> str:
    return _label_text(_value(values, column), repr(column))


def _label_text(value: object, what: str) -> str:
    """Name a label: text as it is, whole numbers in digits, true and false as JSON spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        raise _UnusableRowError(f"{what} is {value}, and a label is text or a whole number")
    return _checked_text(value, what)


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
