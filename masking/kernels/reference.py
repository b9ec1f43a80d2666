"""Reference: what `masked_linear` computes, said plainly; tests hold every other way against it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from masking.binarize import apply_mask
from masking.kernels.segments import Segments


def reference_linear(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, segments: Segments, masks: Sequence[Tensor | None]
) -> Tensor:
    """Compute inputs @ (W * M)^T + bias, M being that of each token's segment.

    Args:
        inputs: [tokens, columns], of any floating dtype.
        weight: [rows, columns] of the same dtype.
        bias: [rows], or None.
        segments: They cover `tokens`.
        masks: Per segment, boolean [rows, columns], or None to use the weight as it is.

    Returns:
        [tokens, rows].
    """
    parts = [
        F.linear(inputs[start:end], weight if mask is None else apply_mask(weight, mask), bias)
        for (start, end), mask in zip(segments.spans(), masks, strict=True)
    ]
    return torch.cat(parts) if parts else inputs.new_empty(0, weight.shape[0])
