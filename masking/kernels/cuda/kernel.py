"""Triton kernel of the masked matrix product: one program computes a few tiles of outputs.

The product is computed transposed, (W * M) x^T: the weights are the left operand, which the tensor cores take
from registers, where they are masked; and they have the long side of a matrix instruction, tokens the short
one, so few tokens of a task fill theirs. Triton loads the weights from shared memory in the order of those
registers only if all that is combined with them is loaded, too. So the small tables of shifts and bytes that
a mask is applied with come from memory (`TABLES`), although they are constants.

Bits are loaded as words of 32 columns. A word is shifted so that the bit of each column becomes the highest
of a byte. In bfloat16 one instruction then spreads the highest bits of two bytes over the two halves of a
register, and another applies them to two weights: 2.5 instructions for two weights with the shifts.

A program holds one tile of weights at a time and multiplies it with `TILES` tiles of tokens, under the masks
of as many tasks. Programs that go through the same rows of the weight have adjacent numbers, so all but the
first find them in the L2 cache. So a weight is read from memory once per call, whatever the number of tasks.
Where that leaves multiprocessors idle, `SPLITS` programs share the columns of a tile: each writes its sums to
memory, and the last to finish adds them up, in a fixed order.

Subtracting x (W * (1 - M))^T from a product for all tasks, the other way without masked copies, has no kernel
here: its gathered multiplications would run beside the tensor cores at a small fraction of their rate, and a
few per cent of the weights would cost more than all of them do here.

Needs Triton; `masking.kernels.cuda.launch` is the only caller, and does all checking.
"""

from functools import partial
from typing import Any, no_type_check

import triton
import triton.language as tl
from triton.testing import do_bench

MOST_TILES = 4
"""Tables of tiles are filled up to a multiple of this."""
MOST_BLOCK_ROWS, MOST_SPLITS = 128, 8
"""The most of any configuration."""
WHOLE_COLUMNS = 128
"""A multiple of the columns of a step of any configuration."""
COUNTERS = 2**13
"""More than there are tiles of outputs where columns are split."""
TABLES = [
    *(7 - column for column in range(8)),
    *(0x80 << 8 * byte for byte in range(4)),
    *(0xCC88 + 0x1111 * byte for byte in range(4)),
    0xFFFFFFFF,
]
"""Shifts of a word per column of 8; the highest bit of each byte; for `prmt`, the selectors that spread it
from two registers; the word of a mask that keeps all."""
_MOST_SHARED_BYTES = 227 * 1024
_MOST_SUMS = 32 * 128
_BYTES_OF_BFLOAT16 = 2


@triton.jit
@no_type_check
def _apply_words(weights, words, shift, byte, PAIRS: tl.constexpr):
    """Set the weights whose bits are 0 to 0.

    Args:
        weights: [rows, 32 * words]; with PAIRS bfloat16, adjacent columns in one register.
        words: int32 [rows, words].
        shift: int32 [8], the first of `TABLES`.
        byte: int32 [4], the second of `TABLES`, with PAIRS the third.
        PAIRS: Whether to take two weights at a time.

    Returns:
        As `weights`.
    """
    rows: tl.constexpr = words.shape[0]
    count: tl.constexpr = words.shape[1]
    shifted = (words[:, :, None] << shift[None, None, :])[:, :, None, :]
    bits = tl.reshape(tl.broadcast_to(shifted, [rows, count, 4, 8]), [rows, 32 * count])
    bytes_ = tl.broadcast_to(byte[None, None, :, None], [1, count, 4, 8])
    bytes_ = tl.reshape(bytes_, [1, 32 * count])
    if PAIRS:
        masked = tl.inline_asm_elementwise(
            "{.reg .b32 kept; prmt.b32 kept, $2, $3, $4; and.b32 $0, $1, kept;}",
            "=r,r,r,r,r,r",
            [weights, bits, bytes_],
            dtype=tl.bfloat16,
            is_pure=True,
            pack=2,
        )
    else:
        masked = tl.where((bits & bytes_) != 0, weights, 0.0)
    return masked


