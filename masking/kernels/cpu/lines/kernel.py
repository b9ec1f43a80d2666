"""Line kernel: which tile of which layer's product is computed when, and by which thread.

A job is one block of int64 (see `Job`): addresses and sizes, valid while it runs. Every thread calls
`work_function` with the address of some jobs. It takes pieces of a job from a shared counter until none is
left, and goes on to the next job when all pieces are done, whoever did them. Phases:

  QUANTISE   int8 only: each token is rounded to 8 bits, once for all layers that read it
  MULTIPLY   each panel of each layer's output rows times some of the tiles of tokens, under the bits of the
             tiles' tasks; the sums are finished while they lie in the cache
  ATTEND     each head of each row of tokens
  NORMALISE  each token's sums and residual through LayerNorm

Needs numba; `masking.kernels.cpu.lines.launch` is the only caller, and does all checking.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numpy.typing import NDArray

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.attention import attend
from masking.kernels.cpu.lines.elementwise import (
    FLOAT32,
    add_and_normalise,
    finish,
    floats,
    ints,
    quantise,
)
from masking.kernels.cpu.lines.instructions import LINE
from masking.kernels.cpu.lines.registers import configure, restore, save
from masking.kernels.cpu.lines.tiles import (
    BF16,
    BF16_REGISTERS,
    ELEMENT,
    FP32,
    INT8,
    INT8_REGISTERS,
    PANEL_STRIPS,
    SAME_TASK_TILES,
    SUMS_BYTES,
    TILE_TOKENS,
    mask_panel,
    multiply,
)
from masking.kernels.cpu.lines.weights import ROWS
from masking.kernels.cpu.llvm import fetch_add, field_of, pause, prefetch, yield_core
from masking.kernels.cpu.processor import LinePrecision, has_tiles

QUANTISE, MULTIPLY, NORMALISE, ATTEND = 0, 1, 2, 3
_TURNS = 1000  # of waiting for other threads before the core is left to them: some ten microseconds
PIECE_TOKENS = 8
"""Tokens of a piece of QUANTISE and NORMALISE."""


class Job(IntEnum):
    """What each int64 of a job is. Addresses are of contiguous memory."""

    PHASE = 0
    TOKENS = 1
    COLUMNS = 2
    INPUTS = 3
    """Address of [tokens, columns]: float32 for tiles of float32, else bfloat16."""
    TILES = 4
    """Address of int64 [tiles, 3]: first token, tokens, segment."""
    TILE_COUNT = 5
    CHUNKS = 6
    """Into how many chunks the tiles are divided: all panels of one, then all of the next."""
    LAYERS = 7
    """Address of int64 [layers, `Layer`]."""
    PANEL_COUNT = 8
    """Panels of all layers."""
    FINISH = 9
    """What becomes of the sums; see `elementwise.finish`."""
    SCRATCH = 10
    """Address of `scratch_bytes` per thread, aligned to a line."""
    LEVELS = 11
    """Address of uint8 [tokens, columns]: what is multiplied in 8 bits, and QUANTISE writes."""
    SCALES = 12
    """Address of float32 [tokens]."""
    ZEROS = 13
    """Address of int32 [tokens]."""
    RESIDUAL = 14
    """NORMALISE: address of [tokens, columns]; its sums are INPUTS, float32 [tokens, columns]."""
    GAIN = 15
    SHIFT = 16
    """Addresses of float32 [columns]."""
    EPSILON = 17
    """Address of a float32."""
    NORMALISED = 18
    """Address of [tokens, columns]."""
    KEYS = 19
    """ATTEND: address of bfloat16 [tokens, columns]; its queries are INPUTS."""
    VALUES = 20
    ATTENDED = 21
    """Likewise."""
    ROW_STARTS = 22
    """Address of int64 [rows + 1]: first token of each row, then the number of tokens."""
    HEADS = 23
    SCRATCH_BYTES = 24
    KIND = 25
    """Of the tiles; ATTEND: BF16 or BF16_REGISTERS; NORMALISE: FP32 if residual and outputs are float32."""
    PIECES = 26
    NEXT_PIECE = 27
    DONE_PIECES = 28
    NEXT_SLOT = 29


class Layer(IntEnum):
    """What each int64 of a layer is."""

    ROWS = 0
    LINES = 1
    """Address of lines [strips, groups]."""
    BIAS = 2
    """Address of float32 [rows]."""
    ROW_SCALES = 3
    """8 bits: address of float32 [strips * 16]."""
    MASKS = 4
    """Address of int64 [segments, 3]: address of the words or 0 for no mask, bytes from strip to strip, and
    in 8 bits the address of int32 [strips * 16], the rows' sums."""
    OUTPUTS = 5
    """Address of [tokens, rows], bfloat16 or float32."""


