"""Resident weights: the maskable layers of the base in the form in which they are multiplied.

On a GPU, and on a CPU without AVX2, that is the base itself. Else each layer of the blocks is kept once
more, in the precision and the order in which the kernel reads it; a task's masks are readied in the same
order. The pooler is the base's own: it is computed for one token of a row. Layers that lose too much in 8
bits stay bf16, or fp32 where the processor has no bf16.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from mask_store.format.bits import PackedArray
from masking.base import Base
from masking.inference.rounding import LARGEST_ERROR, rounding_errors
from masking.kernels import (
    CudaPrecision,
    Kernels,
    LinearMask,
    Precision,
    choose_precision,
    ready_mask,
    without_lines,
)
from masking.kernels.cpu import lines
from masking.kernels.cpu.lines import LinePrecision, LineWeight
from masking.kernels.cpu.processor import lacks


@dataclass(frozen=True)
class ResidentWeights:
    """The maskable layers of a base; immutable.

    Attributes:
        device: Where they are.
        precision: How they are multiplied.
        kernels: With "off" they are computed without a kernel.
        lines: By name the layers that the line kernel multiplies; the others are the base's own.
        wider: In int8, by name the layers that are not multiplied in 8 bits, with the error that they would
            have there; see `rounding_errors`.
    """

    device: torch.device
    precision: Precision = "fp32"
    kernels: Kernels = "auto"
    lines: Mapping[str, LineWeight] = field(default_factory=dict)
    wider: Mapping[str, float] = field(default_factory=dict)
    _lines_of_ones: dict[tuple[int, int, str], LineWeight] = field(
        default_factory=dict, init=False, repr=False
    )
    _ones: dict[tuple[int, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, base: Base, precision: Precision | str = "fp32", kernels: Kernels = "auto") -> Self:
        """Prepare the layers of a base; its own tensors are read only.

        Args:
            base: The base.
            precision: How they are multiplied; "auto" for the fastest that keeps a base's answers.
            kernels: With "off" no kernel is used; the precision is fp32 then.

        Raises:
            ValueError: The device can't multiply in that precision.
        """
        chosen = choose_precision(precision, base.device, kernels)
        if without_lines(chosen, base.device, kernels):
            return cls(base.device, chosen, kernels)
        linears = base.blocks.linears(base.encoder)
        packed = _pack(linears, cast(LinePrecision, chosen))
        if chosen != "int8":
            return cls(base.device, chosen, kernels, packed)
        errors = rounding_errors(base, packed)
        wider = {name: error for name, error in errors.items() if error > LARGEST_ERROR}
        others = {name: linears[name] for name in wider}
        packed = {name: weight for name, weight in packed.items() if name not in wider}
        packed |= _pack(others, "fp32" if lacks("bf16") else "bf16")
        return cls(base.device, chosen, kernels, packed, wider)

    def precision_of(self, name: str) -> Precision:
        """Return the precision in which a layer of the base is multiplied.

        Args:
            name: Name of the layer.
        """
        if (weight := self.lines.get(name)) is not None:
            return weight.precision
        return self.cuda_precision

    def release(self, base: Base) -> None:
        """Let go of the base's own tensors of these layers: nobody may compute with them from now on.

        Their shapes stay. Call it for a base that nobody else has, once its encoder is made.
        """
        for name in self.lines:
            linear = base.encoder.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            linear.weight = nn.Parameter(linear.weight.detach().to("meta"), requires_grad=False)

    @property
    def cuda_precision(self) -> CudaPrecision:
        """How `masked_linear` multiplies the base's own layers."""
        return cast(CudaPrecision, self.precision) if self.device.type == "cuda" else "fp32"

    @property
    def nbytes(self) -> int:
        """Bytes that these layers take, with the matrices of ones; the base's own are not counted."""
        lines = [*self.lines.values(), *tuple(self._lines_of_ones.values())]
        return sum(one.nbytes for one in lines) + sum(one.nbytes for one in tuple(self._ones.values()))

    def ready_mask(self, name: str, packed: PackedArray, columns: int) -> LinearMask:
        """Bring a bundle's bits into the order in which a layer's kernel reads them.

        Args:
            name: Name of the layer.
            packed: uint8 [rows, ceil(columns / 8)].
            columns: Columns of the layer.
        """
        if (weight := self.lines.get(name)) is not None:
            return lines.ready_mask(weight, packed)
        return ready_mask(packed, columns, self.device, self.kernels)

    def ready_signs(self, name: str, packed: PackedArray, columns: int) -> LinearMask:
        """Bring signs into the order in which a layer's matrix of ones is read; see `ready_mask`."""
        if name in self.lines:
            return lines.ready_mask(self.ones_of(name), packed)
        return ready_mask(packed, columns, self.device, self.kernels)

    def unbiased(self, name: str) -> LineWeight:
        """Return a layer that the line kernel multiplies, without its bias."""
        weight = self.lines[name]
        return replace(weight, bias=torch.zeros(weight.rows))

    def ones_of(self, name: str) -> LineWeight:
        """Return the matrix of ones that signs of such a layer are multiplied with; made once for a shape."""
        weight = self.lines[name]
        return self._line_of_ones(weight.rows, weight.columns, weight.precision)

    def row_of_ones(self, name: str) -> LineWeight:
        """Return a row of ones: its product is the sum of a layer's inputs, rounded as they are."""
        weight = self.lines[name]
        return self._line_of_ones(1, weight.columns, weight.precision)

    def ones_like(self, weight: Tensor) -> Tensor:
        """Return ones of the shape of one of the base's own weights, made once for a shape."""
        shape = tuple(weight.shape)
        if (ones := self._ones.get(shape)) is None:
            ones = self._ones.setdefault(shape, torch.ones(shape, device=self.device))
        return ones

    def _line_of_ones(self, rows: int, columns: int, precision: LinePrecision) -> LineWeight:
        key = rows, columns, precision
        if (ones := self._lines_of_ones.get(key)) is None:
            made = LineWeight.of(torch.ones(rows, columns), None, precision)
            ones = self._lines_of_ones.setdefault(key, made)
        return ones


def _pack(linears: Mapping[str, nn.Linear], precision: LinePrecision) -> dict[str, LineWeight]:
    return {name: LineWeight.of(one.weight, one.bias, precision) for name, one in linears.items()}