@triton.jit
@no_type_check
def _write(total, bias, outputs, tile, row, token, rows):
    """Write the sums of one tile, with the bias.

    Args:
        total: float32 [rows of a tile, tokens of a tile].
        bias: See `multiply_tiles`.
        outputs: See `multiply_tiles`.
        tile: Its row in the table of tiles.
        row: Rows of the weight, int32.
        token: Tokens, counted from the tile's first, int32.
        rows: Rows of the weight.
    """
    is_row = row < rows
    if bias is not None:
        total += tl.load(bias + row, mask=is_row, other=0.0).to(tl.float32)[:, None]
    first, count = tl.load(tile), tl.load(tile + 1)
    output_tile = outputs + (first + token)[None, :].to(tl.int64) * rows + row[:, None]
    in_outputs = is_row[:, None] & (token < count)[None, :]
    tl.store(output_tile, total.to(outputs.dtype.element_ty), mask=in_outputs)


@triton.jit
@no_type_check
def _write_if_last(  # noqa: PLR0913, PLR0917 (the end of one kernel)
    totals, partials, counter, part, bias, outputs, tile, row, token, rows, SPLITS: tl.constexpr
):
    """Leave a program's sums in memory; if those of all `SPLITS` are there, add them up and write them.

    Args:
        totals: Per tile of tokens float32 [rows of a tile, tokens of a tile].
        partials: float32, room for the sums of the programs that share these tiles.
        counter: Of the programs that have left theirs; 0 at the start and at the end.
        part: Which of the programs this is.
        bias: See `multiply_tiles`.
        outputs: See `multiply_tiles`.
        tile: The first tile's row in the table of tiles.
        row: Rows of the weight, int32.
        token: Tokens, counted from a tile's first, int32.
        rows: Rows of the weight.
        SPLITS: Programs that share the tiles.
    """
    count: tl.constexpr = len(totals)
    height: tl.constexpr = row.shape[0]
    size: tl.constexpr = height * token.shape[0]
    place = partials + token[None, :] * height + tl.arange(0, height)[:, None]
    for one in tl.static_range(count):
        tl.store(place + (part * count + one) * size, totals[one])
    tl.debug_barrier()
    if tl.atomic_add(counter, 1, sem="acq_rel") == SPLITS - 1:
        for one in tl.static_range(count):
            total = tl.load(place + one * size, cache_modifier=".cg")
            for other in tl.static_range(1, SPLITS):
                total += tl.load(place + (other * count + one) * size, cache_modifier=".cg")
            _write(total, bias, outputs, tile + 3 * one, row, token, rows)
        tl.store(counter, 0)


