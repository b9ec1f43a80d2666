"""Sequence classification in training: a text or a pair of texts, and its label."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from mask_store import TaskKind
from masking import ClassPrediction, Prediction, TaskInput, TextInput
from training.errors import OptionsError
from training.kinds.fields import read_label, read_text
from training.kinds.kind import Baseline, ColumnNames, Columns, Reading, TargetNumbers, TrainingKind
from training.options import Metric

_TWO = 2

# Names of the two texts of public sets of pairs. A text called "text" is one text, whatever else is there.
PAIRS: tuple[Columns, ...] = (
    {"text": "sentence1", "pair": "sentence2"},
    {"text": "premise", "pair": "hypothesis"},
    {"text": "question1", "pair": "question2"},
    {"text": "question", "pair": "sentence"},
    {"text": "query", "pair": "passage"},
    {"text": "query", "pair": "document"},
    {"text": "question", "pair": "passage"},
    {"text": "question", "pair": "context"},
    {"text": "question", "pair": "answer"},
    {"text": "text1", "pair": "text2"},
    {"text": "text_a", "pair": "text_b"},
    {"text": "sentence_a", "pair": "sentence_b"},
    {"text": "claim", "pair": "evidence"},
    {"text": "#1 String", "pair": "#2 String"},
)


class SequenceClassification(TrainingKind):
    """One label for a text or for a pair of texts; see `TrainingKind`."""

    name: ClassVar[TaskKind] = "sequence-classification"
    columns: ClassVar[ColumnNames] = {
        "text": ("text", "sentence", "content", "review", "tweet"),
        "pair": (),
        "label": (
            "label",
            "labels",
            "gold_label",
            "class",
            "category",
            "intent",
            "sentiment",
            "is_duplicate",
        ),
    }
    optional = frozenset({"pair"})
    together: ClassVar[tuple[Columns, ...]] = (
        {"text": "text", "pair": "text_pair"},
        {"text": "sentence", "pair": "text_pair"},
        {"text": "text"},
        *PAIRS,
    )

    def read_input(self, values: Mapping[str, object], columns: Columns) -> TextInput:
        """Read a text, or two where there is a column of the second."""
        return read_texts(values, columns)

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a text, or two where there is a column of the second, and the label."""
        return Reading(self.read_input(values, columns), read_label(values, columns["label"]))

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure accuracy, the Matthews correlation, mean F1 of the labels, and of two the second's F1."""
        right = [target[0] for target in truth]
        found = [one.index for one in predictions if isinstance(one, ClassPrediction)]
        every, numbers = range(len(labels)), {"y_true": right, "y_pred": found, "zero_division": 0}
        metrics = {
            "accuracy": float(accuracy_score(right, found)),
            "matthews_correlation": float(matthews_corrcoef(right, found)),
            "f1_macro": float(f1_score(**numbers, labels=every, average="macro")),
        }
        if len(labels) == _TWO:
            metrics["f1"] = float(f1_score(**numbers, labels=every, pos_label=1))
        return metrics

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
        """Tell what the most frequent label reaches; for F1 of two labels, the second; see `TrainingKind`."""
        share = [sum(target[0] == index for target in truth) / len(truth) for index in range(len(labels))]
        best = 1 if metric == "f1" else max(range(len(labels)), key=share.__getitem__)
        f1 = 2 * share[best] / (1 + share[best])
        values = {"accuracy": share[best], "f1": f1, "f1_macro": f1 / len(labels)}
        return Baseline(values.get(metric, 0.0), f"{labels[best]!r} for everything")

    def choose_metric(
        self, labels: Sequence[str], wanted: Metric | None, columns: Columns | None = None
    ) -> Metric:
        """Make sure that F1 is asked for of two labels only; see `TrainingKind`.

        Raises:
            OptionsError: There are not two labels.
        """
        if wanted == "f1" and len(labels) != _TWO:
            raise OptionsError([f"--metric f1 is of two labels, found {len(labels)}; f1_macro is of any"])
        return super().choose_metric(labels, wanted, columns)


def read_texts(values: Mapping[str, object], columns: Columns) -> TextInput:
    """Read a text, or two where there is a column of the second.

    Raises:
        UnusableRowError: One is missing, blank, or not a text.
    """
    pair = read_text(values, columns["pair"]) if "pair" in columns else None
    return TextInput(read_text(values, columns["text"]), pair)
