"""Sequence classification: one label for a text or for a pair of texts."""

from collections.abc import Sequence

from masking.base import Tokenizer
from masking.errors import EmptyInputError, TaskInputError
from masking.tasks.codec import ModelKind, tokenize_within
from masking.tasks.features import Features
from masking.tasks.inputs import TaskInput, TextInput
from masking.tasks.predictions import ClassPrediction, Floats, predict_class
from masking.tasks.spec import TaskSpec


class SequenceCodec:
    """Codec of sequence classification; see `TaskCodec`."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        """Keep the task's spec and the base's tokenizer."""
        self.spec = spec
        self._tokenizer = tokenizer

    def encode(self, inputs: Sequence[TaskInput], *, truncate: bool) -> list[Features]:
        """Encode each text or pair as one row; see `TaskCodec.encode`."""
        checked = [self._checked(item, index) for index, item in enumerate(inputs)]
        rows, cut = tokenize_within(
            self._tokenizer,
            [item.text for item in checked],
            [item.pair or "" for item in checked] if self.spec.pair else None,
            limit=self.spec.max_length,
            truncate=truncate,
            owners=range(len(checked)),
        )
        return [Features((row,), truncated=was) for row, was in zip(rows, cut, strict=True)]

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the logits of the only row: float32 [labels]."""
        return row_logits[0]

    def decode(self, logits: Floats) -> ClassPrediction:
        """Return the best label of float32 [labels]."""
        return predict_class(logits, self.spec.labels)

    def _checked(self, item: TaskInput, index: int) -> TextInput:
        wanted = "a pair of texts" if self.spec.pair else "one text"
        if not isinstance(item, TextInput):
            raise TaskInputError(f"this task takes {wanted} per input", index=index)
        if (item.pair is not None) != self.spec.pair:
            given = "one text" if item.pair is None else "a pair of texts"
            raise TaskInputError(f"this task takes {wanted} per input, but was given {given}", index=index)
        if not item.text.strip() or (item.pair is not None and not item.pair.strip()):
            raise EmptyInputError("the text is empty", index=index)
        return item


SEQUENCE_CLASSIFICATION = ModelKind(
    "sequence-classification",
    SequenceCodec,
    pooled=True,
    labelled=True,
    sample=lambda spec: TextInput("one", "two" if spec.pair else None),
)
