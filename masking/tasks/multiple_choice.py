"""Multiple choice: each choice scored from [CLS] of (context, choice), softmax over the choices."""

from collections.abc import Sequence

import numpy as np

from masking.base import Tokenizer
from masking.errors import EmptyInputError, InputTooLargeError, TaskInputError
from masking.tasks.codec import NO_LIMITS, InputLimits, ModelKind, RowCodec, TaskSpec
from masking.tasks.features import Features
from masking.tasks.inputs import ChoiceInput, TaskInput, is_blank
from masking.tasks.predictions import ClassPrediction, Floats, predict_class
from masking.tasks.tokenizing import Steps

_FEWEST_CHOICES = 2


class ChoiceCodec(RowCodec):
    """Codec of multiple choice; see `TaskCodec`."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        """Keep the task's spec and the base's tokenizer."""
        super().__init__(spec, tokenizer, pair=True)

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits = NO_LIMITS
    ) -> Steps[list[Features]]:
        """Encode each choice as one row; see `TaskCodec.encode_steps`."""
        checked = [self._checked(item, index, limits) for index, item in enumerate(inputs)]
        texts = [(item.context, choice) for item in checked for choice in item.choices]
        owners = [index for index, item in enumerate(checked) for _ in item.choices]
        rows = yield from self._tokenizer.rows(texts, truncate=truncate, owners=owners)
        features, start = [], 0
        for item in checked:
            end = start + len(item.choices)
            own, was_cut = zip(*rows[start:end], strict=True)
            features.append(Features(own, truncated=any(was_cut)))
            start = end
        return features

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the one logit of each row, side by side: float32 [choices]."""
        return np.concatenate(row_logits)

    def decode(self, logits: Floats) -> ClassPrediction:
        """Return the best choice of float32 [choices]."""
        return predict_class(logits, ())

    def _checked(self, item: TaskInput, index: int, limits: InputLimits) -> ChoiceInput:
        if not isinstance(item, ChoiceInput):
            raise TaskInputError("this task takes a context and choices per input", index=index)
        if len(item.choices) < _FEWEST_CHOICES:
            raise TaskInputError(f"at least {_FEWEST_CHOICES} choices are needed", index=index)
        if item.rows > limits.rows:
            raise InputTooLargeError(item.rows, limits.rows, unit="choices", index=index)
        if is_blank(item.context) or any(map(is_blank, item.choices)):
            raise EmptyInputError("the context or a choice is empty", index=index)
        return item


MULTIPLE_CHOICE = ModelKind(
    "multiple-choice",
    ChoiceCodec,
    pooled=True,
    labelled=False,
    sample=lambda _: ChoiceInput("one", ("two", "three")),
)
