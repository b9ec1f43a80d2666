"""Line kernel launcher: everything that the kernel takes on trust is checked or made here."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from enum import IntEnum
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from masking.kernels.cpu.launch import (
    WORK_OF_A_WEIGHT,
    address_of,
    strips_of_bits,
    threads_for,
    workspace,
)
from masking.kernels.cpu.lines.weights import GROUPS, WORDS, LineMask, LineWeight, MaskPlace
from masking.kernels.cpu.openmp import Runner, runner
from masking.kernels.segments import Segments, tile_table

logger = logging.getLogger(__name__)

_PIECES_PER_THREAD = 4
_WORK_OF_A_VALUE = 16  # multiply-adds that take as long as normalising a value
_CHUNK_BYTES = 1 << 20  # of inputs, which each panel reads again: half of a large second-level cache


class Finish(IntEnum):
    """What becomes of a product's sums, the bias added."""

    BFLOAT16 = 0
    """Rounded to bfloat16."""
    GELU = 1
    """The same after GELU: to 2e-5, and below -10 to 2e-6 of the sum's size."""
    FLOAT32 = 2
    """Kept in float32."""
    GELU32 = 3
    """The same after GELU."""

    def of(self, dtype: torch.dtype) -> "Finish":
        """Return what becomes of sums of inputs in a dtype: of float32 nothing is rounded."""
        if dtype != torch.float32:
            return self
        return Finish.GELU32 if self in {Finish.GELU, Finish.GELU32} else Finish.FLOAT32


class LineLayer(NamedTuple):
    """A layer of a batch.

    Attributes:
        weight: Its weight.
        masks: Per segment the mask, or None for the weight as it is.
    """

    weight: LineWeight
    masks: Sequence[LineMask | None]


class _Waiting:
    """Jobs that wait for the end of `at_once`, and what must live until then."""

    def __init__(self) -> None:
        self.jobs: list[NDArray[np.int64]] = []
        self.work = 0
        self.kept: list[object] = []


_waiting: ContextVar[_Waiting | None] = ContextVar("waiting", default=None)


@contextmanager
def at_once() -> Iterator[None]:
    """Let all steps inside the context be computed at its end, in one call of the kernel.

    Between two calls the interpreter runs with cold caches, which takes longer than a small step. Nothing but
    another step may read the outputs of a step before the end, or before `catch_up`. A context inside another
    ends with the outer one.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting = _Waiting()
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
    if waiting.jobs:
        _run_now(waiting.jobs, waiting.work)


def catch_up() -> None:
    """Compute what waits for the end of `at_once`, if anything does."""
    waiting = _waiting.get()
    if waiting is not None and waiting.jobs:
        _run_now(waiting.jobs, waiting.work)
        waiting.jobs, waiting.work, waiting.kept = [], 0, []


@cache
def available() -> bool:
    """Tell whether the kernel can be used: numba is installed, and could compile it.

    The first call compiles it, or loads it from the cache; a failure is logged.
    """
    try:
        _kernel()
    except Exception as error:  # numba's and LLVM's own
        logger.warning("the line kernel can't be used here: %s", error)
        return False
    return True


@cache
def _kernel() -> ModuleType:
    from masking.kernels.cpu.lines import kernel  # noqa: PLC0415 (numba is optional and slow to import)

    return kernel


@cache
def _runner() -> Runner:
    return runner(_kernel().work_function.address)


def line_products(
    inputs: Tensor, layers: Sequence[LineLayer], segments: Segments, finish: Finish = Finish.BFLOAT16
) -> list[Tensor]:
    """Compute inputs @ (W * M)^T + bias for several layers, M being that of each token's segment.

    In 8 bits each token is rounded to 256 levels between its least and largest value, once for all layers.
    In float32 nothing is rounded.

    Args:
        inputs: [tokens, columns], contiguous; float32 for layers in float32, else bfloat16.
        layers: Layers of one precision with so many columns.
        segments: They cover `tokens`.
        finish: What becomes of the sums.

    Returns:
        Per layer [tokens, rows], bfloat16 or float32.

    Raises:
        ValueError: The tensors do not belong together.
    """
    _check(inputs, layers, segments)
    tokens = inputs.shape[0]
    finish = finish.of(inputs.dtype)
    dtype = torch.float32 if finish >= Finish.FLOAT32 else torch.bfloat16
    outputs = [torch.empty(tokens, layer.weight.rows, dtype=dtype) for layer in layers]
    places = [
        layer.weight.no_mask if mask is None else mask.place for layer in layers for mask in layer.masks
    ]
    if tokens:
        _multiply(inputs, [layer.weight for layer in layers], places, segments, outputs, finish)
    return outputs


def ready_mask(weight: LineWeight, packed: NDArray[np.uint8]) -> LineMask:
    """Bring a bundle's bits into the order of a weight.

    Args:
        weight: The weight that they mask.
        packed: uint8 [rows, ceil(columns / 8)], bit j of byte i being column 8i + j.
    """
    kernel, group = _kernel(), GROUPS[weight.precision]
    if weight.precision == "fp32":
        return LineMask(strips_of_bits(packed, weight.columns), weight.rows)
    words = np.zeros((len(weight.lines), weight.columns // group), WORDS[weight.precision])
    turn = kernel.words_of_pairs if weight.precision == "bf16" else kernel.words_of_fours
    turn(np.require(packed, requirements=["C", "W"]), words)
    mask = LineMask(words, weight.rows)
    return mask if weight.row_sums is None else replace(mask, row_sums=_row_sums(weight, mask.place))


def _row_sums(weight: LineWeight, place: MaskPlace) -> NDArray[np.int32]:
    """Sum each row's integers under a mask: int32 [strips * 16]."""
    assert weight.scales is not None
    whole = len(weight.scales)
    unscaled = replace(weight, rows=whole, bias=torch.zeros(whole), scales=torch.ones(whole))
    nothing, sums = np.zeros(whole, np.int32), torch.empty(1, whole)
    levels = torch.ones(1, weight.columns, dtype=torch.uint8)
    places = [place._replace(row_sums=nothing.ctypes.data)]
    _multiply(levels, [unscaled], places, Segments((0, 1)), [sums], Finish.FLOAT32)
    return sums[0].to(torch.int32).numpy()


