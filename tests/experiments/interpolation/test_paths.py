from pathlib import Path

import pytest
import torch

from experiments.common.runs import dense_model
from experiments.errors import ExperimentError
from experiments.interpolation.paths import (
    Examples,
    PathPoint,
    barrier,
    bernstein,
    blend,
    cross_entropy,
    drop,
    walk,
)
from mask_store import TaskKind
from tests.support.learning_data import tiny_options
from training.data.features import make_batch
from training.kinds import TRAINING_KINDS
from training.loop.evaluation import evaluate, predict
from training.runs.preparation import prepare


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_shares_add_up_and_leave_the_ends_alone(count: int, t: float) -> None:
    shares = bernstein(count, t)
    assert sum(shares) == pytest.approx(1.0)
    if t in (0.0, 1.0):
        assert shares == [float(t == 0.0), *[0.0] * (count - 2), float(t == 1.0)]


def test_the_middle_of_a_quadratic_curve() -> None:
    assert bernstein(3, 0.5) == [0.25, 0.5, 0.25]


def test_blend() -> None:
    controls = [{"w": torch.tensor([value])} for value in (0.0, 8.0, 4.0)]
    assert blend(controls[::2], 0.25)["w"].item() == 1.0
    assert blend(controls, 0.5)["w"].item() == 5.0
    assert torch.equal(blend(controls, 1.0)["w"], controls[2]["w"])


@pytest.mark.parametrize("kind", ["sequence-classification", "token-classification", "multiple-choice"])
def test_the_loss_is_that_of_learning(tmp_path: Path, tiny_bert: str, kind: TaskKind) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert, kind))
    model = dense_model(ready)
    examples = ready.encoded.dev
    batch = make_batch(examples, kind, ready.base.tokenizer)
    with torch.no_grad():
        logits = model(batch.inputs)
        expected = TRAINING_KINDS[kind].loss(logits, batch.targets, batch.counts, batch.total)
    predictions = predict(model, ready.codec, examples, max_rows=4)
    assert cross_entropy(predictions, examples) == pytest.approx(float(expected), rel=1e-5)


def test_a_walk_measures_its_ends_as_they_are(tmp_path: Path, tiny_bert: str) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    model = dense_model(ready)
    start = model.learned_state()
    end = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in start.items()}
    examples = Examples(ready.codec, ready.encoded.dev, "accuracy")
    there = walk((start, end), model, examples, 3)
    back = walk((end, start), model, examples, 3)
    assert [point.t for point in there] == [0.0, 0.5, 1.0]
    assert [point.loss for point in there] == pytest.approx([point.loss for point in reversed(back)])
    assert len({point.loss for point in there}) == 3
    measured = evaluate(dense_model(ready, end), ready.codec, ready.encoded.dev, max_rows=8)
    assert there[-1].value == measured["accuracy"]


def test_ends_of_different_shape(tmp_path: Path, tiny_bert: str) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    model = dense_model(ready)
    start = model.learned_state()
    other = {**start, "classifier.weight": torch.zeros(3, 32)}
    with pytest.raises(ExperimentError, match=r"different shape: classifier\.weight"):
        walk((start, other), model, Examples(ready.codec, ready.encoded.dev, "accuracy"), 2)


def test_how_far_a_path_leaves_its_ends() -> None:
    path = [PathPoint(0.0, 0.75, 0.5), PathPoint(0.5, 0.5, 1.5), PathPoint(1.0, 1.0, 0.25)]
    assert drop(path) == 0.25
    assert barrier(path) == 1.0
    assert drop(path[::2]) == barrier(path[::2]) == 0.0
