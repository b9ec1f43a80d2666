"""Kinds over HTTP: what each kind of task takes, how it is answered, and its tensors."""

from collections.abc import Mapping

from mask_store import TaskKind
from masking import TaskSpec
from server.http.kinds.embedding import Embedding
from server.http.kinds.kind import HttpKind
from server.http.kinds.multiple_choice import MultipleChoice
from server.http.kinds.sequence_classification import SequenceClassification
from server.http.kinds.text_scores import MultiLabelClassification, Regression, Reranking
from server.http.kinds.token_classification import TokenClassification

_KINDS: Mapping[TaskKind, type[HttpKind]] = {
    "sequence-classification": SequenceClassification,
    "token-classification": TokenClassification,
    "multiple-choice": MultipleChoice,
    "multi-label-classification": MultiLabelClassification,
    "regression": Regression,
    "reranking": Reranking,
    "embedding": Embedding,
}


def http_kind(spec: TaskSpec) -> HttpKind:
    """Return the kind of a task."""
    return _KINDS[spec.kind](spec)


__all__ = ["HttpKind", "http_kind"]
