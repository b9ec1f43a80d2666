"""CPU kernel launcher: everything that the numba kernels take on trust is checked or made here.

Importing this module does not import numba: the first use does, and `available` tells whether it can. The
kernels are compiled once per machine (some seconds) and kept on disk, see `masking.kernels.cpu.cache`.
Without numba nothing here works except `available`.
"""

import importlib.util
import logging
import threading
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mask_store.format.bits import PackedArray, filled_up, packed_columns
from mask_store.format.mask_info import RiceEncoding
from mask_store.format.rice import halves
from masking.kernels.cpu.openmp import Runner, runner
from masking.kernels.segments import Segments, tile_table

logger = logging.getLogger(__name__)

ALIGNMENT = 64
_WORD_BYTES = 8
_PHASE = 0
WORK_OF_A_WEIGHT = 8
"""Multiply-adds that take as long as reading a number from memory."""
_WORK_OF_A_COPY = 16  # ... as reading and writing one
_WORK_OF_A_THREAD = 1_000_000  # multiply-adds in about 50 microseconds, which it takes to wake one


@cache
def available() -> bool:
    """Tell whether the kernels can be used: numba is installed, and they could be compiled and run.

    The first call compiles them, or loads them from the cache; a failure is logged.
    """
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        _try_out()
    except Exception as error:  # numba's and LLVM's own: masked layers are folded then, slower but right
        logger.warning("the CPU kernel can't be used here, torch computes masked layers: %s", error)
        return False
    return True


@cache
def _kernels() -> ModuleType:
    from masking.kernels.cpu import kernel as kernels  # noqa: PLC0415 (numba is optional and slow to import)

    return kernels


@cache
def _decoder() -> ModuleType:
    from masking.kernels.cpu import rice  # noqa: PLC0415 (as `_kernels`)

    return rice


@cache
def _runner() -> Runner:
    return runner(_kernels().work_function.address)


class Place(NamedTuple):
    """Where the kernel finds a mask; valid while the array it was made of lives.

    Attributes:
        address: Of the first strip, uint16 [columns].
        stride: Bytes from strip to strip.
    """

    address: int
    stride: int


def place_of(strips: NDArray[np.uint16]) -> Place:
    """Return the place of a mask's strips, uint16 [ceil(rows / 16), columns].

    Raises:
        ValueError: They are of another dtype or not contiguous.
    """
    if strips.dtype != np.uint16 or strips.ndim != 2 or not strips.flags.c_contiguous:  # noqa: PLR2004
        raise ValueError(f"expected contiguous uint16 strips, found {strips.dtype} {strips.shape}")
    return Place(strips.ctypes.data, 2 * strips.shape[1])


@cache
def _ones(columns: int) -> NDArray[np.uint16]:
    return np.full(columns, 0xFFFF, np.uint16)


@cache
def no_mask(columns: int) -> Place:
    """Return the place for a segment without a mask: one strip of ones, which stands for all."""
    return Place(_ones(columns).ctypes.data, 0)