def attend_rows(query: Tensor, key: Tensor, value: Tensor, heads: int, starts: NDArray[np.int64]) -> Tensor:
    """Compute attention of each head within each row of tokens.

    Args:
        query: bfloat16 [tokens, heads * width], contiguous; the width is even.
        key: Likewise.
        value: Likewise.
        heads: Number of heads.
        starts: int64 [rows + 1]: first token of each row, ascending from 0, then the number of tokens.

    Returns:
        bfloat16 [tokens, heads * width].
    """
    from masking.kernels.cpu.lines.attention import scratch_bytes  # noqa: PLC0415 (as `_kernel`)

    kernel, (tokens, columns), outputs = _kernel(), query.shape, torch.empty_like(query)
    fields, kind = kernel.Job, kernel.kind_of_tile("bf16")
    scratch = scratch_bytes(kind, int(np.diff(starts).max()), columns // heads)
    job = np.zeros(len(fields), np.int64)
    job[fields.PHASE], job[fields.TOKENS], job[fields.COLUMNS] = kernel.ATTEND, tokens, columns
    job[fields.INPUTS], job[fields.KEYS] = query.data_ptr(), key.data_ptr()
    job[fields.VALUES], job[fields.ATTENDED] = value.data_ptr(), outputs.data_ptr()
    job[fields.ROW_STARTS], job[fields.PIECES] = address_of(starts), heads * (len(starts) - 1)
    job[fields.HEADS], job[fields.SCRATCH_BYTES], job[fields.KIND] = heads, scratch, kind
    work = 2 * columns * int((np.diff(starts) ** 2).sum())
    _run([job], work, query, key, value, starts, outputs)
    return outputs


def add_and_normalise(sums: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Compute LayerNorm(sums + residual).

    Args:
        sums: float32 [tokens, columns], contiguous; overwritten.
        residual: bfloat16 or float32 [tokens, columns], contiguous.
        norm: LayerNorm over the columns, with weight and bias, float32.

    Returns:
        [tokens, columns], in the dtype of the residual.
    """
    kernel, (tokens, columns) = _kernel(), sums.shape
    fields, outputs = kernel.Job, torch.empty_like(residual)
    epsilon = np.array([norm.eps], np.float32)
    job = np.zeros(len(fields), np.int64)
    job[fields.PHASE], job[fields.TOKENS], job[fields.COLUMNS] = kernel.NORMALISE, tokens, columns
    job[fields.KIND] = kernel.FP32 if residual.dtype == torch.float32 else kernel.BF16
    job[fields.INPUTS], job[fields.RESIDUAL] = sums.data_ptr(), residual.data_ptr()
    job[fields.GAIN], job[fields.SHIFT] = norm.weight.data_ptr(), norm.bias.data_ptr()
    job[fields.EPSILON], job[fields.NORMALISED] = epsilon.ctypes.data, outputs.data_ptr()
    job[fields.PIECES] = -(-tokens // kernel.PIECE_TOKENS)
    _run([job], _WORK_OF_A_VALUE * tokens * columns, sums, residual, epsilon, outputs)
    return outputs


def _multiply(
    inputs: Tensor,
    weights: Sequence[LineWeight],
    places: Sequence[MaskPlace],
    segments: Segments,
    outputs: Sequence[Tensor],
    finish: Finish,
) -> None:
    """Fill `outputs`; there is a place for each weight and segment.

    Inputs of uint8 are levels with the scale 1 and the zero 0.
    """
    kernel, (tokens, columns) = _kernel(), inputs.shape
    fields, kind = kernel.Job, kernel.kind_of_tile(weights[0].precision)
    tiles = tile_table(segments, kernel.tile_tokens(kind))
    masks = np.array([number for place in places for number in place], np.int64)
    first_mask, apart = address_of(masks), masks.nbytes // len(weights)
    table = np.array(
        [
            [
                *(one.rows, one.lines.data_ptr(), one.bias.data_ptr()),
                0 if one.scales is None else one.scales.data_ptr(),
                first_mask + apart * index,
                result.data_ptr(),
            ]
            for index, (one, result) in enumerate(zip(weights, outputs, strict=True))
        ],
        np.int64,
    )
    panels = sum(kernel.panel_count(one.rows, kind) for one in weights)
    chunks = max(
        -(-_PIECES_PER_THREAD * torch.get_num_threads() // panels),
        -(-tokens * columns * kernel.ELEMENT[kind] // _CHUNK_BYTES),
    )
    job = np.zeros(len(fields), np.int64)
    job[fields.TOKENS], job[fields.COLUMNS], job[fields.INPUTS] = tokens, columns, inputs.data_ptr()
    job[fields.TILES], job[fields.TILE_COUNT] = tiles.address, tiles.count
    job[fields.CHUNKS] = chunks = min(tiles.count, chunks)
    job[fields.LAYERS], job[fields.PANEL_COUNT] = address_of(table), panels
    job[fields.FINISH], job[fields.KIND] = finish, kind
    job[fields.PHASE], job[fields.PIECES] = kernel.MULTIPLY, chunks * panels
    job[fields.SCRATCH_BYTES] = kernel.scratch_bytes(columns, kind)
    work = (tokens + WORK_OF_A_WEIGHT) * columns * sum(one.rows for one in weights)
    kept = (inputs, tiles, masks, table, *outputs)
    if weights[0].precision != "int8":
        _run([job], work, *kept)
        return
    levels, scales, zeros = inputs, torch.ones(tokens), torch.zeros(tokens, dtype=torch.int32)
    if inputs.dtype != torch.uint8:
        levels = torch.empty(tokens, columns, dtype=torch.uint8)
    job[fields.LEVELS] = levels.data_ptr()
    job[fields.SCALES], job[fields.ZEROS] = scales.data_ptr(), zeros.data_ptr()
    jobs = [job]
    if inputs.dtype != torch.uint8:
        before = job.copy()
        before[fields.PHASE], before[fields.SCRATCH_BYTES] = kernel.QUANTISE, 0
        before[fields.PIECES] = -(-tokens // kernel.PIECE_TOKENS)
        jobs = [before, job]
    _run(jobs, work, *kept, levels, scales, zeros)


def _run(jobs: Sequence[NDArray[np.int64]], work: int, *kept: object) -> None:
    """Run jobs one after another, or keep them and what they read and write for the end of `at_once`.

    Args:
        jobs: The jobs.
        work: Multiply-adds of them all, or what takes as long.
        kept: What must live until they are done.
    """
    waiting = _waiting.get()
    if waiting is None:
        _run_now(jobs, work)
    else:
        waiting.jobs += jobs
        waiting.work += work
        waiting.kept += kept


def _run_now(jobs: Sequence[NDArray[np.int64]], work: int) -> None:
    fields, threads, count = _kernel().Job, threads_for(work), len(jobs)
    program = np.empty(1 + count * len(fields), np.int64)
    program[0] = count
    table = program[1:].reshape(count, len(fields))
    np.stack(jobs, out=table)
    table[:, fields.SCRATCH] = workspace.address(threads * int(table[:, fields.SCRATCH_BYTES].max()))
    _runner()(address_of(program), threads)


def _check(inputs: Tensor, layers: Sequence[LineLayer], segments: Segments) -> None:
    columns = inputs.shape[-1]
    wide = {layer.weight.precision for layer in layers} == {"fp32"}
    fitting = {
        f"inputs are not contiguous {'float32' if wide else 'bfloat16'} [tokens, columns] on the CPU": (
            inputs.dtype == (torch.float32 if wide else torch.bfloat16)
        )
        and inputs.is_cpu
        and inputs.is_contiguous()
        and tuple(inputs.shape) == (segments.tokens, columns),
        "a weight has other columns": all(layer.weight.columns == columns for layer in layers),
        "precisions differ": len({layer.weight.precision for layer in layers}) == 1,
        "masks are not one per segment": all(len(layer.masks) == len(segments) for layer in layers),
        "a mask is not of its weight's shape and precision": all(
            mask is None or getattr(mask, "form", None) == form  # of an encoder of another precision
            for layer in layers
            for form in (layer.weight.form,)
            for mask in layer.masks
        ),
    }
    if not all(fitting.values()):
        wrong = "; ".join(message for message, fits in fitting.items() if not fits)
        raise ValueError(f"{wrong} (inputs {inputs.dtype} {tuple(inputs.shape)}, {segments})")
