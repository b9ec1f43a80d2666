"""Kernel cases: the precisions of this processor, random layers and masks, the check against float64."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mask_store.format.bits import pack_bits
from masking.kernels import BitMask, Segments, reference_linear
from masking.kernels.cpu.processor import lacks

FP32, BF16, INT8 = (
    pytest.mark.skipif(bool(lacks(one)), reason=lacks(one) or "can be run")
    for one in ("fp32", "bf16", "int8")
)
NARROW = [pytest.param("bf16", marks=BF16), pytest.param("int8", marks=INT8)]
"""Parameters of a test; what the processor lacks is skipped."""
LINES = [pytest.param("fp32", marks=FP32), *NARROW]
"""Precisions of which the kernel keeps the weights in lines."""


@dataclass(frozen=True)
class Case:
    inputs: Tensor
    weight: Tensor
    bias: Tensor
    segments: Segments
    masks: list[NDArray[np.bool_]]

    def bits(self) -> list[BitMask]:
        return [BitMask(pack_bits(mask), mask.shape[1]) for mask in self.masks]

    def assert_close(self, outputs: Tensor, *, bias: bool = True, tolerance: float = 1e-5) -> None:
        exact = reference_linear(
            self.inputs.double(),
            self.weight.double(),
            self.bias.double() if bias else None,
            self.segments,
            [torch.from_numpy(mask) for mask in self.masks],
        )
        assert outputs.dtype == torch.float32
        assert outputs.shape == exact.shape
        scale = float(exact.abs().max()) or 1.0
        assert float((outputs.double() - exact).abs().max()) <= tolerance * scale


def random_case(
    rows: int, columns: int, lengths: list[int], zeros: float | list[float] = 0.05, seed: int = 0
) -> Case:
    """Masks with that share of zeros; the first has one row of ones and one of zeros where it has two."""
    random = np.random.default_rng(seed)
    shares = zeros if isinstance(zeros, list) else [zeros] * len(lengths)
    masks = [random.random((rows, columns)) >= share for share in shares]
    if rows > 2:
        masks[0][0], masks[0][-1] = True, False
    floats = [random.standard_normal(shape, np.float32) for shape in ((rows, columns), (rows,))]
    inputs = random.standard_normal((sum(lengths), columns), np.float32)
    weight, bias = map(torch.from_numpy, floats)
    return Case(torch.from_numpy(inputs), weight, bias, Segments.of_lengths(lengths), masks)
