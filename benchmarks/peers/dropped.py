"""Dropped columns, a rival of the kernel: x W^T for all tasks, minus x (W * (1 - M))^T from lists of zeros.

Per output row and task the columns whose bit is 0, as uint16. Each tile of 32 tokens is transposed to
contiguous memory; a row's sum is gathered in registers and subtracted once. At 5 % zeros the lists take
0.8 bit per weight; time and memory grow with the zeros. Kept for comparison only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from masking.kernels import Segments

TILE_TOKENS = 32
_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, TILE_TOKENS)


@dataclass(frozen=True)
class DroppedColumns:
    """The zeros of one layer's mask.

    Attributes:
        starts: int32 [rows + 1], where each row's list starts.
        columns: uint16, all rows' dropped columns.
    """

    starts: NDArray[np.int32]
    columns: NDArray[np.uint16]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "DroppedColumns":
        """List the zeros of a mask [rows, columns]."""
        counts = np.count_nonzero(~mask, axis=1)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return cls(starts, np.nonzero(~mask)[1].astype(np.uint16))

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.starts.nbytes + self.columns.nbytes


def _entry(builder: ir.IRBuilder, place: Any, weights: Any, inputs: Any, total: Any) -> Any:
    """Add one dropped weight's products to the sums of a tile's tokens."""
    column = builder.zext(builder.load(builder.inttoptr(place, _I16.as_pointer())), _I64)
    address = builder.add(weights, builder.mul(column, ir.Constant(_I64, 4)))
    weight = builder.load(builder.inttoptr(address, _F32.as_pointer()))
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, weight, ir.Constant(_I32, 0))
    spread = builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(_I32, TILE_TOKENS), [0] * TILE_TOKENS)
    )
    row = builder.add(inputs, builder.mul(column, ir.Constant(_I64, 4 * TILE_TOKENS)))
    tokens = builder.load(builder.inttoptr(row, _VECTOR.as_pointer()), align=4)
    return builder.fadd(total, builder.fmul(tokens, spread, flags=("contract",)), flags=("contract",))


@intrinsic
def _gather_row(context: Any, listed: Any, end: Any, weights: Any, inputs: Any, sums: Any) -> Any:
    """Write a row's 32 sums; two entries at a time hide the latency. Addresses as int64."""
    signature = types.void(*[types.int64] * 5)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        listed, end, weights, inputs, sums = values
        zero = ir.Constant(_VECTOR, [0.0] * TILE_TOKENS)
        before, check = builder.block, builder.append_basic_block("check")
        pair, rest = builder.append_basic_block("pair"), builder.append_basic_block("rest")
        odd, done = builder.append_basic_block("odd"), builder.append_basic_block("done")
        builder.branch(check)
        builder.position_at_end(check)
        place, even, uneven = builder.phi(_I64), builder.phi(_VECTOR), builder.phi(_VECTOR)
        following = builder.add(place, ir.Constant(_I64, 4))
        builder.cbranch(builder.icmp_signed("<=", following, end), pair, rest)
        builder.position_at_end(pair)
        new_even = _entry(builder, place, weights, inputs, even)
        new_uneven = _entry(builder, builder.add(place, ir.Constant(_I64, 2)), weights, inputs, uneven)
        builder.branch(check)
        for phi, start, new in (
            (place, listed, following),
            (even, zero, new_even),
            (uneven, zero, new_uneven),
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(new, pair)
        builder.position_at_end(rest)
        total = builder.fadd(even, uneven)
        builder.cbranch(builder.icmp_signed("<", place, end), odd, done)
        builder.position_at_end(odd)
        last = _entry(builder, place, weights, inputs, total)
        builder.branch(done)
        builder.position_at_end(done)
        result = builder.phi(_VECTOR)
        result.add_incoming(total, rest)
        result.add_incoming(last, odd)
        builder.store(result, builder.inttoptr(sums, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate


@njit(nogil=True, cache=True)
def _subtract(outputs, inputs, weight, starts, columns, tile, sums):  # type: ignore[no-untyped-def]
    """Correct the outputs of one segment, tile by tile. One thread."""
    tokens, width = inputs.shape
    rows = weight.shape[0]
    weights, listed = weight.ctypes.data, columns.ctypes.data
    for first in range(0, tokens, TILE_TOKENS):
        count = min(TILE_TOKENS, tokens - first)
        for column in range(width):
            for token in range(count):
                tile[column, token] = inputs[first + token, column]
        for row in range(rows):
            start, end = listed + 2 * starts[row], listed + 2 * starts[row + 1]
            _gather_row(
                start,
                end,
                weights + 4 * width * row,
                tile.ctypes.data,
                sums.ctypes.data + 4 * TILE_TOKENS * row,
            )
        for token in range(count):
            for row in range(rows):
                outputs[first + token, row] -= sums[row, token]


def dropped_linear(
    inputs: Tensor, weight: Tensor, bias: Tensor, segments: Segments, masks: list[DroppedColumns]
) -> Tensor:
    """Compute what `masking.kernels.masked_linear` does, on one thread but for the shared product."""
    outputs = F.linear(inputs, weight, bias)
    tile = np.zeros((weight.shape[1], TILE_TOKENS), np.float32)
    sums = np.empty((weight.shape[0], TILE_TOKENS), np.float32)
    for (start, end), mask in zip(segments.spans(), masks, strict=True):
        part = outputs[start:end].numpy(), inputs[start:end].numpy(), weight.numpy()
        _subtract(*part, mask.starts, mask.columns, tile, sums)
    return torch.as_tensor(outputs)
