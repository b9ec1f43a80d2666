"""Encoders that whole-model benchmarks run on: random weights of a known shape, or real ones.

Times do not depend on the values of the weights, so random ones need no download. Their answers mean nothing.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import BertProcessing
from torch import nn
from transformers import AutoModel, BertConfig, PreTrainedModel, PreTrainedTokenizerFast

from masking import Base, MaskSettings, load_base

_PAD, _UNKNOWN, _BEGIN, _END, _POSITIONS = "[PAD]", "[UNK]", "[CLS]", "[SEP]", 512
_SETTINGS = MaskSettings()
_WORDS = tuple(first + second for first in "bdfgk" for second in "aeiou")


@dataclass(frozen=True)
class Shape:
    """Size of a BERT.

    Attributes:
        blocks: Transformer blocks.
        hidden: Width.
        heads: Attention heads.
        vocabulary: Tokens.
    """

    blocks: int
    hidden: int
    heads: int
    vocabulary: int = 30522


SHAPES = {
    "bert-base": Shape(12, 768, 12),
    "minilm": Shape(6, 384, 12),
    "tiny": Shape(3, 32, 2, vocabulary=100),
}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the encoder."""
    parser.add_argument("--shape", choices=SHAPES, default="bert-base", help="shape of a random encoder")
    parser.add_argument("--base", help="folder or hub id of a real encoder, instead of a random one")


def make_base(arguments: argparse.Namespace) -> Base:
    """Load or make the encoder that the arguments name."""
    return load_base(arguments.base) if arguments.base else random_base(arguments.shape)


def random_base(shape: str) -> Base:
    """Make a BERT with random weights and a pooler; always the same for a shape."""
    return Base.from_model(_encoder(shape), word_tokenizer(), name=f"random {shape}")


def save_random_base(shape: str, folder: Path) -> None:
    """Write the encoder of `random_base` to a folder in the hub's format, for a server to load."""
    _encoder(shape).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def _encoder(shape: str) -> PreTrainedModel:
    size = SHAPES[shape]
    torch.manual_seed(0)
    encoder: PreTrainedModel = AutoModel.from_config(
        BertConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            num_hidden_layers=size.blocks,
            num_attention_heads=size.heads,
            intermediate_size=4 * size.hidden,
            max_position_embeddings=_POSITIONS,
        )
    )
    return encoder


def random_text(words: int, generator: np.random.Generator) -> str:
    """Draw a text of so many words of `word_tokenizer`, each of which is a token."""
    return " ".join(generator.choice(_WORDS, words))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of a few words; most benchmarks make token ids themselves."""
    entries = (_PAD, _UNKNOWN, *_WORDS, _BEGIN, _END)
    vocabulary = {word: number for number, word in enumerate(entries)}
    words = Tokenizer(WordLevel(vocabulary, unk_token=_UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = BertProcessing((_END, vocabulary[_END]), (_BEGIN, vocabulary[_BEGIN]))
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        cls_token=_BEGIN,
        sep_token=_END,
        model_max_length=_POSITIONS,
    )


def masked_linears(base: Base, settings: MaskSettings = _SETTINGS) -> dict[str, nn.Linear]:
    """Return the encoder's linear layers that the tasks mask, by name; by default of blocks 2 to last."""
    return base.blocks.linears(base.encoder, settings.masked_blocks(base.num_blocks))


def describe_model(base: Base, arguments: argparse.Namespace) -> dict[str, object]:
    """Describe what was measured, for the report."""
    config = base.encoder.config
    return {
        "name": Path(base.info.name).name,
        "weights": "real" if arguments.base else "random: the shape is real, the answers mean nothing",
        "parameters": base.info.parameters,
        "blocks": base.num_blocks,
        "hidden": config.hidden_size,
        "dtype": "float32",
        "masked": f"blocks {MaskSettings().masked_blocks(base.num_blocks)}, pooler, classifier of 2 classes",
    }
