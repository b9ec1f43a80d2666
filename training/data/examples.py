"""Examples of a task, from rows: which columns are needed, which rows can be used, what their labels are.

A row with a missing field, an empty text or a value of the wrong type is set aside with its line and the
reason; it is never dropped silently and never stops a run. What makes the whole file useless (a column that
no row has, no usable row, one label only, a label in dev that train lacks) is an error.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mask_store import TaskKind
from masking import TaskInput
from masking.tasks import MODEL_KINDS
from training.data.rows import RowSet
from training.errors import ColumnError, LabelError, NoExamplesError
from training.kinds import TRAINING_KINDS, Columns, Target
from training.kinds.fields import UnusableRowError, whole_number
from training.options import Role

MIN_LABELS = 2
SHOWN_LINES = 5


@dataclass(frozen=True)
class Example:
    """One usable row.

    Attributes:
        line: Where it stands in its file.
        input: What the task is asked.
        target: The right answer: a label, a tag for each word, or the 0-based index of a choice.
    """

    line: int
    input: TaskInput
    target: Target


@dataclass(frozen=True)
class Unusable:
    """One row that can't be used.

    Attributes:
        line: Where it stands in its file.
        reason: What is wrong with it.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class ExampleSet:
    """The usable rows of one file or split, and the others.

    Attributes:
        source: Name of the file or split, for messages.
        unit: What the line numbers count, ``line`` or ``row``.
        examples: The usable rows, in order.
        unusable: The others, in order.
    """

    source: str
    unit: str
    examples: tuple[Example, ...]
    unusable: tuple[Unusable, ...]


def choose_columns(
    kind: TaskKind, named: Mapping[Role, str | None], row_sets: Iterable[RowSet]
) -> dict[Role, str]:
    """Decide which column plays which role.

    A column that the user named must be there; otherwise the first default name that is there is taken. Texts
    form pairs where a pair column is named, or the rows have one of the default name.

    Args:
        kind: Kind of task.
        named: Column per role as the user named it, None for "the default".
        row_sets: The rows to learn from and the rows to check with; each must have every column.

    Returns:
        Column per role; the role ``pair`` is absent where texts are single.

    Raises:
        NoExamplesError: A set holds no row at all.
        ColumnError: A column isn't there; lists the columns that are, and the nearest name.
    """
    first, *others = row_sets
    for rows in (first, *others):
        if not rows.rows:
            raise NoExamplesError(f"{rows.source}: the file is empty, there is no row to read")
    roles = TRAINING_KINDS[kind]
    chosen: dict[Role, str] = {}
    for role, defaults in roles.columns.items():
        name = named.get(role)
        column = _find_column(role, (name,) if name else defaults, first, role in roles.optional and not name)
        if column is not None:
            chosen[role] = column
    for rows in others:
        for role, column in chosen.items():
            _find_column(role, (column,), rows)
    return chosen


def read_examples(rows: RowSet, kind: TaskKind, columns: Columns) -> ExampleSet:
    """Turn rows into examples.

    Args:
        rows: Rows as read.
        kind: Kind of task.
        columns: Column per role, from `choose_columns`.

    Returns:
        Every row, as an example or as unusable with the reason.

    Raises:
        NoExamplesError: Not one row can be used; the message has the first reasons.
    """
    read = TRAINING_KINDS[kind].read
    examples: list[Example] = []
    unusable: list[Unusable] = []
    for line, values in rows.rows:
        try:
            examples.append(Example(line, *read(values, columns)))
        except UnusableRowError as error:
            unusable.append(Unusable(line, str(error)))
    if not examples:
        reasons = "; ".join(describe_unusable(unusable, rows.unit))
        raise NoExamplesError(f"{rows.source}: none of the {len(rows.rows)} rows can be used: {reasons}")
    return ExampleSet(rows.source, rows.unit, tuple(examples), tuple(unusable))


def learn_labels(kind: TaskKind, train: ExampleSet, dev: ExampleSet) -> tuple[str, ...]:
    """Collect the labels of a task from its training examples.

    Args:
        kind: Kind of task.
        train: Examples to learn from.
        dev: Examples to check with.

    Returns:
        The labels, sorted; in numeric order where all are whole numbers. Empty for multiple choice.

    Raises:
        LabelError: There is one label only, or dev has one that train lacks.
    """
    if not MODEL_KINDS[kind].labelled:
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
    if all(whole_number(label) is not None for label in labels):
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


def _find_column(role: Role, candidates: tuple[str, ...], rows: RowSet, optional: bool = False) -> str | None:
    there = rows.columns
    for name in candidates:
        if name in there:
            return name
    if optional:
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
