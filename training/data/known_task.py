"""Rows of a task that is learned already: read as learning reads them, for labels that it knows."""

import logging
from collections.abc import Mapping

from masking import TaskSpec
from training.data.columns import choose_columns
from training.data.examples import SHOWN_LABELS, ExampleSet, judge, read_examples, settle
from training.data.rows import RowSet
from training.errors import ColumnError, LabelError
from training.kinds import TRAINING_KINDS, labels_of
from training.kinds.fields import joined
from training.options import ROLES, Role

logger = logging.getLogger(__name__)


def read_known(
    rows: RowSet, spec: TaskSpec, named: Mapping[Role, str | None], separator: str | None = None
) -> ExampleSet:
    """Read the labelled rows of a learned task; what the rows themselves decided about targets is logged.

    Args:
        rows: The rows.
        spec: The task.
        named: Column per role as the user named it, None for the default.
        separator: What stands between the labels of a cell; None to find it.

    Raises:
        DataError: No row can be used, a column isn't there, or a label is not one of the task's.
    """
    columns = task_columns(rows, spec, named)
    read = read_examples(rows, spec.kind, columns)
    missing = "" if "-1" in spec.labels else None
    judgement = judge(spec.kind, [read], missing, separator)
    for note in judgement.notes:
        logger.info(f"{rows.source}: {note}")
    examples = settle(read, judgement)
    if TRAINING_KINDS[spec.kind].has_classes:
        _check_labels(examples, spec)
    return examples


def task_columns(
    rows: RowSet, spec: TaskSpec, named: Mapping[Role, str | None], *, answers: bool = True
) -> dict[Role, str]:
    """Decide which column plays which role for a learned task; see `choose_columns`.

    Raises:
        ColumnError: A column isn't there, or there is one text where the task takes pairs, or the other way;
            an embedding is of one text, and measured on pairs.
    """
    columns = choose_columns(spec.kind, named, (rows,), answers=answers)
    if "pair" in ROLES[spec.kind] and ("pair" in columns) != spec.pair and spec.pooling is None:
        found = " and ".join(repr(columns[role]) for role in ("text", "pair") if role in columns)
        wanted = "pairs of texts" if spec.pair else "one text"
        missing = "--pair-column" if spec.pair else "--text-column"
        raise ColumnError(f"{rows.source}: the task takes {wanted}, found {found}; name it with {missing}")
    return columns


def _check_labels(examples: ExampleSet, spec: TaskSpec) -> None:
    known = set(spec.labels)
    for example in examples.examples:
        for label in labels_of(example.target):
            if label not in known:
                listed = joined([repr(one) for one in spec.labels], SHOWN_LABELS)
                raise LabelError(
                    f"{examples.source}:{example.line}: the task has no label {label!r}; it has {listed}"
                )
