"""Masked linear layer: one linear layer under the masks of many tasks, the entry point of `masking.kernels`.

Two ways to compute it, both with one unmasked weight for all tasks:

  kernel  one call for all segments; the bits are applied while the weights are loaded. On the CPU it needs
          numba and strips, on CUDA Triton and words
  fold    per segment, W * M and torch's matrix product; anywhere, with gradients

"auto" takes the kernel where it can be used, on the CPU only if `masking.kernels.cost_model` expects it to be
faster.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from masking.binarize import apply_mask
from masking.kernels.cost_model import Costs, costs
from masking.kernels.cpu import launch as native
from masking.kernels.cuda import launch as cuda
from masking.kernels.cuda.launch import CudaPrecision
from masking.kernels.layouts import Kernels, LinearMask, StripMask, WordMask
from masking.kernels.segments import Segments

Method = Literal["auto", "kernel", "fold"]
_METHODS, _PRECISIONS = get_args(Method), get_args(CudaPrecision)
KernelLayout = type[StripMask] | type[WordMask]


def masked_linear(  # noqa: PLR0913 (a layer, its masks, and by name what is optional)
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    masks: Sequence[LinearMask | None],
    *,
    method: Method = "auto",
    precision: CudaPrecision = "fp32",
    addresses: Tensor | None = None,
) -> Tensor:
    """Compute inputs @ (W * M)^T + bias, M being that of each token's segment.

    Args:
        inputs: float32, on CUDA also bfloat16, [tokens, columns], sorted by segment.
        weight: The same, [rows, columns]; not written to.
        bias: [rows], or None.
        segments: They cover `tokens`.
        masks: Per segment its mask, or None to use the weight as it is.
        method: How. "kernel" is an error where the kernel can't be used; segments whose masks are not in its
            layout are folded whatever the method.
        precision: How the kernel multiplies on CUDA. On the CPU it does so in float32; after folding, torch's
            own settings count.
        addresses: The masks' row of `mask_addresses`, on CUDA; without it, made by the call.

    Returns:
        [tokens, rows], in the dtype of `inputs`.

    Raises:
        ValueError: Shapes that do not belong together, an unknown method or precision, or "kernel" where it
            can't be.
    """
    _check(inputs, weight, bias, segments, masks, addresses)
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(_METHODS)}")
    if precision not in _PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(_PRECISIONS)}")
    layout = _kernel_layout(inputs, weight)
    parts = []
    for by_kernel, first, last in _plan(method, layout, segments, masks):
        chunk = inputs[segments.bounds[first] : segments.bounds[last]]
        if not by_kernel:
            mask = masks[first]
            parts.append(F.linear(chunk, weight if mask is None else apply_mask(weight, mask.expand()), bias))
            continue
        layer = chunk.contiguous(), weight, bias, segments.part(first, last)
        if layout is WordMask:
            if addresses is None:
                addresses = cuda.mask_addresses([masks], inputs.device)[0]
            parts.append(cuda.masked_product(*layer, addresses[first:last], precision))
        else:
            parts.append(native.masked_product(*layer, _places(masks[first:last], weight)))
    if not parts:
        return inputs.new_empty(0, weight.shape[0])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def kernel_runs(device: torch.device, kernels: Kernels = "auto") -> bool:
    """Tell whether a kernel computes float32 tensors on a device; else its masked layers are folded."""
    if kernels == "off":
        return False
    return native.available() if device.type == "cpu" else device.type == "cuda" and cuda.available()


def _check(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    masks: Sequence[LinearMask | None],
    addresses: Tensor | None,
) -> None:
    shape = tuple(weight.shape)
    fitting = {
        "weight is not [rows, columns]": len(shape) == 2 and 0 not in shape,  # noqa: PLR2004
        "inputs are not [tokens, columns]": tuple(inputs.shape) == (segments.tokens, shape[-1]),
        "bias is not [rows]": bias is None or tuple(bias.shape) == shape[:1],
        "masks are not one per segment": len(masks) == len(segments),
        "addresses are not int64, one per segment": addresses is None
        or (addresses.dtype == torch.int64 and tuple(addresses.shape) == (len(segments),)),
        "a mask is not [rows, columns]": all([mask is None or mask.shape == shape for mask in masks]),
    }
    if not all(fitting.values()):
        wrong = "; ".join(message for message, fits in fitting.items() if not fits)
        raise ValueError(f"{wrong} (weight {shape}, inputs {tuple(inputs.shape)}, {segments})")


def _plan(
    method: Method, layout: KernelLayout | None, segments: Segments, masks: Sequence[LinearMask | None]
) -> Iterator[tuple[bool, int, int]]:
    """Divide the batch into parts: by the kernel or folded, first segment, segment after the last.

    Adjacent segments for the kernel are one part; folded ones are a part each.
    """
    if method == "kernel" and layout is None:
        raise ValueError(
            "the kernel needs contiguous tensors, float32 on the CPU with numba or on CUDA with Triton, "
            "and gives no gradients"
        )
    measured = costs() if layout is StripMask and method == "auto" else None
    ways = [
        layout is not None and method != "fold" and _by_kernel(end - start, mask, layout, measured)
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


def _kernel_layout(inputs: Tensor, weight: Tensor) -> KernelLayout | None:
    """Return the layout of mask that the kernel for these tensors reads; None where no kernel takes them."""
    gradients = torch.is_grad_enabled() and (inputs.requires_grad or weight.requires_grad)
    if gradients or inputs.device != weight.device or not weight.is_contiguous():
        return None
    dtypes = {inputs.dtype, weight.dtype}
    if inputs.is_cpu and dtypes == {torch.float32} and native.available():
        return StripMask
    if inputs.is_cuda and dtypes <= {torch.float32, torch.bfloat16} and cuda.available():
        return WordMask
    return None


def _by_kernel(tokens: int, mask: LinearMask | None, layout: KernelLayout, measured: Costs | None) -> bool:
    if mask is None:
        return True
    return isinstance(mask, layout) and (measured is None or measured.kernel_wins(tokens))


def _places(masks: Sequence[LinearMask | None], weight: Tensor) -> list[native.Place]:
    unmasked = native.no_mask(weight.shape[1])
    return [mask.place if isinstance(mask, StripMask) else unmasked for mask in masks]
