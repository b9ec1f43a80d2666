from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, DistilBertConfig

from masking import BlockOutOfRangeError, UnknownLayerError, UnsupportedArchitectureError, load_base
from masking.architectures import block_layers, choose_blocks, count_blocks, find_linear, layer_names
from tests.support.models import ARCHITECTURES, tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_of_a_block_is_named(architecture: str, tmp_path: Path) -> None:
    encoder = load_base(tiny_base(tmp_path, architecture)).encoder
    named = block_layers(encoder, architecture, range(3))
    there = {
        name
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layer." in name
    }
    assert set(named) == there
    assert len(named) == 18
    assert count_blocks(encoder, architecture) == 3


def _bits(encoder: torch.nn.Module, architecture: str, blocks: range) -> int:
    names = block_layers(encoder, architecture, blocks)
    return sum(find_linear(encoder, name).weight.numel() for name in names)


def test_golden_numbers_of_the_paper() -> None:
    with torch.device("meta"):
        bert = AutoModel.from_config(BertConfig())
        distilbert = AutoModel.from_config(DistilBertConfig())
    pooler = 768 * 768
    assert _bits(bert, "bert", range(2, 12)) + pooler == 71_368_704 == 8_921_088 * 8
    assert _bits(bert, "bert", range(12)) + pooler == 85_524_480
    assert _bits(distilbert, "distilbert", range(2, 6)) + pooler == 28_901_376 == 3_612_672 * 8
    parameters = sum(p.numel() for p in bert.parameters())
    assert parameters == 109_482_240
    assert parameters * 4 == 437_928_960


def test_unsupported_architecture_lists_those_supported() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'gpt2'.*bert.*roberta"):
        layer_names("gpt2")


def test_blocks_default_to_the_third_and_up() -> None:
    assert choose_blocks(None, 12) == tuple(range(2, 12))
    assert choose_blocks((5, 3, 3), 12) == (3, 5)


@pytest.mark.parametrize(
    ("wanted", "available", "said"),
    [((12,), 12, "0 to 11"), ((-1,), 12, "0 to 11"), (None, 2, "no block to mask")],
)
def test_blocks_outside_the_encoder(wanted: tuple[int, ...] | None, available: int, said: str) -> None:
    with pytest.raises(BlockOutOfRangeError, match=said):
        choose_blocks(wanted, available)


def test_unknown_layer_lists_what_there_is(tiny_bert: str) -> None:
    with pytest.raises(UnknownLayerError, match=r"encoder\.layer\.0\.attention\.self\.query"):
        find_linear(load_base(tiny_bert).encoder, "encoder.layer.0.attention.query")
    assert AutoConfig.from_pretrained(tiny_bert).model_type == "bert"
