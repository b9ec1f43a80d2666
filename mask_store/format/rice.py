"""Rice codes: exact entropy coding of masks by Golomb-Rice codes of the gaps between the rarer bits.

A mask of independent bits with a share p of zeros holds H(p) bits of information per weight: 0.2864 at 5 %.
The gaps between zeros are then geometric, for which Golomb codes are optimal among prefix codes; the Rice
variant (the divisor is a power of two) stays within about 1 % of the bound there.

The two halves of a code go to two streams, so that both directions are a handful of NumPy passes over the
symbols and no loop over them in Python: first all quotients in unary, then all remainders in fixed-width
fields. The normative text, with a worked example, is docs/bundle-format.md.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mask_store.errors import MaskCodingError, PaddingError
from mask_store.format.bits import (
    PackedArray,
    count_ones,
    count_ones_of_words,
    count_zeros,
    packed_columns,
    unpack_bits,
    words_of,
)
from mask_store.format.mask_info import MAX_RICE_PARAMETER, RiceEncoding

_PIECE_BYTES = 1 << 14  # of quotients; what is made of them then stays in a core's cache
_WINDOW_BITS = 1 << 21


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


def check_rice(stream: PackedArray, encoding: RiceEncoding, bits: int) -> None:
    """Refuse a stream that is not the code of `count` bits in a mask of so many bits.

    It is checked whole without being decoded: what the gaps add up to follows from the place of the last
    quotient's end and from the number of ones at each place of the remainders. So this takes little more than
    the time to read the stream, and no memory that grows with it or with the mask.

    Args:
        stream: uint8 [n].
        encoding: Its parameters.
        bits: Bits of the mask.

    Raises:
        MaskCodingError: If it does not decode.
        PaddingError: If the unused bits at the end of either half are not zero.
    """
    count, parameter = encoding.count, encoding.parameter
    if -(-count * parameter // 8) > stream.size:
        raise MaskCodingError(f"{count} remainders do not fit in {stream.size} bytes")
    quotients, remainders = halves(stream, encoding)
    if quotients.size and not quotients[-1]:
        raise MaskCodingError("the last byte of the quotients codes nothing")
    if (ends := count_ones(quotients)) != count:
        raise MaskCodingError(f"expected {count} quotients, found {ends}")
    if (used := count * parameter % 8) and remainders[-1] >> used:
        raise PaddingError("unused bits after the remainders are not zero")
    if not count:
        return
    written = 8 * (quotients.size - 1) + int(quotients[-1]).bit_length()
    last = ((written - count) << parameter) + _sum_of_remainders(remainders, parameter) + count - 1
    if last >= bits:
        raise MaskCodingError(f"the last coded bit is number {last} of a mask of {bits} bits")


def decode_rice(stream: PackedArray, encoding: RiceEncoding, rows: int, columns: int) -> PackedArray:
    """Decode a stream that `check_rice` found good.

    It goes in pieces, so that it takes the memory of its result and a constant.

    Args:
        stream: uint8 [n], what `rice_encode` returned.
        encoding: Its parameters.
        rows: Rows of the mask.
        columns: Columns of the mask.

    Returns:
        uint8 [rows, ceil(columns / 8)], padding bits zero.
    """
    packed = np.zeros((rows, packed_columns(columns)), np.uint8)
    flat, padding = packed.reshape(-1), -columns % 8
    for places in _places(stream, encoding):
        _set_bits(flat, places + places // columns * padding if padding else places)
    if encoding.symbol == 0:
        np.invert(packed, out=packed)
        packed[:, -1] &= 0xFF >> padding
    return packed


def halves(stream: PackedArray, encoding: RiceEncoding) -> tuple[PackedArray, PackedArray]:
    """Return the stream of the quotients and that of the remainders."""
    cut = stream.size - -(-encoding.count * encoding.parameter // 8)
    return stream[:cut], stream[cut:]


def _places(stream: PackedArray, encoding: RiceEncoding) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the coded bits, ascending, some at a time."""
    quotients, remainders = halves(stream, encoding)
    done, before = 0, 0  # coded bits so far, and what their remainders add up to
    for begin in range(0, quotients.size, _PIECE_BYTES):
        piece = np.unpackbits(quotients[begin : begin + _PIECE_BYTES], bitorder="little")
        ends = np.flatnonzero(piece.view(np.bool_)) + 8 * begin
        if not ends.size:
            continue
        numbers = np.arange(done, done + ends.size)
        sums = np.cumsum(_read_remainders(remainders, encoding.parameter, done, ends.size)) + before
        yield ((ends - numbers) << encoding.parameter) + sums + numbers
        done, before = done + ends.size, int(sums[-1])


def _set_bits(flat: PackedArray, places: NDArray[np.int64]) -> None:
    """Set bits by their numbers, which ascend, in windows of at most `_WINDOW_BITS`."""
    begin = 0
    while begin < places.size:
        first = int(places[begin]) // 8
        end = int(np.searchsorted(places, 8 * first + _WINDOW_BITS))
        window = np.zeros(8 * (int(places[end - 1]) // 8 - first + 1), np.bool_)
        window[places[begin:end] - 8 * first] = True
        packed = np.packbits(window, bitorder="little")
        flat[first : first + packed.size] |= packed
        begin = end


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


def _write_remainders(gaps: NDArray[np.int64], parameter: int) -> PackedArray:
    fields = np.empty((gaps.size, parameter), np.bool_)
    for bit in range(parameter):
        fields[:, bit] = (gaps >> bit) & 1
    return np.packbits(fields.reshape(-1), bitorder="little")


def _read_remainders(stream: PackedArray, width: int, first: int, count: int) -> NDArray[np.int64]:
    """Read fields of `width` bits: eight at a time, because eight of them fill `width` whole bytes."""
    begin, skip = first // 8 * width, first % 8
    groups = -(-(skip + count) // 8)
    found = stream[begin : begin + groups * width]
    piece = np.zeros(groups * width + 8, np.uint8)  # eight more bytes, for the last word of the last group
    piece[: found.size] = found
    fields = np.empty((groups, 8), np.int64)
    for place in range(8):
        byte, bit = divmod(place * width, 8)
        words = np.ndarray(groups, "<i8", piece.data, byte, (width,))
        np.bitwise_and(words >> bit, (1 << width) - 1, out=fields[:, place])
    return fields.reshape(-1)[skip : skip + count]


def _sum_of_remainders(stream: PackedArray, width: int) -> int:
    """Add up fields of `width` bits: each bit of a field counts by how often it is set."""
    if not width:
        return 0
    return sum(
        count_ones_of_words(words.reshape(-1, width) & pattern) << bit
        for words in words_of(stream, multiple=width)
        for bit, pattern in enumerate(_patterns(width))
    )


@lru_cache(maxsize=MAX_RICE_PARAMETER)
def _patterns(width: int) -> NDArray[np.uint64]:
    """Return where each bit of fields of `width` bits lies: uint64 [width, words], which then repeat."""
    bits = np.arange(64 * width) % width == np.arange(width)[:, np.newaxis]
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")
