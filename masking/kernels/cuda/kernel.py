"""The Triton side of the masked matrix product: one program computes a few tiles of outputs.

The product is computed transposed, (W * M) x^T: the weights are the left operand, which Hopper's tensor cores
take from registers, where they are masked (Triton still rearranges them through shared memory between the
two); and they have the long side of a matrix instruction, tokens the short one, so 16 tokens of a task fill
theirs. Bits are loaded as words of 32 columns, one per row and
step; a weight is selected by two instructions, shared by all tokens of a tile.

A program holds one tile of weights at a time and multiplies it with `TILES` tiles of tokens, under the masks
of as many tasks. Programs that go through the same rows of the weight have adjacent numbers, so all but the
first find them in the L2 cache. So a weight is read from memory once per call, whatever the number of tasks.

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
_MOST_TOKENS = 128


@triton.jit(do_not_specialize=["tile_count", "load"])
@no_type_check
def multiply_tiles(  # noqa: PLR0913, PLR0917 (one kernel argument each)
    inputs,
    weight,
    bias,
    outputs,
    tiles,
    addresses,
    tile_count,
    rows,
    columns,
    load,
    WHOLE_STEPS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILES: tl.constexpr,
):
    """Computes BLOCK_ROWS columns of the outputs for TILES tiles of tokens.

    Args:
        inputs: float32 or bfloat16 [tokens, columns], contiguous.
        weight: float32 or bfloat16 [rows, columns], contiguous; multiplied in the dtype of `inputs`.
        bias: [rows], or None.
        outputs: [tokens, rows], contiguous.
        tiles: int32 [tile_count, 3]: first token, number of tokens (0 to BLOCK_TOKENS), segment.
        addresses: int64 [segments], of the words of each segment's mask (see `WordMask`); 0 for no mask.
        tile_count: A multiple of TILES.
        rows: Rows of the weight.
        columns: Columns of the weight.
        load: How full the device is, roughly; not looked at, but which tile is the fastest depends on it.
        WHOLE_STEPS: Whether `columns` is a multiple of 32.
        PRECISION: Triton's name for the way in which float32 is multiplied.
        BLOCK_TOKENS: Tokens of a tile.
        BLOCK_ROWS: Rows of a tile.
        TILES: Tiles of tokens of one program.
    """
    groups = tile_count // TILES
    first_tile = tl.program_id(0) % groups * TILES
    row = tl.program_id(0) // groups * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    token = tl.arange(0, BLOCK_TOKENS)
    column = tl.arange(0, 32)
    bit = 1 << column
    is_row = row < rows
    weight_tile = weight + row[:, None].to(tl.int64) * columns + column[None, :]
    words, is_masked, input_tiles, is_token, totals = (), (), (), (), ()
    for one in tl.static_range(TILES):
        tile = tiles + 3 * (first_tile + one)
        first, count, segment = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
        address = tl.load(addresses + segment)
        words += (address.to(tl.pointer_type(tl.int32)) + row,)
        is_masked += (row < tl.where(address != 0, rows, 0),)
        input_tiles += (inputs + (first + token)[None, :].to(tl.int64) * columns + column[:, None],)
        is_token += ((token < count)[None, :],)
        totals += (tl.full([BLOCK_ROWS, BLOCK_TOKENS], 0.0, tl.float32),)
    for start in range(0, columns, 32):
        is_column = start + column < columns
        in_weight = is_row[:, None] if WHOLE_STEPS else is_row[:, None] & is_column[None, :]
        weights = tl.load(weight_tile + start, mask=in_weight, other=0.0)
        sums = ()
        for one in tl.static_range(TILES):
            kept = tl.load(words[one] + (start // 32) * rows, mask=is_masked[one], other=-1)
            in_inputs = is_token[one] if WHOLE_STEPS else is_token[one] & is_column[:, None]
            values = tl.load(input_tiles[one] + start, mask=in_inputs, other=0.0)
            masked = tl.where((kept[:, None] & bit[None, :]) != 0, weights, 0.0).to(values.dtype)
            sums += (tl.dot(masked, values, totals[one], input_precision=PRECISION),)
        totals = sums
    for one in tl.static_range(TILES):
        total = totals[one]
        if bias is not None:
            total += tl.load(bias + row, mask=is_row, other=0.0).to(tl.float32)[:, None]
        first = tl.load(tiles + 3 * (first_tile + one))
        output_tile = outputs + (first + token)[None, :].to(tl.int64) * rows + row[:, None]
        tl.store(output_tile, total.to(outputs.dtype.element_ty), mask=is_row[:, None] & is_token[one])


def _config(block_rows: int, tiles: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"BLOCK_ROWS": block_rows, "TILES": tiles}, num_warps=warps, num_stages=stages)


CONFIGS = [
    _config(32, 1, 4, 4),
    _config(64, 1, 4, 4),
    _config(128, 1, 8, 3),
    _config(64, 2, 4, 3),
    _config(128, 2, 8, 3),
    _config(64, 4, 4, 3),
    _config(128, 4, 8, 3),
]


def fitting(
    configs: list[triton.Config], positional: dict[str, Any], **arguments: Any
) -> list[triton.Config]:
    """The configurations worth trying: their sums fit the registers, their tiles are no more than there are.

    IEEE float32 is multiplied outside the tensor cores, from registers that more than one tile would exceed.
    """
    most = 1 if arguments["PRECISION"] == "ieee" else _MOST_TOKENS // arguments["BLOCK_TOKENS"]
    return [one for one in configs if one.kwargs["TILES"] <= max(min(most, arguments["load"]), 1)]


tuned_multiply_tiles = triton.autotune(
    CONFIGS,
    key=["rows", "columns", "load", "PRECISION", "BLOCK_TOKENS"],
    prune_configs_by={"early_config_prune": fitting},
    do_bench=partial(do_bench, warmup=5, rep=20),
    cache_results=True,
)(multiply_tiles)
"""`multiply_tiles` with the fastest of `CONFIGS`: measured on first use (seconds), then kept on disk."""
