"""Scores of texts: multi-label classification, regression and reranking, which differ in what logits become.

They take what sequence classification takes. Hugging Face calls the first two the problem types
``multi_label_classification`` and ``regression``.
"""

import numpy as np

from masking.tasks.codec import ModelKind
from masking.tasks.predictions import Floats, LabelsPrediction, ValuesPrediction, sigmoid
from masking.tasks.sequence_classification import SequenceCodec, sample_text

_DEFAULT_THRESHOLD = 0.5


class MultiLabelCodec(SequenceCodec):
    """Codec of multi-label classification: any number of labels, by sigmoid; see `TaskCodec`."""

    def decode(self, logits: Floats) -> LabelsPrediction:
        """Return the labels of float32 [labels] that reach their thresholds."""
        return predict_labels(logits, self.spec.labels, self.spec.thresholds)


class RegressionCodec(SequenceCodec):
    """Codec of regression: one number or several, the logits as they are; see `TaskCodec`."""

    def decode(self, logits: Floats) -> ValuesPrediction:
        """Return the values, float32 [values]."""
        return ValuesPrediction(logits, logits)


class RerankingCodec(SequenceCodec):
    """Codec of reranking: how relevant a document is to a query, read together; see `TaskCodec`."""

    def decode(self, logits: Floats) -> ValuesPrediction:
        """Return the relevance of float32 [1], 0 to 1."""
        return ValuesPrediction(logits, sigmoid(logits))


def predict_labels(
    logits: Floats, labels: tuple[str, ...], thresholds: tuple[float, ...]
) -> LabelsPrediction:
    """Return the labels of `logits` [labels] whose score reaches their threshold; without any, 0.5."""
    scores = sigmoid(logits)
    reached = np.flatnonzero(scores >= np.array(thresholds or _DEFAULT_THRESHOLD))
    indices = tuple(int(index) for index in reached)
    return LabelsPrediction(logits, scores, tuple(labels[index] for index in indices), indices)


MULTI_LABEL_CLASSIFICATION = ModelKind(
    "multi-label-classification", MultiLabelCodec, pooled=True, labelled=True, sample=sample_text
)
REGRESSION = ModelKind("regression", RegressionCodec, pooled=True, labelled=True, sample=sample_text)
RERANKING = ModelKind("reranking", RerankingCodec, pooled=True, labelled=True, sample=sample_text)
