"""Sequence classification: one label for a text or for a pair of texts, by softmax."""

from collections.abc import Sequence

from masking.errors import EmptyInputError, TaskInputError
from masking.tasks.codec import NO_LIMITS, InputLimits, ModelKind, RowCodec, TaskSpec
from masking.tasks.features import Features
from masking.tasks.inputs import TaskInput, TextInput, is_blank
from masking.tasks.predictions import Floats, Prediction, predict_class
from masking.tasks.tokenizing import Steps


class SequenceCodec(RowCodec):
    """Codec of sequence classification; see `TaskCodec`."""

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits = NO_LIMITS
    ) -> Steps[list[Features]]:
        """Encode each text or pair as one row; see `TaskCodec.encode_steps`."""
        checked = [self._checked(item, index) for index, item in enumerate(inputs)]
        texts = [(item.text,) if item.pair is None else (item.text, item.pair) for item in checked]
        rows = yield from self._tokenizer.rows(texts, truncate=truncate, owners=range(len(texts)))
        return [Features((row,), truncated=was_cut) for row, was_cut in rows]

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the logits of the only row: float32 [labels]."""
        return row_logits[0]

    def decode(self, logits: Floats) -> Prediction:
        """Return the best label of float32 [labels]."""
        return predict_class(logits, self.spec.labels)

    def _checked(self, item: TaskInput, index: int) -> TextInput:
        wanted = "a pair of texts" if self.spec.pair else "one text"
        if not isinstance(item, TextInput):
            raise TaskInputError(f"this task takes {wanted} per input", index=index)
        if (item.pair is not None) != self.spec.pair:
            given = "one text" if item.pair is None else "a pair of texts"
            raise TaskInputError(f"this task takes {wanted} per input, but was given {given}", index=index)
        if is_blank(item.text) or (item.pair is not None and is_blank(item.pair)):
            raise EmptyInputError("the text is empty", index=index)
        return item


def sample_text(spec: TaskSpec) -> TextInput:
    """Return a short text, or a pair of texts where the task takes pairs."""
    return TextInput("one", "two" if spec.pair else None)


SEQUENCE_CLASSIFICATION = ModelKind(
    "sequence-classification", SequenceCodec, pooled=True, labelled=True, sample=sample_text
)
