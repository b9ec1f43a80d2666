from pathlib import Path

import pytest
import torch

from lab.paper_bases import base_of_shape
from masking import Base, MaskedModel, MaskSettings, TaskSpec, UnknownLayerError, load_base
from masking.architectures import LAYER_NAMES, find_blocks, layer_names
from masking.architectures.probe import probe
from masking.errors import UnsupportedArchitectureError
from masking.heads import CLASSIFIER
from tests.support.models import ARCHITECTURES, LATER, tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_of_a_block_is_named(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, architecture))
    there = {
        name
        for name, module in base.encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layer." in name
    }
    assert set(base.blocks.linears(base.encoder)) == there
    assert len(there) == 18
    assert len(base.blocks) == 3


@pytest.mark.parametrize("architecture", LAYER_NAMES)
def test_the_rule_finds_what_the_rows_name(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, architecture))
    found = probe(base.encoder)
    assert base.blocks.known == LAYER_NAMES[architecture]
    assert (found.path, found.layers) == (base.blocks.path, base.blocks.layers)
    assert sorted(found.norms) == sorted(base.blocks.norms)
    assert (found.unmasked, found.passes) == ({}, base.blocks.passes)


def test_tests_have_a_model_of_every_architecture_with_a_row() -> None:
    assert LAYER_NAMES.keys() <= {*ARCHITECTURES, *LATER}


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


def test_a_row_that_does_not_fit_is_not_used(tiny_bert: str) -> None:
    encoder = load_base(tiny_bert).encoder
    encoder.get_submodule("encoder.layer.1").add_module("adapter", torch.nn.Linear(32, 32))
    blocks = find_blocks(encoder)
    assert blocks.known is None
    assert blocks.unmasked == {"encoder.layer.1.adapter": "not computed"}
    assert blocks.layers == load_base(tiny_bert).blocks.layers


def test_what_is_masked_is_told_in_a_line(tmp_path: Path) -> None:
    deberta = load_base(tiny_base(tmp_path / "deberta", "deberta-v2")).blocks
    assert deberta.describe() == (
        "3 blocks (encoder.layer), masked in each: attention.self.value_proj, attention.output.dense, "
        "intermediate.dense, output.dense; not masked: attention.self.query_proj, attention.self.key_proj "
        "(not computed on tokens alone)"
    )
    albert = load_base(tiny_base(tmp_path / "albert", "albert")).blocks
    assert albert.describe().startswith("1 block (encoder.albert_layer_groups), computed 3 times, masked in")


def test_names_are_those_of_the_papers_six_layers() -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'gpt2' have no names.*bert.*roberta"):
        layer_names("gpt2")


def test_blocks_of_another_encoder_are_refused(tiny_bert: str, tmp_path: Path) -> None:
    blocks = load_base(tiny_base(tmp_path, "distilbert")).blocks
    with pytest.raises(UnknownLayerError, match=r"encoder\.layer\.0\.attention\.self\.query"):
        blocks.linears(load_base(tiny_bert).encoder, [0])
