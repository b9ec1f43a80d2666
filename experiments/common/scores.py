"""Scores over seeds, in percent, and the score of the majority vote, which learning has to beat."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data.features import EncodedExample


@dataclass(frozen=True)
class Scores:
    """A metric over seeds.

    Attributes:
        values: One a seed, from 0 to 1 (a Matthews correlation may be below 0); at least one.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean in percent."""
        return 100 * fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation in percent; None for one seed."""
        return 100 * stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Write mean and spread: ``95.26 ± 0.31``."""
        return f"{self.mean:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")

    def record(self) -> dict[str, Any]:
        """Return values, mean and spread for JSON."""
        return {"by_seed": list(self.values), "mean": self.mean, "sd": self.spread}


def errors_of(values: Sequence[float]) -> Scores:
    """Return the errors of metrics: 1 minus each."""
    return Scores(tuple(1 - value for value in values))


def majority_value(examples: "Sequence[EncodedExample]", metric: str) -> float:
    """Return the score of the majority vote.

    Args:
        examples: At least one; words count one by one.
        metric: Name of the metric.

    Returns:
        The share of the most frequent label for accuracy; 0 for metrics that give nothing for it.
    """
    if metric != "accuracy":
        return 0.0
    counts = Counter(index for example in examples for index in example.target)
    return counts.most_common(1)[0][1] / counts.total()


def listed(items: Iterable[object]) -> str:
    """Join items with commas."""
    return ", ".join(map(str, items))
