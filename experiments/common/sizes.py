"""Sizes of data: how many examples or words a task has, and whether they are the paper's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.published.facts import FACTS
from experiments.published.tables import TODAYS_COUNTS

if TYPE_CHECKING:
    from training.data.features import EncodedExample

_ROUNDING = 0.1  # the paper rounds sizes of train, NER's the most
_TODAYS_TRAIN = {"swag": 73_546}  # the paper prints the number of all its splits together


def counted(examples: "Sequence[EncodedExample]") -> int:
    """Return the number of examples, or of words that have a target."""
    return sum(len(example.target) for example in examples)


def other_rows(task: str, train: int, dev: int) -> str | None:
    """Say how a task's rows differ from the paper's; None where they don't, or the paper lacks the task.

    Args:
        task: Its name.
        train: Examples to learn from.
        dev: Examples, or words, that are measured.
    """
    if task not in FACTS.setup.tasks:
        return None
    rows = _TODAYS_TRAIN.get(task, FACTS.table1.train_rows[task])
    sizes = {FACTS.table5.counts[task]["dev"], TODAYS_COUNTS.get((task, "dev"))}
    if abs(train - rows) <= _ROUNDING * rows and dev in sizes:
        return None
    return (
        f"{task}: {train:,} of about {rows:,} training rows, {dev:,} of {max(filter(None, sizes)):,} of dev"
    )