_INT = 8
_JOB_BYTES, _LAYER_BYTES = _INT * len(Job), _INT * len(Layer)
_TILE_BYTES = _INT * 3


def kind_of_tile(precision: LinePrecision) -> int:
    """Return the kind of tile that multiplies a precision on this processor."""
    vectors, registers = {
        "fp32": (FP32, FP32),
        "bf16": (BF16, BF16_REGISTERS),
        "int8": (INT8, INT8_REGISTERS),
    }[precision]
    return registers if has_tiles(precision) else vectors


def tile_tokens(kind: int) -> int:
    """Return the most tokens of a tile."""
    return TILE_TOKENS[kind]


def scratch_bytes(columns: int, kind: int) -> int:
    """Return the bytes that each thread needs: a tile's sums, a panel's lines, and what `save` keeps."""
    return SUMS_BYTES[kind] + PANEL_STRIPS[kind] * ROWS * columns * ELEMENT[kind] + LINE


@njit(nogil=True, inline="always")
def _prefetch(address: int, size: int) -> None:
    """Ask for what is read next, so that it is there in time."""
    for place in range(address, address + size, LINE):
        prefetch(place)


@njit(nogil=True, cache=CACHED)
def _multiply_panel(
    job: int, layer: int, strip: int, strips: int, first: int, last: int, scratch: int
) -> None:
    """Tiles `first` to `last` - 1 with `strips` strips of a layer's output rows."""
    kind, columns, finishing = field_of(job, Job.KIND), field_of(job, Job.COLUMNS), field_of(job, Job.FINISH)
    rows, row, tiles = field_of(layer, Layer.ROWS), ROWS * strip, field_of(job, Job.TILES)
    valid, spacing = min(ROWS * strips, rows - row), ROWS * strips
    element, size = ELEMENT[kind], 4 if finishing >= FLOAT32 else 2
    inputs = field_of(job, Job.LEVELS if element == 1 else Job.INPUTS)
    apart, groups = element * columns, columns * element // 4
    lines = field_of(layer, Layer.LINES) + ROWS * apart * strip
    bias, row_scales = field_of(layer, Layer.BIAS) + 4 * row, field_of(layer, Layer.ROW_SCALES) + 4 * row
    masked_segment, masked, before, configured = -1, scratch + SUMS_BYTES[kind], -1, 0
    final, enough = field_of(tiles + _TILE_BYTES * (last - 1), 2), SAME_TASK_TILES[kind]
    ahead, ahead_apart = lines + ROWS * apart * strips * field_of(job, Job.NEXT_SLOT), LINE // (last - first)
    for tile in range(first, last):
        entry = tiles + _TILE_BYTES * tile
        token, tokens, segment = field_of(entry, 0), field_of(entry, 1), field_of(entry, 2)
        mask = field_of(layer, Layer.MASKS) + 3 * _INT * segment
        stride, words, read = field_of(mask, 1), field_of(mask, 0), lines
        if words != 0:
            words += stride * strip
            if enough != 0:
                again, further = masked_segment == segment, tile + enough - 1
                if not again and further < last and field_of(tiles + _TILE_BYTES * further, 2) == segment:
                    mask_panel(kind, strips, lines, words, stride, groups, masked)
                    masked_segment, again = segment, True
                if again:
                    words, read = 0, masked
        following = words
        if segment < final:
            following = field_of(mask, 3) + field_of(mask, 4) * strip
            if kind < BF16_REGISTERS and segment != before:
                _prefetch(following, field_of(mask, 4) * strips)
        before = segment
        if kind >= BF16_REGISTERS and tokens != configured:
            configure(tokens)
            configured = tokens
        multiply(
            *(kind, strips, tokens, read, words, stride, inputs + apart * token, apart, groups, scratch),
            *(ahead + ahead_apart * groups * (tile - first), ahead_apart),
            *(field_of(mask, 2) + 4 * row, row_scales),
            *(field_of(job, Job.SCALES) + 4 * token, field_of(job, Job.ZEROS) + 4 * token, following),
        )
        outputs = field_of(layer, Layer.OUTPUTS) + size * (rows * token + row)
        finish(finishing, scratch, spacing, tokens, valid, bias, outputs, size * rows)


