"""Registry of the kinds of task that training knows; a new kind is a line here."""

from collections.abc import Mapping

from mask_store import TaskKind
from training.kinds.embedding import Embedding
from training.kinds.kind import TrainingKind
from training.kinds.multi_label import MultiLabelClassification
from training.kinds.multiple_choice import MultipleChoice
from training.kinds.regression import Regression
from training.kinds.reranking import Reranking
from training.kinds.sequence_classification import SequenceClassification
from training.kinds.token_classification import TokenClassification

TRAINING_KINDS: Mapping[TaskKind, TrainingKind] = {
    kind.name: kind
    for kind in (
        SequenceClassification(),
        TokenClassification(),
        MultipleChoice(),
        MultiLabelClassification(),
        Regression(),
        Reranking(),
        Embedding(),
    )
}
