"""Sequence classification in training: a text or a pair of texts, and its label."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sklearn.metrics import accuracy_score, matthews_corrcoef

from masking import ClassPrediction, Prediction, TaskInput, TextInput
from training.kinds.fields import read_label, read_text
from training.kinds.kind import ColumnNames, Columns, Target, TargetIndices, TrainingKind


class SequenceClassification(TrainingKind):
    """One label for a text or for a pair of texts; see `TrainingKind`."""

    name = "sequence-classification"
    columns: ClassVar[ColumnNames] = {
        "text": ("text", "sentence"),
        "pair": ("text_pair",),
        "label": ("label",),
    }
    optional = frozenset({"pair"})

    def read(self, values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
        """Read a text, or two where there is a column of the second, and the label."""
        pair = read_text(values, columns["pair"]) if "pair" in columns else None
        return TextInput(read_text(values, columns["text"]), pair), read_label(values, columns["label"])

    def measure(
        self, labels: Sequence[str], truth: Sequence[TargetIndices], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """Measure accuracy and the Matthews correlation."""
        right = [target[0] for target in truth]
        found = [one.index for one in predictions if isinstance(one, ClassPrediction)]
        return {
            "accuracy": float(accuracy_score(right, found)),
            "matthews_correlation": float(matthews_corrcoef(right, found)),
        }
