"""From real-valued scores to bits (paper, section 3, equations 2 and 3).

The one place where a score becomes a bit: training and export both call `keep`, so that no mask
differs from the one whose dev metric was measured. Nothing here knows of layers or models.
"""

from typing import Any

import torch
from torch import Tensor


def keep(scores: Tensor, threshold: float) -> Tensor:
    """The mask of `scores`: True where a score is at least `threshold` (equation 2).

    Args:
        scores: float32 tensor of any shape.
        threshold: tau.

    Returns:
        Boolean tensor of the same shape.
    """
    return scores >= threshold


class _StraightThrough(torch.autograd.Function):
    """Binarizer whose backward pass hands the gradient of the bits to the scores as it is (equation 3)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, threshold: float) -> Tensor:
        return keep(scores, threshold).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def binarize(scores: Tensor, threshold: float) -> Tensor:
    """Bits of `scores` as 0.0 and 1.0, differentiable by the straight-through estimator.

    The gradient of a score is the gradient of its bit: not clipped, not scaled.

    Args:
        scores: float32 tensor of any shape.
        threshold: tau.

    Returns:
        Tensor of the same shape and dtype, each element 0 or 1.
    """
    bits: Tensor = _StraightThrough.apply(scores, threshold)  # type: ignore[no-untyped-call]
    return bits


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """The Hadamard product W * M (equation 1) as a new tensor; `weight` is not written to.

    Args:
        weight: float32, [rows, columns].
        mask: The same shape, boolean or 0/1 in the weight's dtype; both give the same bits of result.

    Returns:
        float32, [rows, columns].
    """
    return weight * mask


def initial_scores(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Scores before learning, uniform in [low, high).

    Args:
        shape: Shape of the weight that the scores belong to.
        low: Lower end.
        high: Upper end.
        generator: CPU generator; the draws depend on its state alone, never on the device.

    Returns:
        float32 CPU tensor of `shape`.
    """
    return torch.empty(shape).uniform_(low, high, generator=generator)
