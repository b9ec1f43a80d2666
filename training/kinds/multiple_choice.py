"""Multiple choice in training: a context, choices, and the index of the right one."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from sklearn.metrics import accuracy_score
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from masking import ChoiceInput, ClassPrediction, Prediction, TaskInput
from training.kinds.fields import UnusableRowError, read_label, read_text, read_texts, whole_number
from training.kinds.kind import ColumnNames, Columns, Target, TargetIndices, TrainingKind

MIN_CHOICES = 2


class MultipleChoice(TrainingKind):
    """The right one of several choices, whose number may vary; see `TrainingKind`."""

    name = "multiple-choice"
    columns: ClassVar[ColumnNames] = {"context": ("context",), "choices": ("choices",), "label": ("label",)}

    def read(self, values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
        """Read a context, its choices, and the 0-based index of the right one."""
        choices = read_texts(values, columns["choices"])
        if len(choices) < MIN_CHOICES:
            raise UnusableRowError(
                f"{len(choices)} choice in {columns['choices']!r}, at least two are needed"
            )
        label = read_label(values, columns["label"])
        index = whole_number(label)
        if index is None or not 0 <= index < len(choices):
            raise UnusableRowError(f"label {label!r} is not an index of a choice, 0 to {len(choices) - 1}")
        return ChoiceInput(read_text(values, columns["context"]), choices), index

    def loss(self, logits: Tensor, targets: Tensor, counts: Sequence[int], total: int) -> Tensor:
        """Compute the cross entropy over the choices of each example; see `TrainingKind.loss`."""
        return super().loss(choice_logits(logits, counts), targets, counts, total)

    def measure(
        self, labels: Sequence[str], truth: Sequence[TargetIndices], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """Measure accuracy."""
        found = [one.index for one in predictions if isinstance(one, ClassPrediction)]
        return {"accuracy": float(accuracy_score([target[0] for target in truth], found))}


def choice_logits(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """Lay the logits of each example's choices side by side.

    Args:
        logits: Float32 [rows, 1], a row a choice.
        counts: Choices of each example, summing to rows.

    Returns:
        float32 [examples, most choices]; minus infinity, which softmax turns to 0, where an example has
        fewer.
    """
    choices = list(torch.split(logits.squeeze(-1), list(counts)))
    return pad_sequence(choices, batch_first=True, padding_value=float("-inf"))
