"""Heads of transformers' models: where each architecture keeps the pooler and the classifier, if any.

One row for each kind of task and architecture; to support another architecture, add its rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mask_store import HeadActivation, TaskKind
from masking.errors import UnsupportedArchitectureError

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
        activation_setting: The field of the configuration that names the activation, where there is one.
        settings: Fields of the configuration with which the head is computed like a task's.
        exported: Fields of an exported configuration, for a head that has all that a task's has.
        norm: Module path of the LayerNorm after the activation, which a task's classifier takes in.
    """

    classifier: str | None
    pooler: str | None = None
    activation: HeadActivation | None = None
    activation_setting: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    exported: Mapping[str, bool] = field(default_factory=dict)
    norm: str | None = None


_BERT = HeadNames("classifier", "{encoder}.pooler.dense", "tanh")
_ROBERTA = HeadNames("classifier.out_proj", "classifier.dense", "tanh")
_DISTILBERT = HeadNames("classifier", "pre_classifier", "relu")
_DEBERTA = HeadNames("classifier", "pooler.dense", "gelu", activation_setting="pooler_hidden_act")
_ALBERT = HeadNames("classifier", "{encoder}.pooler", "tanh")
_MODERNBERT = HeadNames(
    "classifier",
    "head.dense",
    "gelu-norm",
    settings={"classifier_pooling": "cls", "classifier_activation": "gelu"},
    exported={"classifier_bias": True},
    norm="head.norm",
)
_ON_TOKENS = {"modernbert": replace(_MODERNBERT, settings={"classifier_activation": "gelu"})}
"""Of these a token classifier has a whole head on each token."""
_SEQUENCE = {
    "bert": _BERT,
    "ernie": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "mpnet": _ROBERTA,
    "electra": HeadNames("classifier.out_proj", "classifier.dense", "gelu"),
    "distilbert": _DISTILBERT,
    "albert": _ALBERT,
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
    "eurobert": HeadNames("classifier", "dense", "gelu", settings={"classifier_pooling": "bos"}),
    "gte": _BERT,
    "modernbert": _MODERNBERT,
    "nomic_bert": _BERT,
}
_SUMMARY = {"summary_type": "first", "summary_activation": "gelu"}
_CHOICE = {
    **dict.fromkeys(
        ("bert", "ernie", "roberta", "xlm-roberta", "camembert", "data2vec-text", "mpnet"), _BERT
    ),
    "electra": HeadNames("classifier", "sequence_summary.summary", "gelu", settings=_SUMMARY),
    "distilbert": _DISTILBERT,
    "albert": _ALBERT,
    "deberta-v2": _DEBERTA,
    "modernbert": _MODERNBERT,
}


def auto_class(kind: TaskKind) -> str:
    """Return the name of the class of transformers that makes models of a kind of task."""
    return f"AutoModel{CLASSES.get(kind, '')}"


def learned_activation(architecture: str, kind: TaskKind) -> HeadActivation | None:
    """Return what a learned head has between W_P and W_T, so that transformers has a class for it.

    Args:
        architecture: The Hugging Face `model_type`.
        kind: Kind of task.

    Returns:
        What the architecture's own class has; None for tanh, the paper's, where that has it, or takes it from
        its configuration, or is not known. Of token classification None is a head without W_P.
    """
    try:
        own = head_names(architecture, "", kind)
    except UnsupportedArchitectureError:
        return None
    return None if own.activation_setting is not None or own.activation == "tanh" else own.activation


def head_names(architecture: str, prefix: str, kind: TaskKind) -> HeadNames:
    """Return where a model of transformers has its head.

    Args:
        architecture: The Hugging Face `model_type`.
        prefix: Module path of the encoder in the model.
        kind: Kind of task.

    Raises:
        UnsupportedArchitectureError: No head of such a classifier is known that a task can have.
    """
    if kind == "embedding":
        return HeadNames(None)
    found = (_CHOICE if kind == "multiple-choice" else _SEQUENCE).get(architecture)
    if kind == "token-classification" and found is not None:
        found = _ON_TOKENS.get(architecture, HeadNames("classifier"))
    if found is None:
        raise UnsupportedArchitectureError(
            f"transformers' {architecture!r} {CLASSES[kind]} has a head that no task has, or there is none"
        )
    pooler = None if found.pooler is None else found.pooler.format(encoder=prefix)
    return replace(found, pooler=pooler)
