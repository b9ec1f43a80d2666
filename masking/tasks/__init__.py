"""Kinds of task: inputs to features (`encode`), logits to predictions (`decode`), and what the head is like.

Training and serving call the same code. What a new kind needs is listed in `kinds`.
"""

from masking.tasks.codec import InputLimits, ModelKind, TaskCodec, TaskSpec
from masking.tasks.entities import Entity, Span, TagScheme, entities_of, group_entities, tag_scheme
from masking.tasks.features import Features, Row, collate
from masking.tasks.inputs import ChoiceInput, TaskInput, TextInput, Word, WordsInput, split_words
from masking.tasks.kinds import MODEL_KINDS, head_activation, task_codec
from masking.tasks.predictions import (
    ClassPrediction,
    EmbeddingPrediction,
    LabelsPrediction,
    Prediction,
    ScoresPrediction,
    ValuesPrediction,
    WordsPrediction,
)
from masking.tasks.token_classification import WordsCodec

__all__ = [
    "MODEL_KINDS",
    "ChoiceInput",
    "ClassPrediction",
    "EmbeddingPrediction",
    "Entity",
    "Features",
    "InputLimits",
    "LabelsPrediction",
    "ModelKind",
    "Prediction",
    "Row",
    "ScoresPrediction",
    "Span",
    "TagScheme",
    "TaskCodec",
    "TaskInput",
    "TaskSpec",
    "TextInput",
    "ValuesPrediction",
    "Word",
    "WordsCodec",
    "WordsInput",
    "WordsPrediction",
    "collate",
    "entities_of",
    "group_entities",
    "head_activation",
    "split_words",
    "tag_scheme",
    "task_codec",
]
