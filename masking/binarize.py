"""From real-valued scores to bits (paper, section 3, equations 2 and 3).

The one place where a score becomes a bit: training and export both call `keep`, so that no mask
differs from the one whose dev metric was measured. Nothing here knows of layers or models.
"""

from typing import Any

import torch
from torch import Tensor


def keep(scores: Tensor, threshold: float, out: Tensor | None = None) -> Tensor:
    """The mask of `scores`: True where a score is at least `threshold` (equation 2).

    Args:
        scores: float32 tensor of any shape.
        threshold: tau.
        out: Tensor of the same shape to write the mask to, in its own dtype: as 0.0 and 1.0 in a float's.

    Returns:
        `out`, or a new boolean tensor of the same shape.
    """
    return torch.ge(scores, threshold, out=out)


class _MaskedWeight(torch.autograd.Function):
    """W * M from the scores of M, which get the gradient of their bits: as it is (equation 3), or tempered.

    One function in place of compare, convert and multiply, so that only W and, where tempered, the scores,
    all resident anyway, are kept for the backward pass, and the bits are made in the memory that the product
    then takes.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scores: Tensor, threshold: float, temperature: float | None
    ) -> Tensor:
        ctx.threshold, ctx.temperature = threshold, temperature
        ctx.save_for_backward(weight, *([] if temperature is None else [scores]))
        return keep(scores, threshold, out=torch.empty_like(weight)).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        weight, *scores = ctx.saved_tensors
        gradient = gradients[0] * weight
        if scores:
            gradient.mul_(_sigmoid_slope(scores[0], ctx.threshold, ctx.temperature))
        return None, gradient, None, None


def masked_weight(
    weight: Tensor, scores: Tensor, threshold: float, temperature: float | None = None
) -> Tensor:
    """W * M of the present scores, differentiable in them by the straight-through estimator.

    The gradient of a score is the gradient of its bit, that of the product times W: not clipped, and not
    scaled unless a temperature is given. Then it is also times 4 s (1 - s), the slope of
    s = sigmoid((score - tau) / temperature): 1 at the threshold, and the less the farther a score is from it.

    Args:
        weight: float32, [rows, columns]; frozen: it gets no gradient, and is not written to.
        scores: float32, the same shape.
        threshold: tau.
        temperature: Width of the sigmoid, in units of scores; None for no scaling (the paper).

    Returns:
        float32, [rows, columns]: bit for bit what `apply_mask` makes of the weight and `keep` of the scores.
    """
    masked: Tensor = _MaskedWeight.apply(weight, scores, threshold, temperature)  # type: ignore[no-untyped-call]
    return masked


def _sigmoid_slope(scores: Tensor, threshold: float, temperature: float) -> Tensor:
    """4 s (1 - s) in one new tensor; s is the sigmoid of minus the distance, where it loses no digits."""
    s = torch.sub(scores, threshold).abs_().div_(-temperature).sigmoid_()
    return s.addcmul_(s, s, value=-1.0).mul_(4.0)


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


def ranked_by_magnitude(scores: Tensor, weight: Tensor) -> Tensor:
    """The same scores, dealt out by rank: the smallest |W| gets the lowest.

    The mask of such scores is that of magnitude pruning, and the next smallest weights are the next to flip.

    Args:
        scores: float32 CPU tensor.
        weight: float32 of the same shape, on any device; equal magnitudes are ranked by place.

    Returns:
        float32 CPU tensor of the same shape.
    """
    order = weight.detach().abs().flatten().cpu().argsort(stable=True)
    ranked = torch.empty_like(scores)
    ranked.view(-1)[order] = scores.flatten().sort().values
    return ranked
