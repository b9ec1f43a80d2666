"""Multiple choice: each choice scored from [CLS] of (context, choice), softmax over the choices."""

from collections.abc import Sequence

import numpy as np

from masking.base import Tokenizer
from masking.errors import EmptyInputError, TaskInputError
from masking.tasks.codec import ModelKind, tokenize_within
from masking.tasks.features import Features
from masking.tasks.inputs import ChoiceInput, TaskInput
from masking.tasks.predictions import ClassPrediction, Floats, predict_class
from masking.tasks.spec import TaskSpec

_FEWEST_CHOICES = 2


class ChoiceCodec:
    """Codec of multiple choice; see `TaskCodec`."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        """Keep the task's spec and the base's tokenizer."""
        self.spec = spec
        self._tokenizer = tokenizer

    def encode(self, inputs: Sequence[TaskInput], *, truncate: bool) -> list[Features]:
        """Encode each choice as one row; see `TaskCodec.encode`."""
        checked = [self._checked(item, index) for index, item in enumerate(inputs)]
        owners = [index for index, item in enumerate(checked) for _ in item.choices]
        rows, cut = tokenize_within(
            self._tokenizer,
            [checked[owner].context for owner in owners],
            [choice for item in checked for choice in item.choices],
            limit=self.spec.max_length,
            truncate=truncate,
            owners=owners,
        )
        features, start = [], 0
        for item in checked:
            end = start + len(item.choices)
            features.append(Features(tuple(rows[start:end]), truncated=any(cut[start:end])))
            start = end
        return features

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the one logit of each row, side by side: float32 [choices]."""
        return np.concatenate(row_logits)

    def decode(self, logits: Floats) -> ClassPrediction:
        """Return the best choice of float32 [choices]."""
        return predict_class(logits, ())

    def _checked(self, item: TaskInput, index: int) -> ChoiceInput:
        if not isinstance(item, ChoiceInput):
            raise TaskInputError("this task takes a context and choices per input", index=index)
        if len(item.choices) < _FEWEST_CHOICES:
            raise TaskInputError(f"at least {_FEWEST_CHOICES} choices are needed", index=index)
        if not item.context.strip() or not all(choice.strip() for choice in item.choices):
            raise EmptyInputError("the context or a choice is empty", index=index)
        return item


MULTIPLE_CHOICE = ModelKind(
    "multiple-choice",
    ChoiceCodec,
    pooled=True,
    labelled=False,
    sample=lambda _: ChoiceInput("one", ("two", "three")),
)
