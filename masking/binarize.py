"""Binarizer: from real-valued scores to bits, and from bits to masked weights (paper, section 3.2).

The one place where a score becomes a bit: learning and export both call `keep`, so no mask differs from the
one whose dev metric was measured.
"""

import torch
from torch import Tensor


def keep(scores: Tensor, threshold: float, out: Tensor | None = None) -> Tensor:
    """Return the mask of `scores`: True where a score is at least `threshold` (paper, equation 1).

    Args:
        scores: float32 tensor of any shape.
        threshold: tau.
        out: Tensor of the same shape to write the mask to, in its own dtype: as 0.0 and 1.0 in a float's.

    Returns:
        `out`, or a new boolean tensor of the same shape.
    """
    return torch.ge(scores, threshold, out=out)


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """Return the Hadamard product W * M as a new tensor; `weight` is not written to.

    Args:
        weight: float32, [rows, columns].
        mask: The same shape, boolean or 0/1 in the weight's dtype; both give the same bits of result.

    Returns:
        float32, [rows, columns].
    """
    return weight * mask
