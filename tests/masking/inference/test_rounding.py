"""Layers that lose too much in 8 bits: found without a user's data, and computed in a wider precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from masking import Base, MaskedEncoder, TaskBatch, load_base
from masking.inference import ResidentWeights, resident
from masking.inference.rounding import LARGEST_ERROR, rounding_errors
from masking.inference.samples import sample_rows
from masking.kernels.cpu.processor import lacks
from masking.tasks.predictions import Floats
from tests.masking.inference.test_encoder import _features
from tests.masking.inference.test_precision import FAR, _flat, _tasks
from tests.masking.kernels.conftest import needs_kernels
from tests.support.models import ARCHITECTURES, tiny_base

pytestmark = [needs_kernels, pytest.mark.skipif(bool(lacks("int8")), reason=lacks("int8") or "can be run")]
needs_bf16 = pytest.mark.skipif(bool(lacks("bf16")), reason=lacks("bf16") or "can be run")

BLOCK = "encoder.layer.1"
OUTLYING = f"{BLOCK}.attention.output.dense"


def with_outlier(base: Base, factor: float = 1e3) -> Base:
    """Blow up one channel of the values, and divide where it is read: the function stays the same."""
    layers = base.blocks.linears(base.encoder, [1])
    value = layers[f"{BLOCK}.attention.self.value"]
    with torch.no_grad():
        value.weight[3] *= factor
        value.bias[3] *= factor
        layers[OUTLYING].weight[:, 3] /= factor
    return base


def largest_difference(base: Base, weights: ResidentWeights) -> float:
    """Of the logits of tasks of all kinds, over the largest one in fp32."""
    rng, wide = np.random.default_rng(0), ResidentWeights.of(base)
    inputs = [_features(task, 3, rng) for task in _tasks(base, wide)]

    def logits(weights: ResidentWeights) -> Floats:
        batch = [TaskBatch(task, one) for task, one in zip(_tasks(base, weights), inputs, strict=True)]
        flat: Floats = _flat(MaskedEncoder(base, weights).logits(batch))
        return flat

    exact = logits(wide)
    return float(np.abs(logits(weights) - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ordinary_layers_are_all_computed_in_8_bits(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, architecture))
    weights = ResidentWeights.of(base, "int8")
    errors = rounding_errors(base, weights.lines)
    assert len(errors) == 6 * base.num_blocks
    assert all(0 < error <= LARGEST_ERROR for error in errors.values())
    assert not weights.wider
    assert {one.precision for one in weights.lines.values()} == {"int8"}


@needs_bf16
def test_bf16_loses_less_than_8_bits(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    of_bf16, of_int8 = (
        rounding_errors(base, ResidentWeights.of(base, one).lines) for one in ("bf16", "int8")
    )
    assert all(2 * of_bf16[name] < error for name, error in of_int8.items())


def test_a_layer_with_an_outlier_is_kept_wider(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = with_outlier(load_base(tiny_bert))
    weights = ResidentWeights.of(base, "int8")
    assert weights.wider.keys() == {OUTLYING}
    assert weights.wider[OUTLYING] > LARGEST_ERROR
    assert weights.precision_of(OUTLYING) == ("fp32" if lacks("bf16") else "bf16")
    assert weights.precision_of(f"{BLOCK}.output.dense") == "int8"
    found = largest_difference(base, weights)
    monkeypatch.setattr(resident, "LARGEST_ERROR", np.inf)
    all_in_8_bits = largest_difference(base, ResidentWeights.of(base, "int8"))
    assert found <= FAR["int8"] < all_in_8_bits


@pytest.mark.parametrize("bf16", [pytest.param(True, marks=needs_bf16), False])
@pytest.mark.parametrize(
    "name", ["attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"]
)
def test_any_layer_may_be_kept_wider(
    name: str, bf16: bool, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, layer = load_base(tiny_bert), f"{BLOCK}.{name}"
    before = ResidentWeights.of(base, "int8")
    monkeypatch.setattr(
        resident, "rounding_errors", lambda *_: dict.fromkeys(before.lines, 0.0) | {layer: 1.0}
    )
    if not bf16:
        monkeypatch.setattr(resident, "lacks", lambda one: "another processor" if one == "bf16" else "")
    weights = ResidentWeights.of(base, "int8")
    assert weights.wider == {layer: 1.0}
    assert weights.precision_of(layer) == ("bf16" if bf16 else "fp32")
    assert weights.nbytes > before.nbytes
    assert 0 < largest_difference(base, weights) <= FAR["int8"]


def test_the_sample_is_of_the_vocabulary_and_always_the_same(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    rows = sample_rows(base)
    special = set(base.tokenizer.all_special_ids)
    for row in rows:
        assert (row.input_ids[0], row.input_ids[-1]) == (
            base.tokenizer.cls_token_id,
            base.tokenizer.sep_token_id,
        )
        assert special.isdisjoint(row.input_ids[1:-1].tolist())
        assert row.input_ids.max() < base.encoder.config.vocab_size
    assert rows == sample_rows(base)
    weights = ResidentWeights.of(base, "int8").lines
    assert rounding_errors(base, weights) == rounding_errors(base, weights)
    assert not any(module._forward_hooks for module in base.encoder.modules())
