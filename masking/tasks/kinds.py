"""Registry of kinds of task.

A new kind: its file and line here, in `training/kinds` and `server/http/kinds`; its name in
`mask_store.TaskKind`; its reader in `maskserve/pipeline.py`.
"""

from collections.abc import Mapping

from mask_store import BitsInfo, HeadActivation, TaskKind
from masking.base import Tokenizer
from masking.tasks.codec import ModelKind, TaskCodec, TaskSpec
from masking.tasks.embedding import EMBEDDING
from masking.tasks.multiple_choice import MULTIPLE_CHOICE
from masking.tasks.sequence_classification import SEQUENCE_CLASSIFICATION
from masking.tasks.text_scores import MULTI_LABEL_CLASSIFICATION, REGRESSION, RERANKING
from masking.tasks.token_classification import TOKEN_CLASSIFICATION

MODEL_KINDS: Mapping[TaskKind, ModelKind] = {
    kind.name: kind
    for kind in (
        SEQUENCE_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        MULTIPLE_CHOICE,
        MULTI_LABEL_CLASSIFICATION,
        REGRESSION,
        RERANKING,
        EMBEDDING,
    )
}


def head_activation(kind: TaskKind, info: BitsInfo) -> HeadActivation | None:
    """Return what a task has between W_P and W_T; None where there is no W_P.

    Args:
        kind: Kind of task.
        info: What the manifest says of the bits.
    """
    return info.head_activation or ("tanh" if MODEL_KINDS[kind].pooled else None)


def task_codec(spec: TaskSpec, tokenizer: Tokenizer) -> TaskCodec:
    """Return the codec of a task.

    Args:
        spec: The task.
        tokenizer: The base's tokenizer.
    """
    return MODEL_KINDS[spec.kind].codec(spec, tokenizer)
