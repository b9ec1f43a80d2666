import pytest
import torch

from masking import MaskedEncoder, TaskBatch, TaskSpec, TextInput, load_base, load_task
from masking.inference import ResidentWeights
from masking.kernels import Kernels
from masking.kernels.cpu import launch as native
from tests.support.models import random_bundle

SPEC = TaskSpec("sequence-classification", ("bad", "good"), max_length=16)


def test_masks_take_one_bit_per_weight(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    masks = load_task(random_bundle(base, SPEC), base).members[0].masks
    weights = sum(rows * columns for rows, columns in (mask.shape for mask in masks.layers.values()))
    assert masks.nbytes == weights // 8


def test_with_kernels_off_the_logits_are_the_same_and_the_base_stays_as_it_was(
    tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base(tiny_bert)
    before = {name: linear.weight.clone() for name, linear in base.maskable_linears.items()}

    def logits(kernels: Kernels) -> object:
        weights = ResidentWeights.of(base, kernels=kernels)
        task = load_task(random_bundle(base, SPEC), base, weights)
        features = task.codec.encode([TextInput("the movie was good")], truncate=False)
        return MaskedEncoder(base, weights).logits([TaskBatch(task, features)])[0][0]

    def fail() -> None:
        raise AssertionError("a kernel was asked for")

    by_kernel = logits("auto")
    monkeypatch.setattr(native, "_kernels", fail)
    assert logits("off") == pytest.approx(by_kernel, rel=1e-5)
    assert all(torch.equal(base.maskable_linears[name].weight, weight) for name, weight in before.items())
