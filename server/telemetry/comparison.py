"""Comparison: how far the answers of two versions of a task to one input are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masking import Prediction, TaskSpec
from masking.tasks.predictions import (
    ClassPrediction,
    EmbeddingPrediction,
    Floats,
    LabelsPrediction,
    WordsPrediction,
)


@dataclass(frozen=True)
class Compared:
    """Two answers to one input.

    Attributes:
        agreement: 1 if their labels are equal, else 0; of words the share of equal labels; None for numbers.
        difference: The largest difference of a label's score; of numbers the largest difference of one, of
            embeddings 1 less their cosine.
    """

    agreement: float | None
    difference: float


class Comparison:
    """Compares answers of two versions, whose labels may differ."""

    def __init__(self, one: TaskSpec, other: TaskSpec) -> None:
        """Compare a version of the first spec with one of the second; both are of one kind of task."""
        names = list(dict.fromkeys((*one.labels, *other.labels)))
        self._width = 0 if one.labels == other.labels else len(names)
        self._places = [[names.index(label) for label in spec.labels] for spec in (one, other)]

    def of(self, one: Prediction, other: Prediction) -> Compared:
        """Compare the answers to one input."""
        match one, other:
            case ClassPrediction(), ClassPrediction():
                agreement = float(one.label == other.label)
            case LabelsPrediction(), LabelsPrediction():
                agreement = float({*one.labels} == {*other.labels})
            case WordsPrediction(), WordsPrediction():
                agreement = _equal_share(one.labels, other.labels)
            case EmbeddingPrediction(), EmbeddingPrediction():
                cosines = (one.scores * other.scores).sum(axis=-1)
                return Compared(None, float(1 - np.min(cosines)))
            case _:
                return Compared(None, self._difference(one.scores, other.scores))
        return Compared(agreement, self._difference(one.scores, other.scores))

    def _difference(self, one: Floats, other: Floats) -> float:
        first, second = self._aligned(one, 0), self._aligned(other, 1)
        return float(np.abs(first - second).max(initial=0.0))

    def _aligned(self, scores: Floats, which: int) -> Floats:
        """Return scores in the order of the labels of both; one that a version lacks has score 0."""
        if not self._width:
            return scores
        every = np.zeros((*scores.shape[:-1], self._width), np.float32)
        every[..., self._places[which]] = scores
        return every


def _equal_share(one: Sequence[str], other: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one) if one else 1.0
