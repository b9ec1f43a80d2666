"""Trials: a random layer under random masks, readied to be multiplied in each precision of a device.

It is computed as the encoder computes it: by the kernel if there is one, else on folded copies of the weight.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mask_store.format.bits import pack_bits
from masking.kernels.cpu import launch as native
from masking.kernels.cpu import lines
from masking.kernels.cpu.processor import LinePrecision, lacks
from masking.kernels.cuda import launch as cuda
from masking.kernels.layouts import BitMask, LinearMask, StripMask, WordMask
from masking.kernels.linear import masked_linear
from masking.kernels.precision import Precision
from masking.kernels.segments import Segments

LENGTHS = (1, 7, 24, 32, 64, 128, 256)
"""Tokens of each task of a layer: 512 in all."""


class Layer(NamedTuple):
    """A random layer, in float32 on the CPU; masks are boolean [rows, columns], the last segment has none."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor
    segments: Segments
    masks: Sequence[Tensor | None]


class Trial(NamedTuple):
    """A layer ready to be computed.

    Attributes:
        run: Computes it under its masks.
        plain: Computes it without masks, by torch.
        inputs: The inputs as they are multiplied, float64.
        weight: The weight as it is multiplied, float64.
    """

    run: Callable[[], Tensor]
    plain: Callable[[], object]
    inputs: Tensor
    weight: Tensor


def random_layer(rows: int, columns: int, whole: bool) -> Layer:
    """Make a layer of 7 tasks, the same each time.

    Args:
        rows: Output rows.
        columns: Columns.
        whole: Whether the inputs are integers that each token's 8 bits hold as they are.

    Returns:
        Its bias is one that bfloat16 holds as it is.
    """
    generator = torch.Generator().manual_seed(0)
    segments = Segments.of_lengths(LENGTHS)
    inputs = torch.randn(segments.tokens, columns, generator=generator)
    if whole:
        inputs = (40 * inputs).round_().clamp_(-100, 155)
        inputs[:, 0], inputs[:, 1] = -100, 155
    weight, bias = (torch.randn(shape, generator=generator) for shape in ((rows, columns), (rows,)))
    shares = torch.linspace(0.05, 0.5, len(segments) - 1)
    masks = [torch.rand(rows, columns, generator=generator) >= share for share in shares]
    return Layer(inputs, weight, bias.bfloat16().float(), segments, [*masks, None])


def ready_layer(layer: Layer, device: str, precision: Precision) -> Trial:
    """Ready a layer for a device, "cpu" or "cuda", and a precision that it has."""
    if device == "cuda":
        return on_device(layer, cast(cuda.CudaPrecision, precision), torch.device(device))
    if not installed("numba"):
        return _folded(layer)
    if lacks(precision):
        return _in_float32(layer)
    return _in_lines(layer, cast(LinePrecision, precision))


def _bits(layer: Layer) -> list[BitMask | None]:
    return [None if mask is None else BitMask(pack_bits(mask.numpy()), mask.shape[1]) for mask in layer.masks]


def _in_float32(layer: Layer) -> Trial:
    """By the kernel itself: `masked_linear` would fold the layer if it can't be compiled."""
    inputs, weight, bias, segments, _ = layer
    masks = [None if bits is None else StripMask.of(bits) for bits in _bits(layer)]
    unmasked = native.no_mask(weight.shape[1])

    def run() -> Tensor:
        places = [unmasked if mask is None else mask.place for mask in masks]
        return native.masked_product(inputs, weight, bias, segments, places)

    return Trial(run, lambda: F.linear(inputs, weight, bias), inputs.double(), weight.double())


def _folded(layer: Layer) -> Trial:
    inputs, weight, bias, segments, _ = layer
    masks = _bits(layer)
    return Trial(
        lambda: masked_linear(inputs, weight, bias, segments, masks, method="fold"),
        lambda: F.linear(inputs, weight, bias),
        inputs.double(),
        weight.double(),
    )


def _in_lines(layer: Layer, precision: LinePrecision) -> Trial:
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    weight, inputs = lines.LineWeight.of(layer.weight, layer.bias, precision), layer.inputs.to(dtype)
    masks = [None if bits is None else lines.ready_mask(weight, bits.packed) for bits in _bits(layer)]
    layers = [lines.LineLayer(weight, masks)]
    rounded, bias = layer.weight.to(dtype), layer.bias.to(dtype)
    integers, levels = ((40 * one).clamp(-127, 127).to(torch.int8) for one in (layer.weight, layer.inputs))

    def plain() -> Tensor:
        return torch._int_mm(levels, integers.t()) if precision == "int8" else F.linear(inputs, rounded, bias)

    return Trial(
        lambda: lines.line_products(inputs, layers, layer.segments, lines.Finish.FLOAT32)[0],
        plain,
        inputs.double(),
        weight.expand(),
    )


def on_device(layer: Layer, precision: cuda.CudaPrecision, device: torch.device) -> Trial:
    """Ready a layer for the Triton kernel."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs, weight, bias = (one.to(device, dtype) for one in layer[:3])
    masks: list[LinearMask | None] = [
        None if bits is None else WordMask.of(bits, device) for bits in _bits(layer)
    ]
    addresses = cuda.mask_addresses([masks], device)[0]

    def run() -> Tensor:
        return masked_linear(
            *(inputs, weight, bias, layer.segments, masks),
            method="kernel" if cuda.available() else "fold",
            precision=precision,
            addresses=addresses,
        )

    def plain() -> Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        try:
            return F.linear(inputs, weight, bias)
        finally:
            torch.set_float32_matmul_precision(before)

    return Trial(run, plain, inputs.cpu().double(), weight.cpu().double())


def installed(package: str) -> bool:
    """Tell whether an optional package can be found."""
    return importlib.util.find_spec(package) is not None
