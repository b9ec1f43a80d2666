"""Embeddings: a text as a vector, its tokens' hidden states pooled, without a head.

A server takes single texts. Learning and evaluation take pairs; a pair is two rows, each text by itself.
"""

from collections.abc import Sequence

import numpy as np

from masking.base import Tokenizer
from masking.errors import EmptyInputError, TaskInputError
from masking.tasks.codec import NO_LIMITS, InputLimits, ModelKind, RowCodec, TaskSpec
from masking.tasks.features import Features, Row
from masking.tasks.inputs import TaskInput, TextInput, is_blank
from masking.tasks.predictions import EmbeddingPrediction, Floats, normalise
from masking.tasks.sequence_classification import sample_text
from masking.tasks.tokenizing import Steps


class EmbeddingCodec(RowCodec):
    """Codec of embeddings; see `TaskCodec`."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        """Keep the task's spec and the base's tokenizer."""
        super().__init__(spec, tokenizer, pair=False)

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits = NO_LIMITS
    ) -> Steps[list[Features]]:
        """Encode each text as one row; see `TaskCodec.encode_steps`."""
        texts = [_texts(item, index) for index, item in enumerate(inputs)]
        owners = [index for index, own in enumerate(texts) for _ in own]
        flat = [(text,) for own in texts for text in own]
        rows = iter((yield from self._tokenizer.rows(flat, truncate=truncate, owners=owners)))
        return [_features([next(rows) for _ in own]) for own in texts]

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the embedding of the only text: float32 [hidden], or of a pair [2, hidden]."""
        return row_logits[0] if len(row_logits) == 1 else np.stack(row_logits)

    def decode(self, logits: Floats) -> EmbeddingPrediction:
        """Return the embedding, or the two of a pair."""
        return EmbeddingPrediction(logits, normalise(logits))


def _texts(item: TaskInput, index: int) -> tuple[str, ...]:
    if not isinstance(item, TextInput):
        raise TaskInputError("this task takes one text per input", index=index)
    texts = (item.text,) if item.pair is None else (item.text, item.pair)
    if any(map(is_blank, texts)):
        raise EmptyInputError("the text is empty", index=index)
    return texts


def _features(rows: Sequence[tuple[Row, bool]]) -> Features:
    return Features(tuple(row for row, _ in rows), truncated=any(was_cut for _, was_cut in rows))


EMBEDDING = ModelKind(
    "embedding", EmbeddingCodec, pooled=False, labelled=False, sample=sample_text, headless=True
)
