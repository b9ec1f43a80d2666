"""Tiles: the inner loops of both precisions, and the choice among them."""

from collections.abc import Callable

from numba import njit

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.narrow.instructions import LINE, mask_lines, multiply_tile
from masking.kernels.cpu.processor import NarrowPrecision, lacks

TILE_TOKENS = 8
PANEL_STRIPS = 3  # 3 strips x 8 tokens of sums leave 8 of 32 registers


@njit(nogil=True)
def _no_tile(  # noqa: PLR0913, PLR0917 (the arguments of `multiply_tile`)
    tokens: int,
    lines: int,
    stride: int,
    words: int,
    word_stride: int,
    inputs: int,
    size: int,
    groups: int,
    sums: int,
) -> None:
    """Stand for instructions that can't be compiled here; `choose_precision` never comes to it."""


def _tiles(precision: NarrowPrecision, masked: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the inner loops for a whole panel and for a strip; see `_no_tile`."""
    if lacks(precision):
        return _no_tile, _no_tile
    wide, thin = (multiply_tile(precision, n, TILE_TOKENS, masked=masked) for n in (PANEL_STRIPS, 1))
    return wide, thin


_wide_bf16, _thin_bf16 = _tiles("bf16", True)
_wide_plain_bf16, _thin_plain_bf16 = _tiles("bf16", False)
_wide_int8, _thin_int8 = _tiles("int8", True)
_wide_plain_int8, _thin_plain_int8 = _tiles("int8", False)
_mask_bf16, _mask_int8 = mask_lines("bf16"), mask_lines("int8")


@njit(nogil=True, cache=CACHED)
def multiply(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    eight: bool,
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
    """Multiply one tile.

    Args:
        eight: Whether operands are integers of 8 bits; else they are bfloat16.
        strips: `PANEL_STRIPS` or 1.
        tokens: 1 to `TILE_TOKENS`.
        lines: Address of lines [strips, groups].
        words: Address of words [strips, groups]; 0 to multiply the lines as they are.
        word_stride: Bytes from strip to strip of words.
        inputs: Address of the first token.
        input_stride: Bytes from token to token.
        groups: Groups of columns.
        sums: Address of float32 or int32 [tokens, strips * 16].
    """
    stride = LINE * groups
    if eight:
        if words == 0 and strips == PANEL_STRIPS:
            _wide_plain_int8(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
        elif words == 0:
            _thin_plain_int8(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
        elif strips == PANEL_STRIPS:
            _wide_int8(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
        else:
            _thin_int8(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif words == 0 and strips == PANEL_STRIPS:
        _wide_plain_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif words == 0:
        _thin_plain_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    elif strips == PANEL_STRIPS:
        _wide_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)
    else:
        _thin_bf16(tokens, lines, stride, words, word_stride, inputs, input_stride, groups, sums)


@njit(nogil=True, cache=CACHED)
def mask_panel(
    eight: bool, strips: int, lines: int, words: int, word_stride: int, groups: int, target: int
) -> None:
    """Write the lines of some strips under a mask to `target`; see `multiply`."""
    for strip in range(strips):
        moved = LINE * groups * strip
        if eight:
            _mask_int8(target + moved, lines + moved, words + word_stride * strip, groups)
        else:
            _mask_bf16(target + moved, lines + moved, words + word_stride * strip, groups)
