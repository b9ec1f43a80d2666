"""Elementwise steps between two line products: rounding, GELU, residual and LayerNorm, quantisation.

All compute in float32 and run on values that the product has just left in the cache. Loops are plain, so
that LLVM makes vector code of them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.instructions import from_bfloat16, to_bfloat16

BFLOAT16, GELU, FLOAT32, GELU32 = 0, 1, 2, 3
"""What becomes of sums: rounded to bfloat16; the same after GELU; kept in float32; the same after GELU."""

_END = 4.5  # from here on the normal distribution's CDF counts as 1, which it is but for 3e-6


def _odd_part(s: float) -> float:
    """(CDF(x) - 1/2) / x of the normal distribution, by s = 2 (x / _END)^2 - 1."""
    x = _END * math.sqrt((s + 1) / 2)
    return math.erf(x / math.sqrt(2)) / (2 * x) if x else 1 / math.sqrt(2 * math.pi)


def _interpolate(function: Callable[[float], float], degree: int) -> tuple[np.float32, ...]:
    """Interpolate from -1 to 1 at Chebyshev's points: coefficients of the powers, the highest first."""
    series = np.polynomial.chebyshev.chebinterpolate(np.vectorize(function), degree)
    return tuple(np.float32(one) for one in np.polynomial.chebyshev.cheb2poly(series)[::-1])


_POWERS = _interpolate(_odd_part, 10)
_FRACTION = _interpolate(lambda s: 2 ** ((s + 1) / 2), 6)
_LEAST_POWER = np.float32(-126)
_BOUND, _SCALE = np.float32(_END), np.float32(2 / _END**2)
_ZERO, _HALF, _ONE, _LEVELS = np.float32(0), np.float32(0.5), np.float32(1), np.float32(255)
_HIGHEST = np.int32(255)


def _pointer(kind: Any) -> Any:
    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        result = types.CPointer(kind)

        def generate(context: Any, builder: Any, signature: Any, values: list[Any]) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(result))

        return result(types.int64), generate

    return pointer


floats, ints, words_of_32, halves, octets = (
    _pointer(one) for one in (types.float32, types.int32, types.uint32, types.uint16, types.uint8)
)


@intrinsic
def float_of_bits(context: Any, bits: Any) -> Any:
    """Return the float32 of which a uint32 has the bits."""
    signature = types.float32(types.int32)

    def generate(context: Any, builder: Any, signature: Any, values: list[Any]) -> Any:
        return builder.bitcast(values[0], context.get_value_type(types.float32))

    return signature, generate


@njit(nogil=True, fastmath=True, inline="always")
def exponential(x: Any) -> Any:
    """Two to the power of x, which is at most 0, in float32, to 2e-7 of the value."""
    inner = max(x, _LEAST_POWER)
    whole = np.floor(inner)
    s = np.float32(2) * (inner - whole) - _ONE
    total = _FRACTION[0]
    for power in _FRACTION[1:]:
        total = total * s + power
    return total * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(nogil=True, fastmath=True, inline="always")
def _gelu(x: Any) -> Any:
    """Value times the normal distribution's CDF there, in float32."""
    inner = min(max(x, -_BOUND), _BOUND)
    s = _SCALE * inner * inner - _ONE
    total = _POWERS[0]
    for power in _POWERS[1:]:
        total = total * s + power
    return x * (_HALF + inner * total)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def finish(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    kind: int, sums: int, spacing: int, tokens: int, rows: int, bias: int, outputs: int, stride: int
) -> None:
    """Add the bias to a tile's sums and store them as `kind` says.

    Args:
        kind: `BFLOAT16`, `GELU`, `FLOAT32` or `GELU32`.
        sums: Address of float32 [tokens, spacing], of which the first `rows` of each token count.
        spacing: See `sums`.
        tokens: Tokens.
        rows: Output rows.
        bias: Address of float32 [rows].
        outputs: Address of the first output, bfloat16 or float32.
        stride: Bytes from one token's outputs to the next one's.
    """
    added = carray(floats(bias), (rows,))
    for token in range(tokens):
        values = carray(floats(sums + 4 * spacing * token), (rows,))
        if kind >= FLOAT32:
            wide = carray(floats(outputs + stride * token), (rows,))
            if kind == GELU32:
                for row in range(rows):
                    wide[row] = _gelu(values[row] + added[row])
            else:
                for row in range(rows):
                    wide[row] = values[row] + added[row]
            continue
        rounded = carray(halves(outputs + stride * token), (rows,))
        if kind == GELU:
            for row in range(rows):
                rounded[row] = to_bfloat16(_gelu(values[row] + added[row]))
        else:
            for row in range(rows):
                rounded[row] = to_bfloat16(values[row] + added[row])


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def scale_sums(
    sums: int, tokens: int, rows: int, row_sums: int, row_scales: int, scales: int, zeros: int
) -> None:
    """Turn a tile's sums of integers into float32, where they lie; see `instructions.tile`.

    Args:
        sums: Address of int32 [tokens, rows].
        tokens: Tokens.
        rows: Output rows.
        row_sums: Address of int32 [rows].
        row_scales: Address of float32 [rows].
        scales: Address of float32 [tokens].
        zeros: Address of int32 [tokens].
    """
    of_rows, steps = carray(ints(row_sums), (rows,)), carray(floats(row_scales), (rows,))
    of_tokens, without = carray(floats(scales), (tokens,)), carray(ints(zeros), (tokens,))
    for token in range(tokens):
        place = sums + 4 * rows * token
        counted, scaled = carray(ints(place), (rows,)), carray(floats(place), (rows,))
        scale, zero = of_tokens[token], without[token]
        for row in range(rows):
            scaled[row] = np.float32(np.int32(counted[row] - zero * of_rows[row])) * (scale * steps[row])


