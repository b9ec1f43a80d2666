"""One linear layer under the masks of many tasks: the entry point of `masking.compute`.

Two ways to compute it, both with one unmasked weight for all tasks:

  kernel  one call for all segments; the bits are applied while the weights are loaded. CPU, needs numba
  fold    per segment, W * M and torch's matrix product; anywhere, with gradients

"auto" takes the kernel where it can be used and `masking.compute.costs` expects it to be faster. Folded
masks are used as they are. The environment variable MASKING_METHOD, read once, replaces "auto".
"""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from masking.compute import native
from masking.compute.costs import Costs, costs
from masking.compute.forms import LinearMask, StripMask
from masking.compute.segments import Segments

Method = Literal["auto", "kernel", "fold"]
_METHODS = get_args(Method)


def masked_linear(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    masks: Sequence[LinearMask | None],
    *,
    method: Method | None = None,
    packed_weight: native.PackedWeight | None = None,
) -> Tensor:
    """Product inputs @ (W * M)^T + bias, M being that of each token's segment.

    Args:
        inputs: float32 [tokens, columns], sorted by segment.
        weight: float32 [rows, columns]; not written to.
        bias: float32 [rows], or None.
        segments: They cover `tokens`.
        masks: Per segment its mask, or None to use the weight as it is.
        method: How; None stands for MASKING_METHOD, or "auto". "kernel" is an error where the kernel
            can't be used; segments whose masks are not strips are folded whatever the method.
        packed_weight: The same weight laid out for the kernel before; for small batches.

    Returns:
        float32 [tokens, rows].

    Raises:
        ValueError: Shapes that do not belong together, an unknown method, or "kernel" where it can't be.
    """
    _check(inputs, weight, bias, segments, masks)
    if packed_weight is not None and packed_weight.shape != tuple(weight.shape):
        raise ValueError(f"packed weight {packed_weight.shape} is not of weight {tuple(weight.shape)}")
    plan = _plan(_chosen(method), inputs, weight, segments, masks)
    parts = []
    for by_kernel, first, last in plan:
        start, end = segments.bounds[first], segments.bounds[last]
        if by_kernel:
            part = segments.part(first, last)
            unmasked = native.no_mask(weight.shape[1])
            places = [mask.place if isinstance(mask, StripMask) else unmasked for mask in masks[first:last]]
            chunk = inputs[start:end].contiguous()
            parts.append(native.masked_product(chunk, weight, bias, part, places, packed_weight))
        else:
            mask = masks[first]
            parts.append(F.linear(inputs[start:end], weight if mask is None else mask.fold(weight), bias))
    if not parts:
        return inputs.new_empty(0, weight.shape[0])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    masks: Sequence[LinearMask | None],
) -> None:
    shape = tuple(weight.shape)
    fitting = {
        "weight is not [rows, columns]": len(shape) == 2 and 0 not in shape,  # noqa: PLR2004
        "inputs are not [tokens, columns]": tuple(inputs.shape) == (segments.tokens, shape[-1]),
        "bias is not [rows]": bias is None or tuple(bias.shape) == shape[:1],
        "masks are not one per segment": len(masks) == len(segments),
        "a mask is not [rows, columns]": all([mask is None or mask.shape == shape for mask in masks]),
    }
    if not all(fitting.values()):
        wrong = "; ".join(message for message, fits in fitting.items() if not fits)
        raise ValueError(f"{wrong} (weight {shape}, inputs {tuple(inputs.shape)}, {segments})")


@cache
def _default_method() -> str:
    return os.environ.get("MASKING_METHOD") or "auto"


def _chosen(method: str | None) -> str:
    chosen = method or _default_method()
    if chosen not in _METHODS:
        raise ValueError(f"method {chosen!r} is not one of {', '.join(_METHODS)}")
    return chosen


def _plan(
    method: str, inputs: Tensor, weight: Tensor, segments: Segments, masks: Sequence[LinearMask | None]
) -> Iterator[tuple[bool, int, int]]:
    """Parts of the batch: by the kernel or folded, first segment, segment after the last.

    Adjacent segments for the kernel are one part; folded ones are a part each.
    """
    usable = _kernel_usable(inputs, weight)
    if method == "kernel" and not usable:
        raise ValueError("the kernel needs numba and contiguous float32 CPU tensors, and gives no gradients")
    measured = costs() if usable and method == "auto" else None
    ways = [
        usable and method != "fold" and _by_kernel(end - start, mask, measured)
        for (start, end), mask in zip(segments.spans(), masks, strict=True)
    ]
    first = 0
    for by_kernel, group in groupby(ways):
        length = len(list(group))
        if by_kernel:
            yield True, first, first + length
        else:
            yield from ((False, one, one + 1) for one in range(first, first + length))
        first += length


def _kernel_usable(inputs: Tensor, weight: Tensor) -> bool:
    cpu_floats = inputs.is_cpu and weight.is_cpu and inputs.dtype == weight.dtype == torch.float32
    gradients = torch.is_grad_enabled() and (inputs.requires_grad or weight.requires_grad)
    return cpu_floats and not gradients and weight.is_contiguous() and native.available()


def _by_kernel(tokens: int, mask: LinearMask | None, measured: Costs | None) -> bool:
    if mask is None:
        return True
    return isinstance(mask, StripMask) and (measured is None or measured.kernel_wins(tokens))
