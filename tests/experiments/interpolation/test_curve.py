from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from experiments.common.runs import dense_model
from experiments.errors import ExperimentError
from experiments.interpolation.curve import CurveSettings, learn_curve, on_the_line
from experiments.interpolation.paths import Examples, Weights, walk
from masking import TaskModel
from tests.support.learning_data import tiny_options
from training.runs.preparation import Preparation, prepare

_SETTINGS = CurveSettings(lr=5e-3, epochs=8, batch_size=8)


def _ends(folder: Path, base: str) -> tuple[Preparation, TaskModel, tuple[Weights, Weights]]:
    """Two models far apart, neither of which has learned anything."""
    ready = prepare(tiny_options(folder, base))
    model = dense_model(ready)
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        ends.append({name: t + 0.02 * torch.randn_like(t) for name, t in model.learned_state().items()})
    return ready, model, (ends[0], ends[1])


@pytest.mark.parametrize("bends", [1, 3])
def test_the_curve_is_better_than_the_line_and_ends_where_it_did(
    tmp_path: Path, tiny_bert: str, bends: int
) -> None:
    ready, model, ends = _ends(tmp_path, tiny_bert)
    kept = [{name: tensor.clone() for name, tensor in end.items()} for end in ends]
    curve = learn_curve(ends, model, ready.encoded.train, replace(_SETTINGS, bends=bends))
    assert len(curve) == bends + 2
    for inner, start in zip(curve[1:-1], on_the_line(ends, bends), strict=True):
        assert not torch.equal(inner["classifier.weight"], start["classifier.weight"])
    for end, before, own in zip(ends, kept, (curve[0], curve[-1]), strict=True):
        assert all(torch.equal(end[name], before[name]) for name in before)
        assert all(torch.equal(own[name], before[name]) for name in before)
    train = Examples(ready.codec, ready.encoded.train, "accuracy")
    line_loss, curve_loss = (fmean(p.loss for p in walk(path, model, train, 5)) for path in (ends, curve))
    assert curve_loss < line_loss - 0.05


def test_the_seed_decides_and_nothing_else_is_drawn(tmp_path: Path, tiny_bert: str) -> None:
    ready, model, ends = _ends(tmp_path, tiny_bert)
    before, settings = torch.get_rng_state(), replace(_SETTINGS, epochs=1)
    first = learn_curve(ends, model, ready.encoded.train, settings)[1]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(7)
    again = learn_curve(ends, model, ready.encoded.train, settings)[1]
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = learn_curve(ends, model, ready.encoded.train, replace(settings, seed=1))[1]
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_bf16_learns_in_fp32(tmp_path: Path, tiny_bert: str) -> None:
    ready, model, ends = _ends(tmp_path, tiny_bert)
    settings = replace(_SETTINGS, epochs=1, precision="bf16")
    curve = learn_curve(ends, model, ready.encoded.train, settings)
    assert {tensor.dtype for tensor in curve[1].values()} == {torch.float32}


def test_no_bend_is_a_line(tmp_path: Path, tiny_bert: str) -> None:
    ready, model, ends = _ends(tmp_path, tiny_bert)
    with pytest.raises(ExperimentError, match="a curve of 0 bends has no model to learn"):
        learn_curve(ends, model, ready.encoded.train, replace(_SETTINGS, bends=0))


def test_a_loss_that_is_no_number(tmp_path: Path, tiny_bert: str) -> None:
    ready, model, (start, end) = _ends(tmp_path, tiny_bert)
    broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in end.items()}
    with pytest.raises(ExperimentError, match="no longer a number"):
        learn_curve((start, broken), model, ready.encoded.train, _SETTINGS)
