"""Examples of a task, from rows: which rows can be used, and what their right answers are.

A row with a missing field, an empty text or a value of the wrong type is set aside with its line and the
reason; it is never dropped silently and never stops a run. What makes the whole file useless (no usable row,
one label only, a label in dev that train lacks) is an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mask_store import TaskKind
from masking import TaskInput
from training.data.rows import RowSet
from training.errors import LabelError, NoExamplesError
from training.kinds import TRAINING_KINDS, Columns, Judgement, Target, labels_of
from training.kinds.fields import UnusableRowError, joined, whole_number

MIN_LABELS = 2
SHOWN_LINES = 5
SHOWN_REASONS = 8
SHOWN_LABELS = 20


@dataclass(frozen=True)
class Example:
    """One usable row.

    Attributes:
        line: Where it stands in its file.
        input: What the task is asked.
        target: The right answer: a label, several, a tag for each word, the 0-based index of a choice, or
            values.
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
        remarks: What was done to rows that are used, with their lines.
    """

    source: str
    unit: str
    examples: tuple[Example, ...]
    unusable: tuple[Unusable, ...]
    remarks: tuple[Unusable, ...] = ()


def read_examples(rows: RowSet, kind: TaskKind, columns: Columns) -> ExampleSet:
    """Turn rows into examples, whose targets are as the rows have them until they are settled.

    Args:
        rows: Rows as read.
        kind: Kind of task.
        columns: Column per role, from `training.data.columns.choose_columns`.

    Returns:
        Every row, as an example or as unusable with the reason.

    Raises:
        NoExamplesError: Not one row can be used; the message has the first reasons.
    """
    read = TRAINING_KINDS[kind].read
    examples: list[Example] = []
    unusable: list[Unusable] = []
    remarks: list[Unusable] = []
    for line, values in rows.rows:
        try:
            reading = read(values, columns)
        except UnusableRowError as error:
            unusable.append(Unusable(line, str(error)))
            continue
        examples.append(Example(line, reading.input, reading.target))
        if reading.remark:
            remarks.append(Unusable(line, reading.remark))
    found = ExampleSet(rows.source, rows.unit, tuple(examples), tuple(unusable), tuple(remarks))
    return _not_empty(found)


def judge(
    kind: TaskKind, sets: Iterable[ExampleSet], missing: str | None, separator: str | None = None
) -> Judgement:
    """Decide over all rows what their targets mean; see `training.kinds.TrainingKind.judge`."""
    first, *others = sets
    readings = [(example.input, example.target) for one in (first, *others) for example in one.examples]
    try:
        return TRAINING_KINDS[kind].judge(readings, missing, separator)
    except LabelError as error:
        raise LabelError(f"{first.source}: {error}") from None


def settle(examples: ExampleSet, judgement: Judgement) -> ExampleSet:
    """Return examples with the targets that are learned; rows that turn out to have none are set aside.

    Raises:
        NoExamplesError: Not one row is left.
    """
    kept: list[Example] = []
    unusable = list(examples.unusable)
    for example in examples.examples:
        try:
            kept.append(replace(example, target=judgement.settle(example.input, example.target)))
        except UnusableRowError as error:
            unusable.append(Unusable(example.line, str(error)))
    unusable.sort(key=lambda row: row.line)
    return _not_empty(replace(examples, examples=tuple(kept), unusable=tuple(unusable)))


def learn_labels(kind: TaskKind, train: ExampleSet, dev: ExampleSet) -> tuple[str, ...]:
    """Collect the labels of a task from its training examples.

    Args:
        kind: Kind of task.
        train: Examples to learn from.
        dev: Examples to check with.

    Returns:
        The labels, sorted; in numeric order where all are whole numbers. Empty for a kind without classes.

    Raises:
        LabelError: There is one label only, or dev has one that train lacks.
    """
    if not TRAINING_KINDS[kind].has_classes:
        return ()
    labels = {label for example in train.examples for label in labels_of(example.target)}
    if len(labels) < MIN_LABELS:
        only = next(iter(labels), "")
        others = "".join(f"; left out: {told}" for told in describe_unusable(train.unusable, train.unit))
        raise LabelError(
            f"{train.source}: every row has the label {only!r}; a task needs at least two labels{others}"
        )
    unknown: dict[str, list[int]] = {}
    for example in dev.examples:
        for label in dict.fromkeys(labels_of(example.target)):
            if label not in labels:
                unknown.setdefault(label, []).append(example.line)
    if unknown:
        found = [f"{label!r} ({_lines(lines, dev.unit)})" for label, lines in unknown.items()]
        known = joined([repr(label) for label in sort_labels(labels)], SHOWN_LABELS)
        listed = joined(found, SHOWN_LABELS).replace("), ", "); ")
        raise LabelError(f"{dev.source}: labels that {train.source} lacks: {listed}; it has {known}")
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
    told = [
        f"{len(lines)} {'row' if len(lines) == 1 else 'rows'} ({_lines(lines, unit)}): {reason}"
        for reason, lines in by_reason.items()
    ]
    more = len(told) - SHOWN_REASONS
    return told[:SHOWN_REASONS] + ([f"and {more} more reasons"] if more > 0 else [])


def _not_empty(found: ExampleSet) -> ExampleSet:
    if not found.examples:
        reasons = "; ".join(describe_unusable(found.unusable, found.unit))
        raise NoExamplesError(
            f"{found.source}: none of the {len(found.unusable)} rows can be used: {reasons}"
        )
    return found


def _lines(lines: Sequence[int], unit: str) -> str:
    shown = joined([str(line) for line in lines], SHOWN_LINES)
    return f"{unit}{'s' if len(lines) > 1 else ''} {shown}"
