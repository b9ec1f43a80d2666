"""Attention of one head over one row of tokens, by the line products' own inner loop.

Keys and values are laid out as a layer's weight is: keys as rows of lines, values as columns, so that both
products are tiles of bfloat16. Scores, softmax and sums are float32; the weights of the values are rounded
to bfloat16 before they are summed, and divided by their sum after. A row is computed alone, so its results do
not depend on the rows beside it.
"""

import math
from typing import Any

import numpy as np
from numba import carray, njit

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.elementwise import (
    exponential,
    float_of_bits,
    floats,
    halves,
    in_order_32,
    ints,
    words_of_32,
)
from masking.kernels.cpu.lines.instructions import LINE, to_bfloat16
from masking.kernels.cpu.lines.registers import configure
from masking.kernels.cpu.lines.tiles import (
    BF16,
    BF16_REGISTERS,
    PANEL_STRIPS,
    SUMS_BYTES,
    TILE_TOKENS,
    multiply,
    multiply_in_registers,
)
from masking.kernels.cpu.lines.weights import ROWS

_PANEL = PANEL_STRIPS[BF16]
_STEP = 2 * ROWS  # columns of a step in tile registers
_LOG2_E = np.float32(1 / math.log(2))
_ZERO, _ONE = np.float32(0), np.float32(1)
_LOWEST = np.int32(-(2**31))


