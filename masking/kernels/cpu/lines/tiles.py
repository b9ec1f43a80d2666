"""Tiles: the inner loops of all precisions and instruction sets, and the choice among them."""

from collections.abc import Callable

from numba import njit

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines import registers
from masking.kernels.cpu.lines.elementwise import scale_sums
from masking.kernels.cpu.lines.instructions import LINE, WIDE, mask_lines, tile
from masking.kernels.cpu.lines.weights import ROWS
from masking.kernels.cpu.processor import LinePrecision, lacks

FP32, BF16, INT8, BF16_REGISTERS, INT8_REGISTERS = range(5)
"""Kinds of tiles: a precision, multiplied in vector registers or in AMX's tile registers."""
ELEMENT = 4, 2, 1, 2, 1
"""By kind, bytes of a weight and of a product's input."""
TILE_TOKENS = (8 if WIDE else 6), 8, 12, registers.MOST_TOKENS, registers.MOST_TOKENS
"""By kind, most tokens of a tile."""
PANEL_STRIPS = (3 if WIDE else 1), 3, 2, 8, 8
"""By kind, strips of a panel. Sums of the vector tiles leave 8 of 32 registers, or 4 of AVX2's 16; inputs are
read once for a panel, which the second level of the cache holds."""
SAME_TASK_TILES = 0, 8, 8, 3, 3
"""By kind, from so many tiles of one task on its lines are masked once for all of them; 0 for never."""
SUMS_BYTES = tuple(
    4 * ROWS * strips * tokens for strips, tokens in zip(PANEL_STRIPS, TILE_TOKENS, strict=True)
)
"""By kind, bytes of the sums of a tile."""


@njit(nogil=True)
def _no_tile(*_arguments: int) -> None:
    """Stand for instructions that can't be compiled here; nobody chooses a kind that needs them."""


def _tile(kind: int, precision: LinePrecision) -> Callable[..., None]:
    return _no_tile if lacks(precision) else tile(precision, PANEL_STRIPS[kind], TILE_TOKENS[kind])


def _register_tile(precision: registers.NarrowPrecision) -> Callable[..., None]:
    return registers.register_tile(precision) if precision in registers.COMPILED else _no_tile


_fp32, _bf16, _int8 = _tile(FP32, "fp32"), _tile(BF16, "bf16"), _tile(INT8, "int8")
multiply_in_registers, _int8_registers = _register_tile("bf16"), _register_tile("int8")
"""`register_tile` of bfloat16; and of 8 bits."""
_mask_bf16, _mask_int8 = mask_lines("bf16"), mask_lines("int8")


@njit(nogil=True, cache=CACHED)
def multiply(  # noqa: PLR0913, PLR0917 (addresses and sizes)
    kind: int,
    strips: int,
    tokens: int,
    lines: int,
    words: int,
    word_stride: int,
    inputs: int,
    input_stride: int,
    groups: int,
    sums: int,
    ahead: int,
    apart: int,
    row_sums: int,
    row_scales: int,
    scales: int,
    zeros: int,
    following: int,
) -> None:
    """Multiply one tile of a kind; the other arguments are those of `tile` and of `register_tile`.

    Tile registers are configured for so many tokens, see `registers.configure`.
    """
    if kind == INT8:
        _int8(
            *(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, ahead, apart),
            *(row_sums, row_scales, scales, zeros),
        )
    elif kind == BF16:
        _bf16(
            *(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, ahead, apart),
            *(0, 0, 0, 0),
        )
    elif kind == FP32:
        _fp32(
            *(strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, ahead, apart),
            *(0, 0, 0, 0),
        )
    elif kind == BF16_REGISTERS:
        multiply_in_registers(
            *(
                strips,
                tokens,
                lines,
                words,
                word_stride,
                inputs,
                input_stride,
                groups,
                sums,
                LINE * strips,
                following,
            )
        )
    else:
        _int8_registers(
            *(
                strips,
                tokens,
                lines,
                words,
                word_stride,
                inputs,
                input_stride,
                groups,
                sums,
                LINE * strips,
                following,
            )
        )
        scale_sums(sums, tokens, ROWS * strips, row_sums, row_scales, scales, zeros)


@njit(nogil=True, cache=CACHED)
def mask_panel(
    kind: int, strips: int, lines: int, words: int, word_stride: int, groups: int, target: int
) -> None:
    """Write the lines of some strips under a mask to `target`, in bfloat16 or 8 bits; see `tile`."""
    for strip in range(strips):
        moved = LINE * groups * strip
        if ELEMENT[kind] == 1:
            _mask_int8(target + moved, lines + moved, words + word_stride * strip, groups)
        else:
            _mask_bf16(target + moved, lines + moved, words + word_stride * strip, groups)
