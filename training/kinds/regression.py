"""Regression in training: a text or a pair of texts, and a number, or several."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masking import Prediction, TaskInput, ValuesPrediction
from training.errors import LabelError
from training.kinds.fields import UnusableRowError, read_list, read_value
from training.kinds.judgement import Judgement, Target
from training.kinds.kind import Baseline, ColumnNames, Columns, Reading, TargetNumbers
from training.kinds.sequence_classification import SequenceClassification


class Regression(SequenceClassification):
    """A number, or several, for a text or for a pair of texts; see `TrainingKind`."""

    name = "regression"
    has_classes = False
    each_logit = True
    default_metric = "pearson"
    columns: ClassVar[ColumnNames] = {
        "text": SequenceClassification.columns["text"],
        "pair": (),
        "label": ("score", "label", "similarity_score", "rating", "stars", "value", "labels", "target"),
    }

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a text, or two, and the values."""
        return Reading(self.read_input(values, columns), read_numbers(values, columns["label"]))

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Make sure that all rows have as many values, and leave out those that mean none.

        Raises:
            LabelError: They have not, or every row has the same.
        """
        absent = None if missing is None else missing_number(missing)
        kept = [target for _, target in readings if target != (absent,)]
        if len(sizes := {len(target) for target in kept if isinstance(target, tuple)}) > 1:
            raise LabelError(f"rows have {min(sizes)} to {max(sizes)} values; all must have as many")
        if len(set(kept)) < 2:  # noqa: PLR2004
            raise LabelError("every row has the same value; there is nothing to learn")
        left = len(readings) - len(kept)
        notes = (f"value {missing} means no value: its {left} rows are left out",) if left else ()
        return Judgement(NumberSettler("value", absent), notes)

    def value_names(self, columns: Columns) -> tuple[str, ...]:
        """Return the name of the values' column."""
        return (columns["label"],)

    def bias(self, truth: Sequence[TargetNumbers]) -> tuple[float, ...]:
        """Return the mean of each value."""
        return tuple(np.mean(truth, axis=0).tolist())

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the mean squared error of each example; see `TrainingKind.loss`."""
        errors = torch.where(targets.isnan(), torch.zeros_like(logits), logits - targets.nan_to_num())
        return errors.square().mean(dim=1).sum() / total

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure Pearson's and Spearman's correlation, as means over the values, and the RMSE."""
        right, found = np.array(truth, np.float64), values_of(predictions)
        columns = list(zip(right.T, found.T, strict=True))
        each = [correlations(*column) for column in columns]
        means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        return means | {"rmse": float(np.sqrt(np.square(right - found).mean()))}

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
        """Tell that one answer for everything has no correlation."""
        return Baseline(0.0, "the mean for everything")


@dataclass(frozen=True)
class NumberSettler:
    """Settles targets that are numbers; see `Judgement.settle`.

    Attributes:
        name: What the numbers are called.
        absent: The number that means there is none.
        largest: What the numbers are divided by.
    """

    name: str
    absent: float | None
    largest: float = 1.0

    def __call__(self, task_input: TaskInput, target: Target) -> Target:
        """Return the numbers, divided; refuse a row that has none."""
        assert isinstance(target, tuple)
        if target == (self.absent,):
            raise UnusableRowError(f"{self.name} {self.absent:g} means none")
        return tuple(float(number) / self.largest for number in target)


def missing_number(text: str) -> float | None:
    """Return the number that means "no value"; None for the empty text.

    Raises:
        LabelError: It is not a number.
    """
    try:
        return float(text) if text else None
    except ValueError:
        raise LabelError(f"--missing-label {text!r} is not a number, as the values are") from None


def read_numbers(values: Mapping[str, object], column: str) -> tuple[float, ...]:
    """Read a number, or a list of numbers.

    Raises:
        UnusableRowError: It is missing, or not finite numbers.
    """
    value = read_value(values, column)
    several = isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))
    return tuple(_number(one, column) for one in (read_list(values, column) if several else [value]))


def values_of(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return the scores of predictions: float64 [examples, values]."""
    found = [one.scores for one in predictions if isinstance(one, ValuesPrediction)]
    return np.stack(found).astype(np.float64)


def _number(value: object, column: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnusableRowError(f"{column!r} must be a number, found {value!r:.40}")
    return number


def correlations(right: NDArray[np.float64], found: NDArray[np.float64]) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation; 0 where one side is always the same.

    Args:
        right: float64 [examples].
        found: Likewise.
    """
    ranks = _correlation(_ranks(right), _ranks(found))
    return {"pearson": _correlation(right, found), "spearman": ranks}


def _correlation(right: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Return Pearson's correlation; 0 where one side is always the same."""
    if np.ptp(right) == 0 or np.ptp(found) == 0:
        return 0.0
    return float(np.corrcoef(right, found)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value; equal ones share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks
