"""CPU kernel: which tile of the masked matrix product is computed when, and by which thread.

A job is one block of int64 (see `Job`): addresses and sizes, valid while it runs. Every thread calls
`work` with the job's address and takes pieces from a shared counter until none is left, so threads that
another program slows down take less. Two phases, with a barrier of the caller's between them:

  pack      each tile of tokens is transposed to [columns, tokens], once for all output rows
  multiply  each panel of output rows: its weights transposed to [columns, rows], then every tile of every
            segment multiplied with them, under the bits of the segment's task

So W is read once per call whatever the number of tasks, and stays in L2 while all of them use it.
Needs numba; `masking.kernels.cpu.launch` is the only caller, and does all checking.
"""

from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numba import cfunc, njit, types
from numpy.typing import NDArray

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.llvm import (
    STRIP,
    copy_float,
    fetch_add,
    load_int,
    multiply_tile,
    transpose_8x8,
)
from masking.kernels.cpu.processor import features

# Register tiles: 3 x 16 rows x 8 tokens leaves 8 of 32 512-bit registers, 2 x 8 rows x 6 tokens leaves 4 of
# 16 256-bit ones.
LANES, VECTORS, TILE_TOKENS = (16, 3, 8) if "avx512f" in features() else (8, 2, 6)
PANEL = LANES * VECTORS
SLACK = 64
"""Bytes between packed tiles, which the transposition of the tile before may overwrite."""
_EIGHT, _FLOAT, _LINE = 8, 4, 64
# Transposing 8 x 8 bits: by how much which bits change places with those above the diagonal.
_SWAPS = (
    (np.uint64(7), np.uint64(0x00AA00AA00AA00AA)),
    (np.uint64(14), np.uint64(0x0000CCCC0000CCCC)),
    (np.uint64(28), np.uint64(0x00000000F0F0F0F0)),
)

UInt8s: TypeAlias = NDArray[np.uint8]
UInt16s: TypeAlias = NDArray[np.uint16]

