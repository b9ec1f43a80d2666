"""Embeddings over HTTP: one text per input, its embedding or how similar others are to it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from masking import EmbeddingPrediction, Prediction, TaskInput, TaskSpec
from masking.tasks.predictions import Floats, normalise
from server.http.kinds.embed_body import EmbedBody
from server.http.kinds.kind import ReplyFormat
from server.http.kinds.sequence_classification import SequenceClassification
from server.http.kinds.tensors import OutputTensor, TensorInfo


class Embedding(SequenceClassification):
    """See `HttpKind`. A reply is a list of embeddings, even for one text."""

    pipeline_tag: ClassVar[str] = "feature-extraction"
    model_type: ClassVar[str] = "embedding"
    body = EmbedBody

    def __init__(self, spec: TaskSpec) -> None:
        """Show a batch as a list of texts, which for other kinds is a pair."""
        super().__init__(spec)
        self.example_batch = {"inputs": ["I want my money back", "thanks, it works"]}

    @property
    def output_tensors(self) -> tuple[TensorInfo, ...]:
        """Its only output: the embeddings."""
        return (TensorInfo("embedding", "FP32", (-1, self.spec.width or -1)),)

    def reply(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> list[Any]:
        """Return the embedding of each input, or of the first one the cosine to each other."""
        found = vectors(predictions, reply)
        answer: list[Any] = (found[1:] @ found[0] if reply.compared else found).tolist()
        return answer

    def outputs_of(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> dict[str, OutputTensor]:
        """Return the embedding of each input."""
        return {"embedding": OutputTensor("embedding", vectors(predictions, reply))}


def vectors(predictions: Sequence[Prediction], reply: ReplyFormat) -> Floats:
    """Return embeddings, float32 [inputs, hidden], of length 1 unless they are wanted as they are."""
    raw = np.stack([one.logits for one in predictions if isinstance(one, EmbeddingPrediction)])
    return raw if reply.function == "none" and not reply.compared else normalise(raw)
