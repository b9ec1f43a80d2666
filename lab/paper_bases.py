"""The paper's bases by shape alone, for what is counted: their weights are neither downloaded nor read."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from mask_store import BaseInfo
from masking import Base, load_base

_CONFIGS: dict[str, PretrainedConfig] = {
    "bert-base-uncased": BertConfig(),
    "roberta-base": RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "distilbert-base-uncased": DistilBertConfig(),
}


def base_of_shape(name: str) -> Base:
    """A base whose tensors have the right shapes and no values, for a base of the paper; any other is loaded.

    Args:
        name: ``bert-base-uncased``, ``roberta-base``, ``distilbert-base-uncased``, or what `load_base` takes.

    Raises:
        MaskingError: it is no base of the paper, and can't be loaded.
    """
    if name not in _CONFIGS:
        return load_base(name)
    with torch.device("meta"):
        encoder = AutoModel.from_config(_CONFIGS[name])
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    pooler = getattr(encoder, "pooler", None)
    encoder.pooler = None
    info = BaseInfo(
        name=name,
        revision=None,
        architecture=encoder.config.model_type,
        fingerprint=f"sha256:{'0' * 64}",
        parameters=parameters,
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({}, unk_token="[UNK]")))
    return Base(encoder, pooler and pooler.dense, tokenizer, info)
