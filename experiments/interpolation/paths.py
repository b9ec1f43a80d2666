"""Paths between models in weight space: lines and Bezier curves, and what the models on them are worth.

A path is given by its control points: two make the straight line of the paper's figure 6, five the curve of
its figure 7, whose three inner points `experiments.interpolation.curve` learns. Nothing is learned here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import comb

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from experiments.errors import ExperimentError
from masking import Prediction, TaskCodec, TaskModel
from training.data.features import EncodedExample
from training.loop.evaluation import measure, predict

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class PathPoint:
    """One model on a path.

    Attributes:
        t: Where it stands, 0 at the start of the path, 1 at its end.
        value: Its metric.
        loss: Its mean cross entropy over examples (words, choices), in nats.
    """

    t: float
    value: float
    loss: float


@dataclass(frozen=True)
class Examples:
    """What models are measured by.

    Attributes:
        codec: The task's codec.
        items: The examples, at least one.
        metric: Name of the metric.
        max_rows: Rows of a batch at most.
    """

    codec: TaskCodec
    items: Sequence[EncodedExample]
    metric: str
    max_rows: int = 64


def bernstein(count: int, t: float) -> list[float]:
    """Return the share of each control point of a Bezier curve at `t`; they add up to 1.

    Args:
        count: Control points, the two ends included.
        t: Where on the curve, 0 to 1.
    """
    degree = count - 1
    return [comb(degree, k) * t**k * (1.0 - t) ** (degree - k) for k in range(count)]


def check_controls(controls: Sequence[Weights]) -> None:
    """Make sure that control points belong to models of one shape.

    Raises:
        ExperimentError: They don't.
    """
    first, *others = controls
    for other in others:
        odd = sorted(first.keys() ^ other.keys())
        odd += [name for name in first.keys() & other.keys() if first[name].shape != other[name].shape]
        if odd:
            raise ExperimentError(f"the ends of a path are models of different shape: {', '.join(odd[:3])}")


def blend(controls: Sequence[Weights], t: float) -> dict[str, Tensor]:
    """Return the weights at `t` on the Bezier curve of some control points; differentiable in each of them.

    Args:
        controls: At least two, alike in names and shapes.
        t: Where on the curve, 0 to 1.
    """
    shares = bernstein(len(controls), t)
    return {
        name: reduce(torch.add, [share * c[name] for share, c in zip(shares, controls, strict=True)])
        for name in controls[0]
    }


def walk(
    controls: Sequence[Weights], model: TaskModel, examples: Examples, count: int, *, label: str = ""
) -> tuple[PathPoint, ...]:
    """Measure models at equal distances along a path, both ends included.

    Args:
        controls: Control points of the path, at least two.
        model: A dense model of the same shape, whose weights are overwritten.
        examples: What to measure by.
        count: Models to measure, at least 2.
        label: What the progress bar says.

    Raises:
        ExperimentError: The control points are not alike.
    """
    check_controls(controls)
    points = []
    for step in tqdm(range(count), desc=label, unit="model", dynamic_ncols=True, disable=None):
        t = step / (count - 1)
        model.load_learned_state(blend(controls, t))
        predictions = predict(model, examples.codec, examples.items, max_rows=examples.max_rows)
        value = measure(examples.codec, examples.items, predictions)[examples.metric]
        points.append(PathPoint(t, value, cross_entropy(predictions, examples.items)))
    return tuple(points)


def cross_entropy(predictions: Sequence[Prediction], examples: Sequence[EncodedExample]) -> float:
    """Return the mean cross entropy of predictions, in nats.

    Args:
        predictions: One for each example.
        examples: The examples with the right answers.
    """
    losses = [
        functional.cross_entropy(
            torch.from_numpy(prediction.logits).reshape(len(example.target), -1),
            torch.tensor(example.target),
            reduction="none",
        )
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    return float(torch.cat(losses).mean())


def drop(path: Sequence[PathPoint]) -> float:
    """Return how far the metric falls along a path below the lower one of its ends; 0 if it does not."""
    return min(path[0].value, path[-1].value) - min(point.value for point in path)


def barrier(path: Sequence[PathPoint]) -> float:
    """Return how far the loss, in nats, rises above the higher one of a path's ends; 0 if it does not."""
    return max(point.loss for point in path) - max(path[0].loss, path[-1].loss)