@njit(nogil=True, cache=CACHED)
def panel_count(rows: int, kind: int) -> int:
    """Return the panels of a layer: whole ones, then the rest, which vector tiles take strip by strip."""
    strips, wide = (rows + ROWS - 1) // ROWS, PANEL_STRIPS[kind]
    rest = strips % wide
    return strips // wide + (min(rest, 1) if kind >= BF16_REGISTERS else rest)


@njit(nogil=True, cache=CACHED)
def _multiply_piece(job: int, piece: int, scratch: int) -> None:
    """Multiply a chunk of tiles with a panel."""
    chunks, tiles, kind = field_of(job, Job.CHUNKS), field_of(job, Job.TILE_COUNT), field_of(job, Job.KIND)
    panels, wide = field_of(job, Job.PANEL_COUNT), PANEL_STRIPS[kind]
    panel, chunk = piece % panels, piece // panels
    first, last = tiles * chunk // chunks, tiles * (chunk + 1) // chunks
    layer = field_of(job, Job.LAYERS)
    while panel >= panel_count(field_of(layer, Layer.ROWS), kind):
        panel -= panel_count(field_of(layer, Layer.ROWS), kind)
        layer += _LAYER_BYTES
    total = (field_of(layer, Layer.ROWS) + ROWS - 1) // ROWS
    whole = total // wide
    strip, strips = wide * panel, wide
    if panel >= whole:
        rest = total - wide * whole
        strip, strips = (strip, rest) if kind >= BF16_REGISTERS else (wide * whole + panel - whole, 1)
    _multiply_panel(job, layer, strip, strips, first, last, scratch)


@njit(nogil=True, cache=CACHED)
def _attend_piece(job: int, piece: int, scratch: int) -> None:
    """Compute a head of a row."""
    heads, columns = field_of(job, Job.HEADS), field_of(job, Job.COLUMNS)
    row, head = piece // heads, piece % heads
    starts = field_of(job, Job.ROW_STARTS) + _INT * row
    first, width = field_of(starts, 0), columns // heads
    moved = 2 * (columns * first + width * head)
    attend(
        field_of(job, Job.KIND),
        field_of(job, Job.INPUTS) + moved,
        field_of(job, Job.KEYS) + moved,
        field_of(job, Job.VALUES) + moved,
        field_of(job, Job.ATTENDED) + moved,
        2 * columns,
        field_of(starts, 1) - first,
        width,
        scratch,
    )


@njit(nogil=True, cache=CACHED)
def _quantise_token(job: int, token: int) -> None:
    columns = field_of(job, Job.COLUMNS)
    inputs, levels = (
        field_of(job, Job.INPUTS) + 2 * columns * token,
        field_of(job, Job.LEVELS) + columns * token,
    )
    scale, zero = quantise(inputs, columns, levels)
    carray(floats(field_of(job, Job.SCALES)), (token + 1,))[token] = scale
    carray(ints(field_of(job, Job.ZEROS)), (token + 1,))[token] = zero


