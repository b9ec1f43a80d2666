"""Rice codes: exact entropy coding of masks by Golomb-Rice codes of the gaps between the rarer bits.

A mask of independent bits with a share p of zeros holds H(p) bits of information per weight: 0.2864 at 5 %.
The gaps between zeros are then geometric, for which Golomb codes are optimal among prefix codes; the Rice
variant (the divisor is a power of two) stays within about 1 % of the bound there.

The two halves of a code go to two streams, so that both directions are a handful of NumPy passes over the
symbols and no loop in Python: first all quotients in unary, then all remainders in fixed-width fields. The
normative text, with a worked example, is docs/bundle-format.md.
"""

import numpy as np
from numpy.typing import NDArray

from mask_store.errors import MaskCodingError, PaddingError
from mask_store.format.bits import PackedArray, count_zeros, pack_bits, unpack_bits
from mask_store.format.mask_info import MAX_RICE_PARAMETER, RiceEncoding


def rice_encode(packed: PackedArray, columns: int) -> tuple[RiceEncoding, PackedArray]:
    """Encode a mask.

    Args:
        packed: uint8 [rows, ceil(columns / 8)], padding bits zero.
        columns: Columns of the mask.

    Returns:
        The parameters that a reader needs, and the coded bytes (uint8 [n]). They may be longer than `packed`:
        it is the caller who chooses.
    """
    mask = unpack_bits(packed, columns).reshape(-1)
    symbol = 0 if count_zeros(packed, columns) * 2 <= mask.size else 1
    places = np.flatnonzero(mask if symbol else ~mask)
    gaps = np.diff(places, prepend=-1) - 1
    parameter = _best_parameter(gaps)
    stream = np.concatenate([_write_quotients(gaps >> parameter), _write_remainders(gaps, parameter)])
    return RiceEncoding(parameter=parameter, symbol=1 if symbol else 0, count=places.size), stream


def rice_decode(stream: PackedArray, encoding: RiceEncoding, rows: int, columns: int) -> PackedArray:
    """Decode a mask.

    Args:
        stream: uint8 [n], what `rice_encode` returned.
        encoding: Its parameters.
        rows: Rows of the mask.
        columns: Columns of the mask.

    Returns:
        uint8 [rows, ceil(columns / 8)], padding bits zero.

    Raises:
        MaskCodingError: If the stream is not the code of `count` bits in a mask of this size.
        PaddingError: If the unused bits at the end of either half are not zero.
    """
    cut = stream.size - -(-encoding.count * encoding.parameter // 8)
    if cut < 0:
        raise MaskCodingError(f"{encoding.count} remainders do not fit in {stream.size} bytes")
    gaps = _read_quotients(stream[:cut], encoding.count) << encoding.parameter
    gaps |= _read_remainders(stream[cut:], encoding)
    places = np.cumsum(gaps + 1) - 1
    bits = rows * columns
    if places.size and not 0 <= places[-1] < bits:
        raise MaskCodingError(f"the last coded bit is number {places[-1]} of a mask of {bits} bits")
    mask = np.full(bits, encoding.symbol == 0)
    mask[places] = encoding.symbol == 1
    return pack_bits(mask.reshape(rows, columns))


def _best_parameter(gaps: NDArray[np.int64]) -> int:
    """Find the parameter of fewest bits: the cost is convex, its minimum near log2(0.69 * mean gap)."""
    if not gaps.size:
        return 0
    guess = (int(gaps.sum()) * 69 // (100 * gaps.size)).bit_length() - 1
    candidates = range(max(0, guess - 1), min(MAX_RICE_PARAMETER, max(0, guess + 1)) + 1)
    return min(candidates, key=lambda k: gaps.size * (k + 1) + int((gaps >> k).sum()))


def _write_quotients(quotients: NDArray[np.int64]) -> PackedArray:
    ends = np.cumsum(quotients + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1 if ends.size else 0, np.bool_)
    bits[ends] = True
    return np.packbits(bits, bitorder="little")


def _read_quotients(stream: PackedArray, count: int) -> NDArray[np.int64]:
    if stream.size and not stream[-1]:
        raise MaskCodingError("the last byte of the quotients codes nothing")
    ends = np.flatnonzero(np.unpackbits(stream, bitorder="little").view(np.bool_))
    if ends.size != count:
        raise MaskCodingError(f"expected {count} quotients, found {ends.size}")
    return np.diff(ends, prepend=-1) - 1


def _write_remainders(gaps: NDArray[np.int64], parameter: int) -> PackedArray:
    fields = np.empty((gaps.size, parameter), np.bool_)
    for bit in range(parameter):
        fields[:, bit] = (gaps >> bit) & 1
    return np.packbits(fields.reshape(-1), bitorder="little")


def _read_remainders(stream: PackedArray, encoding: RiceEncoding) -> NDArray[np.int64]:
    size = encoding.count * encoding.parameter
    if size % 8 and stream[-1] >> size % 8:
        raise PaddingError("unused bits after the remainders are not zero")
    fields = np.unpackbits(stream, count=size, bitorder="little").reshape(encoding.count, encoding.parameter)
    remainders = np.zeros(encoding.count, np.int64)
    for bit in range(encoding.parameter):
        remainders |= fields[:, bit].astype(np.int64) << bit
    return remainders