_wide_tile = multiply_tile(LANES, VECTORS, TILE_TOKENS)
_narrow_tile = _wide_tile if PANEL == STRIP else multiply_tile(LANES, STRIP // LANES, TILE_TOKENS)


class Job(IntEnum):
    """What each int64 of a job is. Addresses are of contiguous memory."""

    PHASE = 0
    """0: pack, 1: multiply."""
    ROWS = 1
    COLUMNS = 2
    WEIGHT = 3
    """Address of float32 [rows, columns]."""
    BIAS = 4
    """Address of float32 [rows, rounded up to whole strips]."""
    INPUTS = 5
    """Address of float32 [tokens, columns]."""
    OUTPUTS = 6
    """Address of float32 [tokens, rows]."""
    TILES = 7
    """Address of int64 [tiles, 3]: first token, tokens, segment."""
    TILE_COUNT = 8
    MASKS = 9
    """Address of int64 [segments, 2]: address of the mask's strips, bytes from strip to strip."""
    PACKED_INPUTS = 10
    """Address of room for the packed tiles: tokens * columns floats and `SLACK` bytes per tile."""
    SCRATCH = 11
    """Address of one room per thread; see `scratch_bytes`."""
    SCRATCH_BYTES = 12
    NEXT_TILE = 13
    NEXT_PANEL = 14
    NEXT_SLOT = 15


_SIZE = 8
_PHASE, _ROWS, _COLUMNS = (_SIZE * one for one in (Job.PHASE, Job.ROWS, Job.COLUMNS))
_WEIGHT, _BIAS = _SIZE * Job.WEIGHT, _SIZE * Job.BIAS
_INPUTS, _OUTPUTS = _SIZE * Job.INPUTS, _SIZE * Job.OUTPUTS
_TILES, _TILE_COUNT, _MASKS = (_SIZE * one for one in (Job.TILES, Job.TILE_COUNT, Job.MASKS))
_PACKED_INPUTS, _SCRATCH = _SIZE * Job.PACKED_INPUTS, _SIZE * Job.SCRATCH
_SCRATCH_BYTES = _SIZE * Job.SCRATCH_BYTES
_NEXT_TILE, _NEXT_PANEL, _NEXT_SLOT = (_SIZE * one for one in (Job.NEXT_TILE, Job.NEXT_PANEL, Job.NEXT_SLOT))


def scratch_bytes(columns: int) -> int:
    """Return the bytes that each thread needs: a packed panel, a tile of outputs, both with slack."""
    return _FLOAT * (PANEL * columns + STRIP * TILE_TOKENS) + 4 * _LINE


@njit(nogil=True, cache=CACHED)
def _transpose(source: int, rows: int, columns: int, width: int, target: int) -> None:
    """float32 [rows, columns] to [columns, width]; rows from `rows` to `width` repeat the last.

    May write up to 28 bytes after the target where `width` is not a multiple of 8.
    """
    stride, spacing = _FLOAT * columns, _FLOAT * width
    whole = columns - columns % _EIGHT
    for first in range(0, width, _EIGHT):
        valid = max(1, min(_EIGHT, rows - first))
        base = source + min(first, rows - 1) * stride
        for column in range(0, whole, _EIGHT):
            place = target + column * spacing + _FLOAT * first
            transpose_8x8(base + _FLOAT * column, stride, valid, place, spacing)
    for column in range(whole, columns):
        for row in range(width):
            origin = source + min(row, rows - 1) * stride + _FLOAT * column
            copy_float(origin, target + column * spacing + _FLOAT * row)


@njit(nogil=True, cache=CACHED)
def _pack_tile(job: int, tile: int) -> None:
    columns = load_int(job + _COLUMNS)
    entry = load_int(job + _TILES) + 3 * _SIZE * tile
    first, tokens = load_int(entry), load_int(entry + _SIZE)
    source = load_int(job + _INPUTS) + _FLOAT * columns * first
    target = load_int(job + _PACKED_INPUTS) + _FLOAT * columns * first + SLACK * tile
    _transpose(source, tokens, columns, tokens, target)


@njit(nogil=True, cache=CACHED)
def _pack_panel(job: int, first: int, width: int, scratch: int) -> None:
    """Pack a panel's weights into `scratch`, as [columns, width]."""
    columns, rows = load_int(job + _COLUMNS), load_int(job + _ROWS) - first
    source = load_int(job + _WEIGHT) + _FLOAT * columns * first
    _transpose(source, min(rows, width), columns, width, scratch)


@njit(nogil=True, cache=CACHED)
def _multiply_panel(job: int, first: int, width: int, scratch: int) -> None:
    """All tiles of all segments with the output rows from `first` on."""
    rows, columns = load_int(job + _ROWS), load_int(job + _COLUMNS)
    _pack_panel(job, first, width, scratch)
    bias = load_int(job + _BIAS) + _FLOAT * first
    valid = min(width, rows - first)
    aside = scratch + _FLOAT * PANEL * columns + 2 * _LINE
    for tile in range(load_int(job + _TILE_COUNT)):
        entry = load_int(job + _TILES) + 3 * _SIZE * tile
        token, tokens, segment = load_int(entry), load_int(entry + _SIZE), load_int(entry + 2 * _SIZE)
        mask = load_int(job + _MASKS) + 2 * _SIZE * segment
        stride = load_int(mask + _SIZE)
        bits = load_int(mask) + first // STRIP * stride
        inputs = load_int(job + _PACKED_INPUTS) + _FLOAT * columns * token + SLACK * tile
        outputs = load_int(job + _OUTPUTS) + _FLOAT * (rows * token + first)
        if width == PANEL and valid == PANEL:
            _wide_tile(tokens, scratch, bits, stride, inputs, columns, outputs, _FLOAT * rows, bias)
        elif valid == STRIP:
            _narrow_tile(tokens, scratch, bits, stride, inputs, columns, outputs, _FLOAT * rows, bias)
        else:
            _narrow_tile(tokens, scratch, bits, stride, inputs, columns, aside, _FLOAT * STRIP, bias)
            for one in range(tokens):
                for row in range(valid):
                    copy_float(aside + _FLOAT * (STRIP * one + row), outputs + _FLOAT * (rows * one + row))


@njit(nogil=True, cache=CACHED)
def panel_of(rows: int, index: int) -> tuple[int, int]:
    """First row and width of a panel: wide ones while three strips are whole, then single strips."""
    wide = rows // PANEL
    if index < wide:
        return index * PANEL, PANEL
    return wide * PANEL + (index - wide) * STRIP, STRIP


@njit(nogil=True, cache=CACHED)
def panel_count(rows: int) -> int:
    """Return the panels of a layer with that many rows."""
    return rows // PANEL + (rows % PANEL + STRIP - 1) // STRIP


@njit(nogil=True, cache=CACHED)
def work(job: int) -> None:
    """One thread's share of a phase of the job at an address."""
    if load_int(job + _PHASE) == 0:
        tiles = load_int(job + _TILE_COUNT)
        tile = fetch_add(job + _NEXT_TILE, 1)
        while tile < tiles:
            _pack_tile(job, tile)
            tile = fetch_add(job + _NEXT_TILE, 1)
        return
    scratch = load_int(job + _SCRATCH) + load_int(job + _SCRATCH_BYTES) * fetch_add(job + _NEXT_SLOT, 1)
    rows = load_int(job + _ROWS)
    panels = panel_count(rows)
    panel = fetch_add(job + _NEXT_PANEL, 1)
    while panel < panels:
        first, width = panel_of(rows, panel)
        _multiply_panel(job, first, width, scratch)
        panel = fetch_add(job + _NEXT_PANEL, 1)


@cfunc(types.void(types.intp), nopython=True, cache=CACHED)
def work_function(job: int) -> None:
    """`work` as a C function void(int64 *)."""
    work(job)


@njit("uint64(uint8[:, ::1], int64, int64, int64)", nogil=True, cache=CACHED)
def _eight_words(packed: UInt8s, first: int, last: int, byte: int) -> np.uint64:
    """One byte of each of 8 rows, transposed as 8 x 8 bits; rows from `last` on count as zeros."""
    bits = np.uint64(0)
    for row in range(first, min(first + _EIGHT, last)):
        bits |= np.uint64(packed[row, byte]) << np.uint64(_EIGHT * (row - first))
    for shift, kept in _SWAPS:
        moved = (bits ^ (bits >> shift)) & kept
        bits = bits ^ moved ^ (moved << shift)
    return bits


@njit("void(uint8[:, ::1], uint16[:, ::1])", nogil=True, cache=CACHED)
def strips_of_bits(packed: UInt8s, strips: UInt16s) -> None:
    """Turn rows of bits into strips: from bit (row, column) to bit row % 16 of word (row // 16, column).

    Args:
        packed: uint8 [rows, ceil(columns / 8)].
        strips: uint16 [ceil(rows / 16), columns], all written.
    """
    rows, columns = packed.shape[0], strips.shape[1]
    ones = np.uint64(255)
    for strip in range(strips.shape[0]):
        for byte in range(packed.shape[1]):
            low = _eight_words(packed, strip * STRIP, rows, byte)
            high = _eight_words(packed, strip * STRIP + _EIGHT, rows, byte)
            for bit in range(min(_EIGHT, columns - _EIGHT * byte)):
                shift = np.uint64(_EIGHT * bit)
                word = ((low >> shift) & ones) | (((high >> shift) & ones) << np.uint64(_EIGHT))
                strips[strip, _EIGHT * byte + bit] = np.uint16(word)