@njit(nogil=True, cache=CACHED)
def _normalise_token(job: int, token: int) -> None:
    columns, wide = field_of(job, Job.COLUMNS), field_of(job, Job.KIND) == FP32
    size = (4 if wide else 2) * columns
    add_and_normalise(
        wide,
        field_of(job, Job.INPUTS) + 4 * columns * token,
        field_of(job, Job.RESIDUAL) + size * token,
        columns,
        field_of(job, Job.GAIN),
        field_of(job, Job.SHIFT),
        carray(floats(field_of(job, Job.EPSILON)), (1,))[0],
        field_of(job, Job.NORMALISED) + size * token,
    )


@njit(nogil=True, cache=CACHED)
def _work_on_piece(job: int, piece: int, scratch: int) -> None:
    phase = field_of(job, Job.PHASE)
    if phase == MULTIPLY:
        _multiply_piece(job, piece, scratch)
    elif phase == ATTEND:
        _attend_piece(job, piece, scratch)
    else:
        for token in range(PIECE_TOKENS * piece, min(PIECE_TOKENS * (piece + 1), field_of(job, Job.TOKENS))):
            if phase == QUANTISE:
                _quantise_token(job, token)
            else:
                _normalise_token(job, token)


@njit(nogil=True, cache=CACHED)
def _work(job: int) -> None:
    """One thread's share of the job at an address; on return all of it is done.

    Once all pieces count as done, other threads may be at the next job, whose scratch may be the same memory.
    """
    pieces, size = field_of(job, Job.PIECES), field_of(job, Job.SCRATCH_BYTES)
    scratch = field_of(job, Job.SCRATCH) + size * fetch_add(job + _INT * Job.NEXT_SLOT, 1)
    registers = size > 0 and field_of(job, Job.KIND) >= BF16_REGISTERS
    piece = fetch_add(job + _INT * Job.NEXT_PIECE, 1)
    if registers and piece < pieces:
        save(scratch + size - LINE)
    while piece < pieces:
        _work_on_piece(job, piece, scratch)
        piece = fetch_add(job + _INT * Job.NEXT_PIECE, 1)
        if registers and piece >= pieces:
            restore(scratch + size - LINE)
        fetch_add(job + _INT * Job.DONE_PIECES, 1)
    turns = 0
    while fetch_add(job + _INT * Job.DONE_PIECES, 0) < pieces:
        if turns < _TURNS:
            pause()
        else:
            yield_core()
        turns += 1


@cfunc(types.void(types.intp), nopython=True, cache=CACHED)
def work_function(jobs: int) -> None:
    """C function void(int64 *): one thread's share of the jobs at an address, after their number."""
    for number in range(field_of(jobs, 0)):
        _work(jobs + _INT + _JOB_BYTES * number)


def _words_of_bits(group: int, kind: Any) -> Callable[[NDArray[np.uint8], NDArray[Any]], None]:
    """Make the function that turns rows of bits into words for lines of `group` columns.

    Bit group * r + c of a word is column c of row r of its strip. The function's arguments:

      packed  uint8 [rows, ceil(columns / 8)]
      words   `kind` [ceil(rows / 16), groups], all zero before
    """
    in_byte, ones = 8 // group, kind((1 << group) - 1)

    @njit(f"void(uint8[:, ::1], {np.dtype(kind).name}[:, ::1])", nogil=True, cache=CACHED)
    def turn(packed: NDArray[np.uint8], words: NDArray[Any]) -> None:
        for row in range(packed.shape[0]):
            strip, shift = row // ROWS, kind(group * (row % ROWS))
            for place in range(words.shape[1]):
                bits = kind(packed[row, place // in_byte]) >> kind(group * (place % in_byte))
                words[strip, place] |= (bits & ones) << shift

    chosen: Callable[[NDArray[np.uint8], NDArray[Any]], None] = turn
    return chosen


words_of_pairs, words_of_fours = _words_of_bits(2, np.uint32), _words_of_bits(4, np.uint64)
