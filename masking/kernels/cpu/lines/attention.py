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
from masking.kernels.cpu.lines.elementwise import exponential, floats, halves, words_of_32
from masking.kernels.cpu.lines.instructions import LINE, to_bfloat16
from masking.kernels.cpu.lines.tiles import BF16, PANEL_STRIPS, SUMS_BYTES, TILE_TOKENS, multiply
from masking.kernels.cpu.lines.weights import ROWS

_TILE, _PANEL, _SUMS_BYTES = TILE_TOKENS[BF16], PANEL_STRIPS[BF16], SUMS_BYTES[BF16]
_LOG2_E = np.float32(1 / math.log(2))
_ZERO, _ONE = np.float32(0), np.float32(1)
_LOWEST = np.float32(-3e38)


def scratch_bytes(tokens: int, width: int) -> int:
    """Return the bytes for rows of at most so many tokens: sums, scores, weights, and lines of K and V."""
    whole, wide = _whole(tokens), _whole(width)
    return _SUMS_BYTES + _TILE * (4 * max(whole, wide) + 2 * whole) + 2 * whole * (width + wide)


def _whole(count: int) -> int:
    return -(-count // ROWS) * ROWS


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
def _lines_of_values(values: int, stride: int, tokens: int, width: int, lines: int) -> None:
    """Values as columns: line (strip, pair of values) holds 16 columns of both values."""
    pairs, strips = (tokens + 1) // 2, _strips(width)
    for pair in range(pairs):
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
    while strip < strips:
        count = _PANEL if strip + _PANEL <= strips else 1
        from_strip = lines + LINE * groups * strip
        multiply(BF16, count, tokens, from_strip, 0, 0, inputs, stride, groups, sums, 0, 0, 0, 0)
        found = carray(floats(sums), (tokens, ROWS * count))
        for token in range(tokens):
            kept = carray(floats(outputs + 4 * (spacing * token + ROWS * strip)), (ROWS * count,))
            for row in range(ROWS * count):
                kept[row] = found[token, row]
        strip += count


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def _softmax(scores: int, weights: int, tokens: int, factor: float) -> Any:
    """Turn scores into weights of the values, bfloat16, and return the float32 sum of what they were.

    The last weight is written twice over where the tokens are odd: the second is zero.
    """
    found, kept = carray(floats(scores), (tokens,)), carray(halves(weights), (tokens + 1,))
    largest = _LOWEST
    for token in range(tokens):
        largest = max(largest, found[token])
    total = _ZERO
    for token in range(tokens):
        weight = exponential((found[token] - largest) * factor)
        total += weight
        kept[token] = to_bfloat16(weight)
    if tokens % 2:
        kept[tokens] = np.uint16(0)
    return total


@njit(nogil=True, fastmath=True, error_model="numpy", cache=CACHED)
def attend(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    queries: int, keys: int, values: int, outputs: int, stride: int, tokens: int, width: int, scratch: int
) -> None:
    """Compute softmax(Q K^T / sqrt(width)) V.

    Args:
        queries: Address of bfloat16 [tokens, width], tokens `stride` bytes apart.
        keys: Likewise.
        values: Likewise.
        outputs: Likewise.
        stride: See `queries`.
        tokens: At least 1.
        width: Width of the head, even.
        scratch: Address of `scratch_bytes`, aligned to a line.
    """
    whole, wide = _strips(tokens) * ROWS, _strips(width) * ROWS
    scores = scratch + _SUMS_BYTES
    key_lines = scores + 4 * _TILE * max(whole, wide)
    value_lines = key_lines + 2 * whole * width
    weights = value_lines + 2 * wide * whole
    _lines_of_keys(keys, stride, tokens, width, key_lines)
    _lines_of_values(values, stride, tokens, width, value_lines)
    factor = _LOG2_E / np.float32(math.sqrt(width))
    pairs = (tokens + 1) // 2
    for first in range(0, tokens, _TILE):
        count = min(_TILE, tokens - first)
        _products(
            queries + stride * first, stride, count, key_lines, tokens, width // 2, scratch, scores, whole
        )
        totals = np.empty(_TILE, np.float32)
        for token in range(count):
            totals[token] = _softmax(scores + 4 * whole * token, weights + 2 * whole * token, tokens, factor)
        _products(weights, 2 * whole, count, value_lines, width, pairs, scratch, scores, wide)
        for token in range(count):
            attended = carray(floats(scores + 4 * wide * token), (width,))
            rounded = carray(halves(outputs + stride * (first + token)), (width,))
            share = _ONE / totals[token]
            for column in range(width):
                rounded[column] = to_bfloat16(attended[column] * share)
