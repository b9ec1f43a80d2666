"""Multi-label classification, regression and reranking over HTTP, with bodies of classification."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic_core import to_json

from masking import LabelsPrediction, Prediction, ScoresPrediction, TaskInput
from server.http.kinds.kind import Json, ReplyFormat, ranked, scores_of
from server.http.kinds.sequence_classification import SequenceClassification
from server.http.kinds.tensors import OutputTensor, TensorInfo


class MultiLabelClassification(SequenceClassification):
    """See `HttpKind`. An entry of a label says whether its score reaches the label's threshold."""

    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return one entry per label, best first."""
        assert isinstance(prediction, LabelsPrediction)
        found = ranked(prediction, self.spec.labels, reply)
        return [{**entry, "predicted": i in prediction.indices} for i, entry in found]

    def outputs_of(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> dict[str, OutputTensor]:
        """Return the labels of each input, as one JSON text, and all scores."""
        found = [prediction for prediction in predictions if isinstance(prediction, LabelsPrediction)]
        labels = [to_json(prediction.labels).decode() for prediction in found]
        return {"label": OutputTensor("label", labels), "scores": _scores(found, reply)}


class Regression(SequenceClassification):
    """See `HttpKind`. The score of an entry is the value itself, and its label the value's name."""

    @property
    def output_tensors(self) -> tuple[TensorInfo, ...]:
        """Its only output: the values."""
        return (TensorInfo("scores", "FP32", (-1, len(self.spec.labels))),)

    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return one entry per value, in their order."""
        assert isinstance(prediction, ScoresPrediction)
        scores = scores_of(prediction, reply.function)
        entries = zip(self.spec.labels, scores, strict=True)
        return [{"score": float(score), "label": name} for name, score in entries]

    def outputs_of(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> dict[str, OutputTensor]:
        """Return the values of each input."""
        found = [prediction for prediction in predictions if isinstance(prediction, ScoresPrediction)]
        return {"scores": _scores(found, reply)}


class Reranking(Regression):
    """See `HttpKind`. Answers a pair of query and document; many documents at once by POST /rerank."""

    pipeline_tag: ClassVar[str] = "text-ranking"
    model_type: ClassVar[str] = "reranker"


def _scores(predictions: Sequence[ScoresPrediction], reply: ReplyFormat) -> OutputTensor:
    return OutputTensor("scores", np.stack([scores_of(one, reply.function) for one in predictions]))