def strips_of_bits(packed: NDArray[np.uint8], columns: int) -> NDArray[np.uint16]:
    """Turn rows of bits into strips of 16 rows.

    Args:
        packed: uint8 [rows, ceil(columns / 8)].
        columns: Columns of the mask.

    Returns:
        uint16 [ceil(rows / 16), columns]; see `masking.kernels.layouts.StripMask`.
    """
    strips = np.empty((-(-packed.shape[0] // 16), columns), np.uint16)
    _kernels().strips_of_bits(np.require(packed, requirements=["C", "W"]), strips)
    return strips


def decode_rice(stream: PackedArray, encoding: RiceEncoding, rows: int, columns: int) -> PackedArray:
    """Do what `mask_store.format.rice.decode_rice` does, in a fraction of the time; other threads run on."""
    packed = np.full((rows, packed_columns(columns)), 0 if encoding.symbol else 0xFF, np.uint8)
    packed[:, -1] &= 0xFF >> -columns % 8
    quotients, remainders = halves(stream, encoding)
    _decoder().flip_coded(_words(quotients), _words(remainders, 1), encoding.parameter, packed, columns)
    return packed


def _words(stream: PackedArray, more: int = 0) -> NDArray[np.uint64]:
    """Copy bytes into words of 64 bits, filled up with zeros, and so many words more."""
    whole = filled_up(stream, -stream.size % _WORD_BYTES + _WORD_BYTES * more)
    return whole.view("<u8").astype(np.uint64, copy=False)


class _Workspace(threading.local):
    """Memory that a thread's calls use one after another, grown as needed."""

    def __init__(self) -> None:
        self.room = torch.empty(0, dtype=torch.uint8)

    def address(self, size: int) -> int:
        if self.room.numel() < size + ALIGNMENT:
            self.room = torch.empty(size + size // 4 + ALIGNMENT, dtype=torch.uint8)
        return -(-self.room.data_ptr() // ALIGNMENT) * ALIGNMENT


workspace = _Workspace()


def address_of(array: NDArray[np.int64]) -> int:
    """Return the address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def masked_product(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    places: Sequence[Place],
) -> Tensor:
    """Compute inputs @ (W * M)^T + bias, M being that of each token's segment.

    Args:
        inputs: float32 [tokens, columns], contiguous, on the CPU.
        weight: float32 [rows, columns], contiguous, on the CPU; not written to.
        bias: float32 [rows], or None.
        segments: They cover `tokens`.
        places: Per segment that of its mask, or `no_mask`; the arrays must live until this returns.

    Returns:
        float32 [tokens, rows].
    """
    kernels = _kernels()
    (tokens, columns), rows = inputs.shape, weight.shape[0]
    outputs = torch.empty(tokens, rows)
    threads = threads_for(rows * columns * (tokens + WORK_OF_A_WEIGHT))
    tiles = tile_table(segments, kernels.TILE_TOKENS)
    masks = np.array(places, np.int64)
    padded = _padded_bias(bias, rows)
    packed_size = -(-(4 * tokens * columns + kernels.SLACK * (tiles.count + 1)) // ALIGNMENT) * ALIGNMENT
    scratch_size = -(-kernels.scratch_bytes(columns) // ALIGNMENT) * ALIGNMENT
    room = workspace.address(packed_size + threads * scratch_size)
    job = np.array(
        [
            *(0, rows, columns, weight.data_ptr(), padded.data_ptr()),
            *(inputs.data_ptr(), outputs.data_ptr(), tiles.address, tiles.count, address_of(masks)),
            *(room, room + packed_size, scratch_size, 0, 0, 0),
        ],
        np.int64,
    )
    run, address = _runner(), address_of(job)
    run(address, min(threads, threads_for(tokens * columns * _WORK_OF_A_COPY)))
    job[_PHASE] = 1
    run(address, threads)
    return outputs


def threads_for(work: int) -> int:
    """Return how many threads an amount of work is worth: one that sleeps takes a while to come.

    Args:
        work: Multiply-adds, or what takes as long.
    """
    return max(1, min(torch.get_num_threads(), work // _WORK_OF_A_THREAD))


def _padded_bias(bias: Tensor | None, rows: int) -> Tensor:
    """Fill the bias up with zeros to a whole strip."""
    whole = -(-rows // 16) * 16
    if bias is not None and rows == whole:
        return bias.contiguous()
    padded = torch.zeros(whole)
    if bias is not None:
        padded[:rows] = bias
    return padded


def _try_out() -> None:
    """Compile the kernels, or load them from numba's cache."""
    layer = torch.ones(16, 8)
    bits = decode_rice(np.zeros(0, np.uint8), RiceEncoding(parameter=0, symbol=0, count=0), 16, 8)
    strips = strips_of_bits(bits, 8)
    masked_product(torch.ones(1, 8), layer, None, Segments((0, 1)), [place_of(strips)])
