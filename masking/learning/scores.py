"""Scores of a mask that is learned: initial values, and the weight that they mask (paper, section 3.2)."""

from typing import Any

import torch
from torch import Tensor

from masking.binarize import keep


class _MaskedWeight(torch.autograd.Function):
    """W * M from the scores of M, which get the gradient of their bits as it is (paper, equation 2).

    One function in place of compare, convert and multiply, so that only W, which is resident anyway, is kept
    for the backward pass, and the bits are made in the memory that the product then takes.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(weight)
        return keep(scores, threshold, out=torch.empty_like(weight)).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return None, gradients[0] * weight, None


def masked_weight(weight: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return W * M of the present scores, differentiable in them by the straight-through estimator.

    The gradient of a score is the gradient of its bit, that of the product times W: not clipped, not scaled.

    Args:
        weight: float32, [rows, columns]; frozen: it gets no gradient, and is not written to.
        scores: float32, the same shape.
        threshold: tau.

    Returns:
        float32, [rows, columns]: bit for bit what `apply_mask` makes of the weight and `keep` of the scores.
    """
    masked: Tensor = _MaskedWeight.apply(weight, scores, threshold)  # type: ignore[no-untyped-call]
    return masked


def initial_scores(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw scores before learning, uniform in [low, high).

    Args:
        shape: Shape of the weight that the scores belong to.
        low: Lower end.
        high: Upper end.
        generator: CPU generator; the draws depend on its state alone, never on the device.

    Returns:
        float32 CPU tensor of `shape`.
    """
    return torch.empty(shape).uniform_(low, high, generator=generator)
