"""Tiles: the inner loops of all precisions, and the choice among them."""

from collections.abc import Callable

from numba import njit

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.instructions import LINE, mask_lines, tile
from masking.kernels.cpu.lines.weights import ROWS
from masking.kernels.cpu.processor import LinePrecision, lacks

FP32, BF16, INT8 = 0, 1, 2
TILE_TOKENS = 8, 8, 12
"""By precision, most tokens of a tile."""
PANEL_STRIPS = 3, 3, 2
"""By precision, strips of a panel. Sums of either shape leave 8 of 32 registers."""
SUMS_BYTES = 4 * ROWS * 3 * 8
"""Bytes of the sums of a tile."""


@njit(nogil=True)
def _no_tile(  # noqa: PLR0913, PLR0917 (the arguments of `tile`)
    strips: int,
    tokens: int,
    lines: int,
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
    """Stand for instructions that can't be compiled here; `choose_precision` never comes to it."""


def _tile(number: int, precision: LinePrecision) -> Callable[..., None]:
    return _no_tile if lacks(precision) else tile(precision, PANEL_STRIPS[number], TILE_TOKENS[number])


_fp32, _bf16, _int8 = _tile(FP32, "fp32"), _tile(BF16, "bf16"), _tile(INT8, "int8")
_mask_bf16, _mask_int8 = mask_lines("bf16"), mask_lines("int8")


@njit(nogil=True, cache=CACHED)
def multiply(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    precision: int,
    strips: int,
    tokens: int,
    lines: int,
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
    """Multiply one tile in a precision; the other arguments are those of `tile`."""
    if precision == INT8:
        _int8(
            *(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums),
            *(row_sums, row_scales, scales, zeros),
        )
    elif precision == BF16:
        _bf16(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, 0, 0, 0, 0)
    else:
        _fp32(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, 0, 0, 0, 0)


@njit(nogil=True, cache=CACHED)
def mask_panel(
    precision: int, strips: int, lines: int, words: int, word_stride: int, groups: int, target: int
) -> None:
    """Write the lines of some strips under a mask to `target`, in BF16 or INT8; see `tile`."""
    for strip in range(strips):
        moved = LINE * groups * strip
        if precision == INT8:
            _mask_int8(target + moved, lines + moved, words + word_stride * strip, groups)
        else:
            _mask_bf16(target + moved, lines + moved, words + word_stride * strip, groups)
