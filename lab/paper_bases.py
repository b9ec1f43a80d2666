"""Bases of the paper by shape alone, for what is counted: their weights are neither downloaded nor read."""

import torch
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from lab.random_models import word_tokenizer
from masking import Base, load_base

_CONFIGS: dict[str, PretrainedConfig] = {
    "bert-base-uncased": BertConfig(),
    "roberta-base": RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "distilbert-base-uncased": DistilBertConfig(),
}


def base_of_shape(name: str) -> Base:
    """Make a base of the paper whose tensors have shapes and no values; load any other.

    Args:
        name: ``bert-base-uncased``, ``roberta-base``, ``distilbert-base-uncased``, or what `load_base` takes.

    Raises:
        MaskingError: It is not a base of the paper and can't be loaded.
    """
    if name not in _CONFIGS:
        return load_base(name)
    with torch.device("meta"):
        encoder = AutoModel.from_config(_CONFIGS[name])
    return Base.from_model(encoder, word_tokenizer(), name=name)
