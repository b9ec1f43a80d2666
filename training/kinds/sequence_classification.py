"""Sequence classification in training: a text or a pair of texts, and its label."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sklearn.metrics import accuracy_score, matthews_corrcoef

from masking import ClassPrediction, Prediction, TextInput
from training.kinds.fields import read_label, read_text
from training.kinds.kind import ColumnNames, Columns, Reading, TargetIndices, TrainingKind

# Names of the two texts of public sets of pairs. A text called "text" is one text, whatever else is there.
_PAIRS: tuple[Columns, ...] = (
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

    name = "sequence-classification"
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
        *_PAIRS,
    )

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a text, or two where there is a column of the second, and the label."""
        pair = read_text(values, columns["pair"]) if "pair" in columns else None
        text = TextInput(read_text(values, columns["text"]), pair)
        return Reading(text, read_label(values, columns["label"]))

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
