"""Whole models in each precision: near to fp32, and the same answer alone and in any batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from masking import Base, LoadedTask, MaskedEncoder, TaskBatch, load_base, load_task
from masking.inference import ResidentWeights
from masking.kernels import Precision
from masking.kernels.cpu import lines
from masking.kernels.cpu.processor import lacks
from tests.masking.inference.test_encoder import SPECS, _features
from tests.masking.kernels.conftest import needs_kernels
from tests.support.kernels.cases import LINES, NARROW
from tests.support.models import ARCHITECTURES, random_bundle, tiny_base

pytestmark = needs_kernels

# Of the largest logit: scores of one task in two precisions.
FAR = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.05}
# Likewise: scores of one input alone and in a batch. Without bf16, attention is torch's.
NEAR = {"fp32": 1e-5, "bf16": 1e-5, "int8": 0.02 if lacks("bf16") else 1e-5}


def _tasks(base: Base, weights: ResidentWeights) -> list[LoadedTask]:
    specs = list(SPECS.values())
    return [
        load_task(random_bundle(base, specs[i % 4], task=f"t{i}", seed=i), base, weights) for i in range(8)
    ]


def _flat(answers: list[list[np.ndarray]]) -> np.ndarray:
    return np.concatenate([one.ravel() for answer in answers for one in answer])


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", LINES)
def test_logits_are_near_those_of_fp32(
    precision: Precision, architecture: str, pooler: bool, tmp_path: Path
) -> None:
    base, rng = load_base(tiny_base(tmp_path, architecture, pooler=pooler)), np.random.default_rng(0)
    weights, wide = ResidentWeights.of(base, precision), ResidentWeights(base.device)
    inputs = [_features(task, 3, rng) for task in _tasks(base, wide)]

    def logits(weights: ResidentWeights) -> np.ndarray:
        tasks = _tasks(base, weights)
        batch = [TaskBatch(task, features) for task, features in zip(tasks, inputs, strict=True)]
        return _flat(MaskedEncoder(base, weights).logits(batch))

    narrow, exact = logits(weights), logits(wide)
    difference = np.abs(narrow - exact).max()
    assert difference <= FAR[precision] * np.abs(exact).max()


@pytest.mark.parametrize("precision", ["fp32", *NARROW])
def test_an_answer_is_the_same_alone_and_in_any_batch(precision: Precision, tiny_bert: str) -> None:
    base, rng = load_base(tiny_bert), np.random.default_rng(1)
    weights = ResidentWeights.of(base, precision)
    encoder, tasks = MaskedEncoder(base, weights), _tasks(base, weights)
    pool = {number: _features(task, 4, rng) for number, task in enumerate(tasks)}
    alone = {
        (number, place): encoder.logits([TaskBatch(tasks[number], [item])])[0][0]
        for number, items in pool.items()
        for place, item in enumerate(items)
    }
    largest = max(float(np.abs(one).max()) for one in alone.values())
    for _ in range(12):
        numbers = rng.choice(len(tasks), rng.integers(1, len(tasks) + 1), replace=False)
        chosen = {int(number): rng.permutation(4)[: rng.integers(1, 5)] for number in numbers}
        batch = [TaskBatch(tasks[n], [pool[n][int(place)] for place in own]) for n, own in chosen.items()]
        for (number, own), answers in zip(chosen.items(), encoder.logits(batch), strict=True):
            for place, answer in zip(own, answers, strict=True):
                single = alone[number, int(place)]
                np.testing.assert_allclose(answer, single, rtol=0, atol=NEAR[precision] * largest)
                _same_label(answer, single, NEAR[precision] * largest)


def _same_label(answer: np.ndarray, single: np.ndarray, tie: float) -> None:
    """The best class is the same, where the second is not as good but for rounding."""
    ordered = np.sort(single, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > tie
    assert bool(((answer.argmax(-1) == single.argmax(-1)) | ~clear).all())


@pytest.mark.parametrize("precision", LINES)
def test_the_layers_are_counted_and_the_base_stays_as_it_was(precision: Precision, tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    before = {name: one.clone() for name, one in base.encoder.named_parameters()}
    weights = ResidentWeights.of(base, precision)
    MaskedEncoder(base, weights)
    assert all(torch.equal(before[name], one) for name, one in base.encoder.named_parameters())
    per_weight = {"fp32": 4, "bf16": 2, "int8": 1}[precision]
    linears = sum(one.rows * one.columns for one in weights.lines.values())
    assert per_weight * linears < weights.nbytes < 1.5 * per_weight * linears
    assert ResidentWeights(base.device).nbytes == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", LINES)
def test_a_base_that_let_go_of_its_layers_answers_alike(
    precision: Precision, architecture: str, tmp_path: Path
) -> None:
    base, rng = load_base(tiny_base(tmp_path, architecture)), np.random.default_rng(0)
    weights = ResidentWeights.of(base, precision)
    encoder, tasks = MaskedEncoder(base, weights), _tasks(base, weights)
    batch = [TaskBatch(task, _features(task, 2, rng)) for task in tasks]
    bundle = random_bundle(base, SPECS["text"], task="t0", seed=0)
    before, held = _flat(encoder.logits(batch)), base.nbytes
    weights.release(base)
    assert base.nbytes == held - sum(4 * one.rows * one.columns for one in weights.lines.values())
    np.testing.assert_array_equal(_flat(encoder.logits(batch)), before)
    again = load_task(bundle, base, weights)
    np.testing.assert_array_equal(
        encoder.logits([TaskBatch(again, batch[0].features)])[0][0], encoder.logits(batch[:1])[0][0]
    )


@pytest.mark.parametrize("precision", LINES)
def test_masks_of_another_precision_are_refused(precision: Precision, tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    task = load_task(random_bundle(base, SPECS["text"]), base)
    features = _features(task, 1, np.random.default_rng(0))
    encoder = MaskedEncoder(base, ResidentWeights.of(base, precision))
    with pytest.raises(ValueError, match="shape and precision"):
        encoder.logits([TaskBatch(task, features)])


def test_without_the_line_kernel_fp32_is_computed_on_the_base_itself(
    tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "available", lambda: False)
    assert not ResidentWeights.of(load_base(tiny_bert), "fp32").lines
