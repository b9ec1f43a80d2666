"""Kernels: linear layers under the masks of many tasks at once.

    segments = Segments.of_lengths([32, 32, 64])                     # once per batch
    masks = [ready_mask(bits, columns, device) for bits in tasks]    # once per task and layer
    outputs = masked_linear(inputs, weight, bias, segments, masks)

The weight exists once and is read once per call; tasks add one bit per weight. With numba this takes about as
long as the layer without masks, whatever the number of tasks and the density of their masks; without numba
the results are the same, and each call makes a masked copy of the weight for each segment. On CUDA a Triton
kernel does the same, at a choice of precisions and inside CUDA graphs (`masking.kernels.cuda.launch`);
benchmarks/README.md has its times on an H100.

On a CPU with AVX2 a layer may also be kept in the order and precision of the line kernel
(`masking.kernels.cpu.lines`): float32, bfloat16 or 8 bits, with what lies between two layers of a block.
"""

from masking.kernels.cost_model import Costs, costs
from masking.kernels.cpu.launch import available
from masking.kernels.cuda.launch import CudaPrecision, mask_addresses
from masking.kernels.layouts import (
    BitMask,
    Kernels,
    LinearMask,
    StripMask,
    WordMask,
    ready_mask,
    rice_decoder,
)
from masking.kernels.linear import Method, kernel_runs, masked_linear
from masking.kernels.precision import (
    PRECISIONS,
    Precision,
    PrecisionChoice,
    choose_precision,
    missing,
    without_lines,
)
from masking.kernels.reference import reference_linear
from masking.kernels.segments import Segments

__all__ = [
    "PRECISIONS",
    "BitMask",
    "Costs",
    "CudaPrecision",
    "Kernels",
    "LinearMask",
    "Method",
    "Precision",
    "PrecisionChoice",
    "Segments",
    "StripMask",
    "WordMask",
    "available",
    "choose_precision",
    "costs",
    "kernel_runs",
    "mask_addresses",
    "masked_linear",
    "missing",
    "ready_mask",
    "reference_linear",
    "rice_decoder",
    "without_lines",
]
