"""What a task takes and gives: inputs to features (`encode`), logits to predictions (`decode`).

Both exist once, here; training and serving call the same code and can't drift apart. Knows nothing of
HTTP, of files, or of masks.
"""

from mask_store import TaskKind
from masking.base import Tokenizer
from masking.tasks.codec import TaskCodec
from masking.tasks.entities import Entity, group_entities
from masking.tasks.features import Features, Row, collate
from masking.tasks.inputs import ChoiceInput, TaskInput, TextInput, Word, WordsInput, split_words
from masking.tasks.multiple_choice import ChoiceCodec
from masking.tasks.predictions import ClassPrediction, Prediction, WordsPrediction
from masking.tasks.sequence_classification import SequenceCodec
from masking.tasks.spec import TaskSpec
from masking.tasks.token_classification import WordsCodec

_CODECS: dict[TaskKind, type[SequenceCodec] | type[WordsCodec] | type[ChoiceCodec]] = {
    "sequence-classification": SequenceCodec,
    "token-classification": WordsCodec,
    "multiple-choice": ChoiceCodec,
}


def task_codec(spec: TaskSpec, tokenizer: Tokenizer) -> TaskCodec:
    """The codec for a task's kind."""
    return _CODECS[spec.kind](spec, tokenizer)


__all__ = [
    "ChoiceInput",
    "ClassPrediction",
    "Entity",
    "Features",
    "Prediction",
    "Row",
    "TaskCodec",
    "TaskInput",
    "TaskSpec",
    "TextInput",
    "Word",
    "WordsInput",
    "WordsPrediction",
    "collate",
    "group_entities",
    "split_words",
    "task_codec",
]
