"""Tiles: the inner loops of all precisions, and the choice among them."""

from collections.abc import Callable
from typing import Literal

from numba import njit

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.instructions import LINE, ROWS, float_tile, int8_tile, mask_lines
from masking.kernels.cpu.processor import lacks

FP32, BF16, INT8 = 0, 1, 2
TILE_TOKENS = 8, 8, 12
"""By precision, most tokens of a tile."""
PANEL_STRIPS = 3, 3, 2
"""By precision, strips of a panel. Sums of either shape leave 8 of 32 registers."""
SUMS_BYTES = 4 * ROWS * 3 * 8
"""Bytes of the sums of a tile."""


@njit(nogil=True)
def _no_floats(  # noqa: PLR0913, PLR0917 (the arguments of `float_tile`)
    tokens: int,
    lines: int,
    stride: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
) -> None:
    """Stand for instructions that can't be compiled here; `choose_precision` never comes to it."""


@njit(nogil=True)
def _no_int8(  # noqa: PLR0913, PLR0917 (the arguments of `int8_tile`)
    tokens: int,
    lines: int,
    stride: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
    row_sums: int,
    row_scales: int,
    scales: int,
    zeros: int,
) -> None:
    """Stand for instructions that can't be compiled here; see `_no_floats`."""


def _floats(precision: Literal["fp32", "bf16"], strips: int, masked: bool) -> Callable[..., None]:
    return _no_floats if lacks(precision) else float_tile(precision, strips, 8, masked=masked)


def _int8(strips: int, masked: bool) -> Callable[..., None]:
    return _no_int8 if lacks("int8") else int8_tile(strips, 12, masked=masked)


_wide_fp32, _thin_fp32 = _floats("fp32", 3, True), _floats("fp32", 1, True)
_wide_plain_fp32, _thin_plain_fp32 = _floats("fp32", 3, False), _floats("fp32", 1, False)
_wide_bf16, _thin_bf16 = _floats("bf16", 3, True), _floats("bf16", 1, True)
_wide_plain_bf16, _thin_plain_bf16 = _floats("bf16", 3, False), _floats("bf16", 1, False)
_wide_int8, _thin_int8 = _int8(2, True), _int8(1, True)
_wide_plain_int8, _thin_plain_int8 = _int8(2, False), _int8(1, False)
_mask_bf16, _mask_int8 = mask_lines("bf16"), mask_lines("int8")


@njit(nogil=True, cache=CACHED)
def multiply_bf16(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    strips: int,
    tokens: int,
    lines: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
) -> None:
    """Multiply one tile in bfloat16.

    Args:
        strips: That of `PANEL_STRIPS`, or 1.
        tokens: 1 to that of `TILE_TOKENS`.
        lines: Address of lines [strips, groups].
        words: Address of words [strips, groups]; 0 to multiply the lines as they are.
        word_stride: Bytes from strip to strip of words.
        inputs: Address of the first token.
        input_stride: Bytes from token to token.
        groups: Groups of columns.
        sums: Address of float32 [tokens, strips * 16].
    """
    stride = LINE * groups
    if words == 0 and strips > 1:
        _wide_plain_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif words == 0:
        _thin_plain_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif strips > 1:
        _wide_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    else:
        _thin_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)


@njit(nogil=True, cache=CACHED)
def multiply_fp32(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    strips: int,
    tokens: int,
    lines: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
) -> None:
    """Multiply one tile in float32: see `multiply_bf16`."""
    stride = LINE * groups
    if words == 0 and strips > 1:
        _wide_plain_fp32(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif words == 0:
        _thin_plain_fp32(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif strips > 1:
        _wide_fp32(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    else:
        _thin_fp32(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)


@njit(nogil=True, cache=CACHED)
def multiply_int8(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    strips: int,
    tokens: int,
    lines: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
    rows_sum: int,
    rows_scale: int,
    scales: int,
    zeros: int,
) -> None:
    """Multiply one tile in 8 bits: see `multiply_bf16`, and `int8_tile` for the last four arguments."""
    one, two = LINE * groups, word_stride
    if words == 0 and strips > 1:
        _wide_plain_int8(
            *(tokens, lines, one, words, two, inputs, input_stride, groups, sums),
            *(rows_sum, rows_scale, scales, zeros),
        )
    elif words == 0:
        _thin_plain_int8(
            *(tokens, lines, one, words, two, inputs, input_stride, groups, sums),
            *(rows_sum, rows_scale, scales, zeros),
        )
    elif strips > 1:
        _wide_int8(
            *(tokens, lines, one, words, two, inputs, input_stride, groups, sums),
            *(rows_sum, rows_scale, scales, zeros),
        )
    else:
        _thin_int8(
            *(tokens, lines, one, words, two, inputs, input_stride, groups, sums),
            *(rows_sum, rows_scale, scales, zeros),
        )


@njit(nogil=True, cache=CACHED)
def mask_panel(
    eight: bool, strips: int, lines: int, words: int, word_stride: int, groups: int, target: int
) -> None:
    """Write the lines of some strips under a mask to `target`; see `multiply_bf16`."""
    for strip in range(strips):
        moved = LINE * groups * strip
        if eight:
            _mask_int8(target + moved, lines + moved, words + word_stride * strip, groups)
        else:
            _mask_bf16(target + moved, lines + moved, words + word_stride * strip, groups)
