"""Decoder of Rice codes for the CPU: does what `mask_store.format.rice.decode_rice` does, in one pass.

It takes a fraction of the time, and other Python threads run meanwhile. Needs numba;
`masking.kernels.cpu.launch` is the only caller, and readies what this takes on trust.
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from masking.kernels.cpu.cache import CACHED

UInt8s: TypeAlias = NDArray[np.uint8]
UInt64s: TypeAlias = NDArray[np.uint64]


@njit("void(uint64[::1], uint64[::1], int64, uint8[:, ::1], int64)", nogil=True, cache=CACHED)
def flip_coded(quotients: UInt64s, remainders: UInt64s, width: int, packed: UInt8s, columns: int) -> None:
    """Flip the coded bits of a mask.

    Args:
        quotients: The first half of the code, filled up with zeros to whole words.
        remainders: The second half likewise, and one word more.
        width: Bits of a remainder.
        packed: uint8 [rows, ceil(columns / 8)]; every coded bit lies within.
        columns: Columns of the mask.
    """
    one, last = np.uint64(1), np.uint64(63)
    kept = (one << np.uint64(width)) - one
    row, column, read, quotient = np.int64(0), np.int64(-1), np.int64(0), np.int64(0)
    for number in range(quotients.size):
        word, left = quotients[number], np.int64(64)
        while word:
            zeros = np.int64(trailing_zeros(word))
            word = (word >> np.uint64(zeros)) >> one  # no word may be shifted by 64
            left -= zeros + 1
            place, bit = read >> 6, np.uint64(read) & last
            field = (remainders[place] >> bit) | ((remainders[place + 1] << one) << (last - bit))
            column += ((quotient + zeros) << width) + np.int64(field & kept) + 1
            while column >= columns:
                column -= columns
                row += 1
            packed[row, column >> 3] ^= np.uint8(1 << (column & 7))
            read, quotient = read + width, np.int64(0)
        quotient += left