@njit(nogil=True, inline="always")
def _in_order(bits: Any) -> Any:
    """Return an int16 that is less where a bfloat16 is less, of its bits; and the bits of the int16."""
    signed = np.int16(bits)
    return np.int16(signed ^ ((signed >> np.int16(15)) & np.int16(0x7FFF)))


@njit(nogil=True, inline="always")
def in_order_32(bits: Any) -> Any:
    """Return an int32 that is less where a float32 is less, of its bits; and the bits of the int32."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def quantise(inputs: int, columns: int, outputs: int) -> tuple[Any, Any]:
    """Round one token's values to 256 levels from its least value to its largest, zero being one of them.

    Args:
        inputs: Address of bfloat16 [columns].
        columns: Columns.
        outputs: Address of uint8 [columns].

    Returns:
        Scale and zero: level q stands for scale * (q - zero).
    """
    values, levels = carray(halves(inputs), (columns,)), carray(octets(outputs), (columns,))
    least = greatest = np.int16(0)
    for column in range(columns):
        key = _in_order(values[column])
        least, greatest = min(least, key), max(greatest, key)
    low, high = from_bfloat16(_in_order(least)), from_bfloat16(_in_order(greatest))
    scale = (high - low) / _LEVELS
    inverse = _ONE / scale if scale > _ZERO else _ZERO
    zero = np.float32(np.floor(_HALF - low * inverse))
    shift = zero + _HALF  # rounding is cutting what is half a level higher; all are positive
    for column in range(columns):
        level = np.int32(from_bfloat16(values[column]) * inverse + shift)
        levels[column] = np.uint8(min(level, _HIGHEST))
    return scale, np.int32(zero)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def add_and_normalise(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    wide: bool, sums: int, residual: int, columns: int, gain: int, shift: int, epsilon: float, outputs: int
) -> None:
    """LayerNorm(sums + residual) of one token.

    Args:
        wide: Whether residual and outputs are float32; else they are bfloat16.
        sums: Address of float32 [columns]; overwritten.
        residual: Address of [columns].
        columns: Columns.
        gain: Address of float32 [columns], LayerNorm's weight.
        shift: Address of float32 [columns], its bias.
        epsilon: Added to the variance.
        outputs: Address of [columns].
    """
    values = carray(floats(sums), (columns,))
    gains, shifts = carray(floats(gain), (columns,)), carray(floats(shift), (columns,))
    if wide:
        others = carray(floats(residual), (columns,))
        for column in range(columns):
            values[column] += others[column]
    else:
        rounded = carray(halves(residual), (columns,))
        for column in range(columns):
            values[column] += from_bfloat16(rounded[column])
    total = _ZERO
    for column in range(columns):
        total += values[column]
    mean = total / np.float32(columns)
    squares = _ZERO
    for column in range(columns):
        value = values[column] - mean
        squares += value * value
    factor = _ONE / np.sqrt(squares / np.float32(columns) + np.float32(epsilon))
    if wide:
        kept = carray(floats(outputs), (columns,))
        for column in range(columns):
            kept[column] = (values[column] - mean) * factor * gains[column] + shifts[column]
    else:
        halved = carray(halves(outputs), (columns,))
        for column in range(columns):
            halved[column] = to_bfloat16((values[column] - mean) * factor * gains[column] + shifts[column])
