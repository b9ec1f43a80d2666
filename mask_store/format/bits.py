"""Packed bits: boolean masks, eight to a byte.

Row-major, each row padded to whole bytes with zeros; bit j of byte i of a row is column 8i + j, counted from
the least significant bit. This is what a mask is in memory and, where it is not entropy-coded, in a file.

Packing is done by bitarray, which defines the order; unpacking by NumPy, which is ten times as fast there and
on the path of a request whose mask is not in use yet. Tests hold the two together.
"""

from collections.abc import Iterator

import numpy as np
from bitarray import bitarray
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
PackedArray = NDArray[np.uint8]

_PIECE_BYTES = 1 << 18  # taken at a time where a mask is gone through, so that nothing grows with it


def packed_columns(columns: int) -> int:
    """Return the bytes of one packed row of `columns` bits."""
    return -(-columns // 8)


def pack_bits(mask: BoolArray) -> PackedArray:
    """Pack a mask.

    Args:
        mask: bool [rows, columns].

    Returns:
        uint8 [rows, ceil(columns / 8)].

    Raises:
        ValueError: If `mask` is not a boolean matrix.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"expected a bool matrix, found {mask.dtype} of shape {mask.shape}")
    rows, columns = mask.shape
    padded = np.pad(mask, ((0, 0), (0, -columns % 8))) if columns % 8 else mask
    bits = bitarray(endian="little")
    bits.pack(padded.tobytes())
    return np.frombuffer(bytearray(bits.tobytes()), np.uint8).reshape(rows, packed_columns(columns))


def unpack_bits(packed: PackedArray, columns: int) -> BoolArray:
    """Unpack a mask.

    Args:
        packed: uint8 [rows, ceil(columns / 8)]; padding bits are ignored.
        columns: Columns of the mask.

    Returns:
        bool [rows, columns].

    Raises:
        ValueError: If `packed` has another dtype or another number of bytes in a row.
    """
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != packed_columns(columns):  # noqa: PLR2004
        raise ValueError(
            f"expected uint8 of shape [rows, {packed_columns(columns)}], found {packed.dtype} {packed.shape}"
        )
    return np.unpackbits(packed, axis=1, count=columns, bitorder="little").view(np.bool_)


def count_zeros(packed: PackedArray, columns: int) -> int:
    """Zero bits of a packed mask whose padding bits are zero.

    Args:
        packed: uint8 [rows, ceil(columns / 8)], contiguous.
        columns: Columns of the mask.
    """
    return int(packed.shape[0]) * columns - count_ones(packed.reshape(-1))


def count_ones(packed: PackedArray) -> int:
    """Count the bits that are set, of uint8 [n]."""
    return sum(map(count_ones_of_words, words_of(packed)))


def count_ones_of_words(words: NDArray[np.uint64]) -> int:
    """Count the bits that are set."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def words_of(packed: PackedArray, *, multiple: int = 1) -> Iterator[NDArray[np.uint64]]:
    """Cut bytes into words of 64 bits, some at a time, the last filled up with zeros.

    Args:
        packed: uint8 [n].
        multiple: Of what each piece's words are a multiple.
    """
    size = 8 * multiple
    for begin in range(0, packed.size, step := max(1, _PIECE_BYTES // size) * size):
        piece = packed[begin : begin + step]
        yield (filled_up(piece, -piece.size % size) if piece.size % size else piece).view("<u8")


def filled_up(packed: PackedArray, more: int) -> PackedArray:
    """Return a copy of uint8 [n] with so many zeros behind it, for which `np.pad` takes ten times as long."""
    whole = np.zeros(packed.size + more, np.uint8)
    whole[: packed.size] = packed
    return whole


def padding_is_zero(packed: PackedArray, columns: int) -> bool:
    """Tell whether no bit after the last column of a row is set."""
    return columns % 8 == 0 or not bool((packed[:, -1] >> (columns % 8)).any())
