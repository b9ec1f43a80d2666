"""Precision: how masked layers are multiplied, and which precisions a device has.

fp32    float32; anywhere
bf16    bfloat16 with float32 sums; on a CPU with AVX512-BF16 (in AMX's tiles where it has them), on CUDA
int8    8-bit integers with 32-bit sums; on a CPU with AVX512-VNNI (the same)
tf32    float32 cut to 10 bits of fraction; on CUDA
tf32x3  three products of tf32, nearly float32; on CUDA
"""

from typing import Literal, TypeAlias, get_args

import torch

from masking.kernels.cpu import launch as native
from masking.kernels.cpu import lines
from masking.kernels.cpu.processor import NEEDED, lacks
from masking.kernels.cuda import launch as cuda
from masking.kernels.layouts import Kernels

Precision: TypeAlias = Literal["fp32", "bf16", "int8", "tf32", "tf32x3"]
PrecisionChoice: TypeAlias = Literal["auto", "fp32", "bf16", "int8", "tf32", "tf32x3"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def choose_precision(wanted: str, device: torch.device, kernels: Kernels = "auto") -> Precision:
    """Return a precision by its name; "auto" is bf16 where the device multiplies it natively, else fp32.

    Raises:
        ValueError: There is no such precision, or the device does not have it; with what it has.
    """
    lacking = {one: missing(one, device, kernels) for one in PRECISIONS}
    if wanted == "auto":
        return "fp32" if lacking["bf16"] else "bf16"
    for one in PRECISIONS:
        if one == wanted:
            if lacking[one]:
                had = ", ".join(name for name in PRECISIONS if not lacking[name])
                raise ValueError(f"precision {one}: {lacking[one]}; this device has {had}")
            return one
    raise ValueError(f"precision {wanted!r} is not one of auto, {', '.join(PRECISIONS)}")


def missing(precision: Precision, device: torch.device, kernels: Kernels = "auto") -> str:
    """Say what a device lacks for a precision; nothing where it lacks nothing."""
    if precision == "fp32":
        return ""
    if device.type == "cuda":
        if precision == "int8":
            return "needs a CPU"
        if kernels != "auto" or not cuda.available():
            return "needs the Triton kernel"
        return "" if _has_tensor_cores(device) else "needs a GPU of compute capability 8.0 or above"
    return without_lines(precision, device, kernels)


def _has_tensor_cores(device: torch.device) -> bool:
    """Tell whether a GPU multiplies bfloat16 and tf32 natively."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def without_lines(precision: Precision, device: torch.device, kernels: Kernels = "auto") -> str:
    """Say why the line kernel can't compute a precision on a device; nothing where it can."""
    if device.type != "cpu" or precision not in NEEDED:
        return "needs CUDA"
    if kernels == "off" or not native.available():
        return "needs the CPU kernels (package numba)"
    return lacks(precision) or ("" if lines.available() else "needs a kernel that can't be compiled here")
