"""The masking method on a live model: load a frozen base, learn masks over it, run masks over it.

Implements Zhao et al., "Masking as an Efficient Alternative to Finetuning for Pretrained Language
Models" (EMNLP 2020). Does not read data sets, optimise, or speak HTTP.
"""

from masking.base import Base, Tokenizer, load_base
from masking.errors import (
    BaseLoadError,
    BaseMismatchError,
    BlockOutOfRangeError,
    EmptyInputError,
    InputTooLongError,
    MaskingError,
    TaskInputError,
    UnknownLayerError,
    UnsupportedArchitectureError,
)
from masking.inference import (
    LoadedTask,
    MaskedEncoder,
    Member,
    TaskBatch,
    load_task,
)
from masking.learning.masked_model import MaskedModel, MaskScores
from masking.learning.settings import MaskSettings
from masking.learning.task_model import FinetunedModel, TaskModel
from masking.tasks import (
    ChoiceInput,
    ClassPrediction,
    Entity,
    Features,
    Prediction,
    Row,
    TaskCodec,
    TaskInput,
    TaskSpec,
    TextInput,
    Word,
    WordsInput,
    WordsPrediction,
    collate,
    group_entities,
    split_words,
    task_codec,
)

__all__ = [
    "Base",
    "BaseLoadError",
    "BaseMismatchError",
    "BlockOutOfRangeError",
    "ChoiceInput",
    "ClassPrediction",
    "EmptyInputError",
    "Entity",
    "Features",
    "FinetunedModel",
    "InputTooLongError",
    "LoadedTask",
    "MaskScores",
    "MaskSettings",
    "MaskedEncoder",
    "MaskedModel",
    "MaskingError",
    "Member",
    "Prediction",
    "Row",
    "TaskBatch",
    "TaskCodec",
    "TaskInput",
    "TaskInputError",
    "TaskModel",
    "TaskSpec",
    "TextInput",
    "Tokenizer",
    "UnknownLayerError",
    "UnsupportedArchitectureError",
    "Word",
    "WordsInput",
    "WordsPrediction",
    "collate",
    "group_entities",
    "load_base",
    "load_task",
    "split_words",
    "task_codec",
]