def scratch_bytes(kind: int, tokens: int, width: int) -> int:
    """Return the bytes of a thread for rows of at most so many tokens, a multiple of a line.

    They are sums, scores, weights, the lines of keys and of values, and what `registers.save` keeps.
    """
    whole, wide = -(-tokens // _STEP) * _STEP, -(-width // ROWS) * ROWS
    tile = TILE_TOKENS[kind]
    size = SUMS_BYTES[kind] + tile * (4 * max(whole, wide) + 2 * whole + 4) + 2 * whole * (width + wide)
    return (-(-size // LINE) + 1) * LINE


@njit(nogil=True, cache=CACHED)
def _lines_of_keys(keys: int, stride: int, tokens: int, width: int, lines: int) -> None:
    """Keys as rows: line (strip, pair of columns) holds both columns of 16 keys."""
    pairs = width // 2
    target = carray(words_of_32(lines), (_strips(tokens) * pairs * ROWS,))
    for key in range(tokens):
        place = key // ROWS * pairs * ROWS + key % ROWS
        source = carray(words_of_32(keys + stride * key), (pairs,))
        for pair in range(pairs):
            target[place + ROWS * pair] = source[pair]
    for key in range(tokens, _strips(tokens) * ROWS):
        place = key // ROWS * pairs * ROWS + key % ROWS
        for pair in range(pairs):
            target[place + ROWS * pair] = np.uint32(0)


@njit(nogil=True, cache=CACHED)
def _lines_of_values(values: int, stride: int, tokens: int, width: int, pairs: int, lines: int) -> None:
    """Values as columns: line (strip, pair of values) holds 16 columns of both values; then zeros."""
    filled, strips = (tokens + 1) // 2, _strips(width)
    for strip in range(strips):
        zeros = carray(words_of_32(lines + LINE * (strip * pairs + filled)), (ROWS * (pairs - filled),))
        for place in range(ROWS * (pairs - filled)):
            zeros[place] = np.uint32(0)
    for pair in range(filled):
        first = carray(halves(values + stride * 2 * pair), (width,))
        second = carray(halves(values + stride * min(2 * pair + 1, tokens - 1)), (width,))
        for strip in range(strips):
            line = carray(words_of_32(lines + LINE * (strip * pairs + pair)), (ROWS,))
            count = min(ROWS, width - ROWS * strip)
            for column in range(count):
                low, high = first[ROWS * strip + column], second[ROWS * strip + column]
                line[column] = np.uint32(low) | (np.uint32(high) << np.uint32(16))
            for column in range(count, ROWS):
                line[column] = np.uint32(0)


@njit(nogil=True, cache=CACHED)
def _strips(count: int) -> int:
    return (count + ROWS - 1) // ROWS


@njit(nogil=True, cache=CACHED)
def _products(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    kind: int,
    inputs: int,
    stride: int,
    tokens: int,
    lines: int,
    rows: int,
    groups: int,
    sums: int,
    outputs: int,
    spacing: int,
) -> None:
    """Multiply a tile of tokens with all strips: float32 [tokens, spacing]."""
    strip, strips = 0, _strips(rows)
    if kind == BF16_REGISTERS:
        multiply_in_registers(*(strips, tokens, lines, 0, 0, inputs, stride, groups, outputs, 4 * spacing, 0))
        return
    while strip < strips:
        count = _PANEL if strip + _PANEL <= strips else 1
        from_strip = lines + LINE * groups * strip
        multiply(kind, count, tokens, from_strip, 0, 0, inputs, stride, groups, sums, 0, 0, 0, 0, 0, 0, 0)
        found = carray(floats(sums), (tokens, ROWS * count))
        for token in range(tokens):
            kept = carray(floats(outputs + 4 * (spacing * token + ROWS * strip)), (ROWS * count,))
            for row in range(ROWS * count):
                kept[row] = found[token, row]
        strip += count


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def _softmax(scores: int, weights: int, tokens: int, whole: int, factor: float) -> Any:
    """Turn scores into weights of the values, bfloat16, then zeros; return the float32 sum of what they were.

    The largest score is found among integers, of which LLVM makes vector code.
    """
    found, kept = carray(floats(scores), (tokens,)), carray(halves(weights), (whole,))
    bits, highest = carray(ints(scores), (tokens,)), _LOWEST
    for token in range(tokens):
        highest = max(highest, in_order_32(bits[token]))
    largest, total = float_of_bits(in_order_32(highest)), _ZERO
    for token in range(tokens):
        weight = exponential((found[token] - largest) * factor)
        total += weight
        kept[token] = to_bfloat16(weight)
    for token in range(tokens, whole):
        kept[token] = np.uint16(0)
    return total


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def attend(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    kind: int,
    queries: int,
    keys: int,
    values: int,
    outputs: int,
    stride: int,
    tokens: int,
    width: int,
    scratch: int,
) -> None:
    """Compute softmax(Q K^T / sqrt(width)) V.

    Args:
        kind: BF16 or BF16_REGISTERS.
        queries: Address of bfloat16 [tokens, width], tokens `stride` bytes apart.
        keys: Likewise.
        values: Likewise.
        outputs: Likewise.
        stride: See `queries`.
        tokens: At least 1.
        width: Width of the head, even.
        scratch: Address of `scratch_bytes`, aligned to a line.
    """
    most, wide = TILE_TOKENS[kind], _strips(width) * ROWS
    whole = (tokens + _STEP - 1) // _STEP * _STEP
    pairs = whole // 2 if kind == BF16_REGISTERS else (tokens + 1) // 2
    scores = scratch + SUMS_BYTES[kind]
    key_lines = scores + 4 * most * max(whole, wide)
    value_lines = key_lines + 2 * whole * width
    weights = value_lines + 2 * wide * whole
    _lines_of_keys(keys, stride, tokens, width, key_lines)
    _lines_of_values(values, stride, tokens, width, pairs, value_lines)
    factor = _LOG2_E / np.float32(math.sqrt(width))
    for first in range(0, tokens, most):
        count = min(most, tokens - first)
        if kind == BF16_REGISTERS:
            configure(count)
        inputs = queries + stride * first
        _products(kind, inputs, stride, count, key_lines, tokens, width // 2, scratch, scores, whole)
        totals = carray(floats(weights + 2 * whole * most), (most,))
        for token in range(count):
            place = weights + 2 * whole * token
            totals[token] = _softmax(scores + 4 * whole * token, place, tokens, 2 * pairs, factor)
        _products(kind, weights, 2 * whole, count, value_lines, width, pairs, scratch, scores, wide)
        for token in range(count):
            attended = carray(floats(scores + 4 * wide * token), (width,))
            rounded = carray(halves(outputs + stride * (first + token)), (width,))
            share = _ONE / totals[token]
            for column in range(width):
                rounded[column] = to_bfloat16(attended[column] * share)