@triton.jit(
    do_not_specialize=["tile_count", "load"],
    do_not_specialize_on_alignment=["addresses"],  # a row of a table, of an odd number of segments too
)
@no_type_check
def multiply_tiles(  # noqa: PLR0913, PLR0917 (one kernel argument each)
    inputs,
    weight,
    bias,
    outputs,
    tiles,
    addresses,
    tables,
    partials,
    counters,
    tile_count,
    rows,
    columns,
    load,
    PRECISION: tl.constexpr,
    PAIRS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILES: tl.constexpr,
    WORDS: tl.constexpr,
    SPLITS: tl.constexpr,
    WHOLE_STEPS: tl.constexpr,
):
    """Compute BLOCK_ROWS columns of the outputs for TILES tiles of tokens, from 1 / SPLITS of the columns.

    Rows and tokens beyond the last are computed from the last and not written.

    Args:
        inputs: float32 or bfloat16 [tokens, columns], contiguous.
        weight: float32 or bfloat16 [rows, columns], contiguous; multiplied in the dtype of `inputs`.
        bias: [rows], or None.
        outputs: [tokens, rows], contiguous.
        tiles: int32 [tile_count filled up to a multiple of TILES, 3]: first token, number of tokens (0 to
            BLOCK_TOKENS), segment.
        addresses: int64 [segments], of the words of each segment's mask (see `WordMask`); 0 for no mask.
        tables: int32, `TABLES`.
        partials: float32, room for the sums of all programs if SPLITS is not 1.
        counters: int32, a zero per tile of outputs, which it is again at the end.
        tile_count: Tiles of tokens.
        rows: Rows of the weight.
        columns: Columns of the weight.
        load: How full the device is, roughly; not looked at, but which tile is the fastest depends on it.
        PRECISION: Triton's name for the way in which float32 is multiplied.
        PAIRS: Whether weights are masked by two: of bfloat16, on a device.
        BLOCK_TOKENS: Tokens of a tile.
        BLOCK_ROWS: Rows of a tile.
        TILES: Tiles of tokens of one program.
        WORDS: Words of a row of the mask that are applied in one step.
        SPLITS: Programs that share the columns; each has one step or more.
        WHOLE_STEPS: Whether `columns` is a multiple of WHOLE_COLUMNS.
    """
    STEP: tl.constexpr = 32 * WORDS
    part = tl.program_id(0) % SPLITS
    block = tl.program_id(0) // SPLITS
    groups = (tile_count + TILES - 1) // TILES
    tile = tiles + block % groups * (3 * TILES)
    row = block // groups * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    row_read = tl.minimum(row, rows - 1)
    token = tl.arange(0, BLOCK_TOKENS)
    column, word = tl.arange(0, STEP), tl.arange(0, WORDS)
    shift = tl.load(tables + tl.arange(0, 8))
    byte = tl.load(tables + (12 if PAIRS else 8) + tl.arange(0, 4))
    weight_tile = weight + row_read[:, None].to(tl.int64) * columns + column[None, :]
    word_tiles, word_rows, input_tiles, totals = (), (), (), ()
    for one in tl.static_range(TILES):
        first, count = tl.load(tile + 3 * one), tl.load(tile + 3 * one + 1)
        token_read = first + tl.minimum(token, tl.maximum(count - 1, 0))
        input_tiles += (inputs + token_read[None, :].to(tl.int64) * columns + column[:, None],)
        address = tl.load(addresses + tl.load(tile + 3 * one + 2))
        is_masked = address != 0
        first_word = tl.where(is_masked, address, (tables + 16).to(tl.int64)).to(tl.pointer_type(tl.int32))
        word_rows += (tl.where(is_masked, rows, 0),)
        word_tile = first_word + tl.where(is_masked, row_read, 0)[:, None]
        word_tiles += (word_tile + word[None, :] * word_rows[one],)
        totals += (tl.full([BLOCK_ROWS, BLOCK_TOKENS], 0.0, tl.float32),)
    steps = (columns + STEP - 1) // STEP
    begin = steps * part // SPLITS * STEP
    end = tl.minimum(steps * (part + 1) // SPLITS * STEP, columns)
    tl.assume(begin < end)  # else what follows the loop keeps Hopper's matrix instructions from overlapping
    for start in range(begin, end, STEP):
        if WHOLE_STEPS:
            weights = tl.load(weight_tile + start)
        else:
            is_column = start + column < columns
            is_word = (start + 32 * word < columns)[None, :]
            weights = tl.load(weight_tile + start, mask=is_column[None, :], other=0.0)
        weights = weights.to(inputs.dtype.element_ty)
        sums = ()
        for one in tl.static_range(TILES):
            words = word_tiles[one] + start // 32 * word_rows[one]
            if WHOLE_STEPS:
                kept, values = tl.load(words), tl.load(input_tiles[one] + start)
            else:
                kept = tl.load(words, mask=is_word, other=0)
                values = tl.load(input_tiles[one] + start, mask=is_column[:, None], other=0.0)
            masked = _apply_words(weights, kept, shift, byte, PAIRS)
            sums += (tl.dot(masked, values, totals[one], input_precision=PRECISION),)
        totals = sums
    if SPLITS == 1:
        for one in tl.static_range(TILES):
            _write(totals[one], bias, outputs, tile + 3 * one, row, token, rows)
    else:
        place = partials + block * (SPLITS * TILES * BLOCK_ROWS * BLOCK_TOKENS)
        _write_if_last(totals, place, counters + block, part, bias, outputs, tile, row, token, rows, SPLITS)


def _config(block_rows: int, tiles: int, words: int, splits: int, warps: int, stages: int) -> triton.Config:
    tile = {"BLOCK_ROWS": block_rows, "TILES": tiles, "WORDS": words, "SPLITS": splits}
    return triton.Config(tile, num_warps=warps, num_stages=stages)


CONFIGS = [
    _config(32, 1, 1, 1, 4, 4),
    _config(64, 1, 1, 1, 4, 4),
    _config(128, 1, 1, 1, 8, 3),
    _config(32, 1, 4, 1, 4, 4),
    _config(32, 2, 4, 1, 2, 3),
    _config(64, 1, 2, 1, 4, 3),
    _config(64, 1, 4, 1, 4, 4),
    _config(64, 1, 4, 2, 4, 3),
    _config(64, 1, 4, 8, 4, 4),
    _config(64, 2, 2, 1, 4, 3),
    _config(64, 4, 2, 1, 2, 3),
    _config(128, 1, 2, 1, 4, 3),
    _config(128, 1, 2, 1, 8, 3),
]
"""With one word a step for float32; the others are each the fastest in bfloat16 on an H100 for some layer of
BERT-base and some number of tasks and tokens."""


def fitting(
    configs: list[triton.Config], positional: dict[str, Any], **arguments: Any
) -> list[triton.Config]:
    """Return the configurations worth trying.

    Their tiles are no more than there are, their sums fit the registers, what they load in advance fits the
    shared memory, and what they split the columns and the room for it. IEEE float32 is multiplied outside the
    tensor cores, from registers that more than one tile of one word would exceed.
    """
    return [one for one in configs if _fits(one, **positional, **arguments)]


def _fits(config: triton.Config, *, inputs: Any, rows: int, columns: int, **others: Any) -> bool:
    chosen, bytes_ = config.kwargs, inputs.element_size()
    words, splits, block_rows = chosen["WORDS"], chosen["SPLITS"], chosen["BLOCK_ROWS"]
    tokens = others["BLOCK_TOKENS"] * chosen["TILES"]
    loaded = (block_rows + tokens) * 32 * words * bytes_ * config.num_stages
    return (
        (words == 1 if others["PRECISION"] == "ieee" else words > 1 or bytes_ > _BYTES_OF_BFLOAT16)
        and chosen["TILES"] <= others["load"]
        and block_rows * tokens <= _MOST_SUMS * config.num_warps
        and loaded <= _MOST_SHARED_BYTES
        and splits <= most_splits(rows, others["BLOCK_TOKENS"], others["load"])
        and 32 * words * splits <= max(columns, 32 * words)
    )


def most_splits(rows: int, block_tokens: int, load: int) -> int:
    """Return how many programs at most share the columns of a tile; few where there are tiles for all.

    Args:
        rows: Rows of the weight.
        block_tokens: Tokens of a tile.
        load: See `multiply_tiles`.
    """
    return max(min(2**20 // (rows * block_tokens * load), 2**7 // load, MOST_SPLITS), 1)


tuned_multiply_tiles = triton.autotune(
    CONFIGS,
    key=["rows", "columns", "load", "PRECISION", "BLOCK_TOKENS"],
    prune_configs_by={"early_config_prune": fitting},
    do_bench=partial(do_bench, warmup=5, rep=20),
    cache_results=True,
)(multiply_tiles)
"""`multiply_tiles` with the fastest of `CONFIGS`: measured on first use (seconds), then kept on disk."""
