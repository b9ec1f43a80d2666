"""Bezier curve between two models, the models between them learned (paper, figure 7 and appendix B).

The ends stay as they are. Each step draws one point of the curve, t ~ U(0, 1), and lowers the loss there, so
that in expectation the loss along the whole curve falls (Garipov et al. 2018). Bends are counted as the paper
does: the trainable models between the ends, so three bends have five control points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader
from tqdm import tqdm

from experiments.errors import ExperimentError
from experiments.interpolation.paths import Weights, blend, check_controls
from masking import TaskModel
from training.data.features import Batch, EncodedExample, make_batch
from training.kinds import TRAINING_KINDS
from training.loop.optimizer import adam
from training.options import Precision


@dataclass(frozen=True)
class CurveSettings:
    """How a curve is learned.

    Attributes:
        bends: Trainable models between the ends; at least 1.
        lr: Adam's learning rate on them.
        epochs: Passes over the examples.
        batch_size: Examples a step.
        seed: Seed of shuffling, t and dropout.
        precision: Arithmetic of the model; control points and optimizer are always fp32.
    """

    bends: int = 3
    lr: float = 5e-5
    epochs: int = 3
    batch_size: int = 32
    seed: int = 0
    precision: Precision = "fp32"


def learn_curve(
    ends: tuple[Weights, Weights],
    model: TaskModel,
    examples: Sequence[EncodedExample],
    settings: CurveSettings,
) -> list[Weights]:
    """Learn a curve that starts on the straight line between its ends.

    Args:
        ends: Weights of the two models, alike in names and shapes; not changed.
        model: A dense model of the same shape, for its arithmetic; its own weights are not used.
        examples: Training examples of the task.
        settings: See `CurveSettings`.

    Returns:
        All control points in order, the ends included.

    Raises:
        ExperimentError: There is nothing to learn, the ends are not alike, or the loss is no longer a number.
    """
    if settings.bends < 1:
        raise ExperimentError(f"a curve of {settings.bends} bends has no model to learn: 1 is the least")
    check_controls(ends)
    start, end = (_on(model.base.device, weights) for weights in ends)
    inner = [
        {name: nn.Parameter(tensor) for name, tensor in point.items()}
        for point in on_the_line((start, end), settings.bends)
    ]
    controls: list[Weights] = [start, *inner, end]
    optimizer = adam([parameter for control in inner for parameter in control.values()], settings.lr)
    loader = _loader(model, examples, settings)
    draw = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(), _bar(len(loader) * settings.epochs) as bar:
        torch.manual_seed(settings.seed)
        for _ in range(settings.epochs):
            for batch in loader:
                t = float(torch.rand((), generator=draw))
                loss = _loss(model, blend(controls, t), batch, settings.precision)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.set_postfix(t=f"{t:.2f}", loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    return [{name: tensor.detach() for name, tensor in control.items()} for control in controls]


def _on(device: torch.device, weights: Weights) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in weights.items()}


def on_the_line(ends: tuple[Weights, Weights], bends: int) -> list[dict[str, Tensor]]:
    """Return where the models between the ends start: at equal distances on the line."""
    return [blend(ends, step / (bends + 1)) for step in range(1, bends + 1)]


def _loader(
    model: TaskModel, examples: Sequence[EncodedExample], settings: CurveSettings
) -> DataLoader[EncodedExample]:
    return DataLoader(
        list(examples),  # type: ignore[arg-type]
        batch_size=settings.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(settings.seed),
        collate_fn=partial(make_batch, kind=model.spec.kind, tokenizer=model.base.tokenizer),
    )


def _loss(model: TaskModel, weights: dict[str, Tensor], batch: Batch, precision: Precision) -> Tensor:
    device = model.base.device
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = functional_call(model.train(), weights, (batch.inputs,))
    kind = TRAINING_KINDS[model.spec.kind]
    loss = kind.loss(logits.float(), batch.targets, batch.counts, batch.total)
    if not math.isfinite(loss.item()):
        raise ExperimentError("the loss on the curve is no longer a number: a lower learning rate is needed")
    return loss


def _bar(total: int) -> "tqdm[Any]":
    return tqdm(total=total, desc="curve", unit="batch", dynamic_ncols=True, disable=None)
