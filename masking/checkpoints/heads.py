"""Heads of transformers' models: where each architecture keeps the pooler and the classifier, if any.

One row for each kind of task and architecture; to support another architecture, add its rows.
"""

from dataclasses import dataclass
from typing import Literal

from mask_store import HeadActivation, TaskKind
from masking.architectures import layer_names

CLASSES: dict[TaskKind, str] = {
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "multiple-choice": "ForMultipleChoice",
    "multi-label-classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "reranking": "ForSequenceClassification",
}
"""How the names of transformers' classifiers end, by kind of task."""
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEM_TYPES: dict[TaskKind, ProblemType] = {
    "sequence-classification": "single_label_classification",
    "multi-label-classification": "multi_label_classification",
    "regression": "regression",
}
"""What `problem_type` tells apart; reranking has one label and none."""


@dataclass(frozen=True)
class HeadNames:
    """The linear layers of a head.

    Attributes:
        classifier: Module path of W_T in the model; None where there is no head.
        pooler: Module path of W_P in the model; None where it is not used.
        activation: After W_P.
    """

    classifier: str | None
    pooler: str | None = None
    activation: HeadActivation | None = None


_ROBERTA = HeadNames("classifier.out_proj", "classifier.dense", "tanh")
_DISTILBERT = HeadNames("classifier", "pre_classifier", "relu")
_SEQUENCE = {
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "mpnet": _ROBERTA,
    "electra": HeadNames("classifier.out_proj", "classifier.dense", "gelu"),
    "distilbert": _DISTILBERT,
}
_CHOICE = {
    "electra": HeadNames("classifier", "sequence_summary.summary", "gelu"),
    "distilbert": _DISTILBERT,
}


def auto_class(kind: TaskKind) -> str:
    """Return the name of the class of transformers that makes models of a kind of task."""
    return f"AutoModel{CLASSES.get(kind, '')}"


def head_names(architecture: str, prefix: str, kind: TaskKind) -> HeadNames:
    """Return where a model of transformers has its head.

    Args:
        architecture: The Hugging Face `model_type`.
        prefix: Module path of the encoder in the model.
        kind: Kind of task.

    Raises:
        UnsupportedArchitectureError: The architecture has no row in `masking.architectures`.
    """
    layer_names(architecture)
    if kind == "embedding":
        return HeadNames(None)
    if kind == "token-classification":
        return HeadNames("classifier")
    own = _CHOICE if kind == "multiple-choice" else _SEQUENCE
    return own.get(architecture, HeadNames("classifier", f"{prefix}.pooler.dense", "tanh"))
