from pathlib import Path

import pytest
import torch

from lab.paper_bases import base_of_shape
from masking import (
    Base,
    MaskedModel,
    MaskSettings,
    TaskSpec,
    UnknownLayerError,
    UnsupportedArchitectureError,
    load_base,
)
from masking.architectures import block_linears, count_blocks, layer_names
from masking.heads import CLASSIFIER
from tests.support.models import ARCHITECTURES, tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_of_a_block_is_named(architecture: str, tmp_path: Path) -> None:
    encoder = load_base(tiny_base(tmp_path, architecture)).encoder
    named = block_linears(encoder, architecture, range(3))
    there = {
        name
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layer." in name
    }
    assert set(named) == there
    assert len(named) == 18
    assert count_blocks(encoder, architecture) == 3


def _bits(base: Base, blocks: str) -> int:
    """Bits of the masked layers and the pooler, without the classifier."""
    spec = TaskSpec("sequence-classification", ("no", "yes"), max_length=64)
    masks = MaskedModel.create(base, spec, MaskSettings(blocks=blocks), seed=0).masks
    return sum(mask.scores.numel() for name, mask in masks.items() if name != CLASSIFIER)


def test_golden_numbers_of_the_paper() -> None:
    bert = base_of_shape("bert-base-uncased")
    assert _bits(bert, "2-") == 71_368_704 == 8_921_088 * 8
    assert _bits(bert, "0-") == 85_524_480
    assert _bits(base_of_shape("distilbert-base-uncased"), "2-") == 28_901_376 == 3_612_672 * 8
    assert bert.info.parameters == 109_482_240
    assert 4 * bert.info.parameters == 437_928_960


def test_unsupported_architecture_lists_those_supported() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'gpt2'.*bert.*roberta"):
        layer_names("gpt2")


def test_unknown_layer_lists_what_there_is(tiny_bert: str) -> None:
    with pytest.raises(UnknownLayerError, match=r"encoder\.layer\.0\.attention\.self\.query"):
        block_linears(load_base(tiny_bert).encoder, "distilbert", [0])
