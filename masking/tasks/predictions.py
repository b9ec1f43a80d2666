"""Predictions of a task: for an input a class, labels, values or an embedding, or a label for each word."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ScoresPrediction:
    """A score for each class, label or value of one input.

    Attributes:
        logits: float32 [classes].
        scores: float32 [classes], what the kind of task makes of the logits.
    """

    logits: Floats
    scores: Floats

    @property
    def ranking(self) -> list[int]:
        """Indices of the classes, best first; of equal ones the first."""
        return [int(index) for index in np.argsort(-self.logits, kind="stable")]


@dataclass(frozen=True)
class ClassPrediction(ScoresPrediction):
    """One class for one input: a label, or for multiple choice the index of a choice.

    Attributes:
        label: Name of the class; the index as text for multiple choice.
        index: Index of the class, the first of those with the highest logit.
        logits: float32 [classes].
        scores: float32 [classes], softmax of the logits.
    """

    label: str
    index: int


@dataclass(frozen=True)
class LabelsPrediction(ScoresPrediction):
    """Any number of labels for one input.

    Attributes:
        labels: The labels whose score is at least their threshold.
        indices: Their indices.
        logits: float32 [labels].
        scores: float32 [labels], sigmoid of the logits.
    """

    labels: tuple[str, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class ValuesPrediction(ScoresPrediction):
    """Numbers for one input: the values of a regression, or how relevant a document is.

    Attributes:
        logits: float32 [values].
        scores: float32 [values]: the logits of a regression, their sigmoid in reranking.
    """


@dataclass(frozen=True)
class WordsPrediction:
    """One label for each word of one input.

    Attributes:
        labels: Label of each word.
        indices: Index of each word's label.
        logits: float32 [words, labels].
        scores: float32 [words, labels], softmax over the labels.
    """

    labels: tuple[str, ...]
    indices: tuple[int, ...]
    logits: Floats
    scores: Floats

    @property
    def label_scores(self) -> list[float]:
        """The score of each word's label."""
        return [float(row[index]) for row, index in zip(self.scores, self.indices, strict=True)]


@dataclass(frozen=True)
class EmbeddingPrediction:
    """The embedding of a text, or the two of a pair.

    Attributes:
        logits: float32 [hidden], or [2, hidden] of a pair, of any length.
        scores: The same, of length 1.
    """

    logits: Floats
    scores: Floats

    @property
    def similarity(self) -> float:
        """The cosine of the two of a pair."""
        first, second = self.scores
        return float(first @ second)


Prediction = ClassPrediction | LabelsPrediction | ValuesPrediction | WordsPrediction | EmbeddingPrediction


def normalise(vectors: Floats) -> Floats:
    """Return vectors along the last axis with length 1, float32 in and out; of zeros zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Floats = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return result


def softmax(logits: Floats) -> Floats:
    """Return the softmax over the last axis, float32 in and out; in NumPy, as logits have left the device."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: Floats) -> Floats:
    """Return the logistic function of each logit, float32 in and out."""
    result: Floats = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64))).astype(np.float32)
    return result


def predict_class(logits: Floats, labels: tuple[str, ...]) -> ClassPrediction:
    """Return the best class of `logits` [classes]; without labels its name is its index."""
    index = int(logits.argmax())
    return ClassPrediction(logits, softmax(logits), labels[index] if labels else str(index), index)
