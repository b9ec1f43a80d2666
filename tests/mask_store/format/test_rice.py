import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mask_store import MaskCodingError, PaddingError, RiceEncoding, pack_bits
from mask_store.format.rice import check_rice, decode_rice, rice_encode
from tests.support.bundles import example_mask


def entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_golden_bytes_of_the_worked_example() -> None:
    encoding, stream = rice_encode(pack_bits(example_mask()), 20)
    assert encoding == RiceEncoding(parameter=2, symbol=0, count=3)
    assert stream.tobytes().hex() == "9137"


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 40))))
def test_round_trip(mask: NDArray[np.bool_]) -> None:
    packed = pack_bits(mask)
    encoding, stream = rice_encode(packed, mask.shape[1])
    np.testing.assert_array_equal(decode_rice(stream, encoding, *mask.shape), packed)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 300), st.integers(1, 70))
def test_round_trip_at_any_share_of_zeros(seed: int, share: float, rows: int, columns: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) >= share
    packed = pack_bits(mask)
    encoding, stream = rice_encode(packed, columns)
    assert encoding.count == min(mask.sum(), (~mask).sum())
    np.testing.assert_array_equal(decode_rice(stream, encoding, rows, columns), packed)


@pytest.mark.parametrize("value", [True, False])
def test_a_mask_of_one_value_takes_no_bytes(value: bool) -> None:
    packed = pack_bits(np.full((3, 20), value))
    encoding, stream = rice_encode(packed, 20)
    assert (encoding.count, stream.size) == (0, 0)
    np.testing.assert_array_equal(decode_rice(stream, encoding, 3, 20), packed)


@pytest.mark.parametrize("share", [0.05, 0.07, 0.10, 0.95])
def test_size_is_within_two_percent_of_the_entropy_bound(share: float) -> None:
    mask = np.random.default_rng(1).random((768, 3072)) >= share
    _, stream = rice_encode(pack_bits(mask), 3072)
    measured = stream.size * 8 / mask.size
    bound = entropy(float((~mask).mean()))
    assert bound * 0.999 < measured < bound * 1.02


def test_bound_at_five_percent_is_the_one_of_the_design() -> None:
    assert entropy(0.05) == pytest.approx(0.2864, abs=5e-5)


def test_parameter_is_the_best_one() -> None:
    mask = np.random.default_rng(2).random((64, 512)) >= 0.03
    encoding, stream = rice_encode(pack_bits(mask), 512)
    gaps = np.diff(np.flatnonzero(~mask.reshape(-1)), prepend=-1) - 1
    sizes = [int((gaps >> k).sum()) + gaps.size * (k + 1) for k in range(20)]
    assert encoding.parameter == int(np.argmin(sizes))
    assert stream.size <= -(-min(sizes) // 8) + 1


def check(hexadecimal: str, *, parameter: int = 2, count: int = 3) -> None:
    stream = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8)
    check_rice(stream, RiceEncoding(parameter=parameter, symbol=0, count=count), 40)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ("", "do not fit"),
        ("37", "expected 3 quotients, found 0"),
        ("9337", "expected 3 quotients, found 4"),
        ("910037", "codes nothing"),
        ("11008037", "the last coded bit is number"),
    ],
)
def test_refuses_streams_that_do_not_decode(stream: str, message: str) -> None:
    with pytest.raises(MaskCodingError, match=message):
        check(stream)


def is_code(stream: bytes, parameter: int, count: int, bits: int) -> bool:
    """Decode a bit at a time, as section 4 of docs/bundle-format.md says it."""
    cut = len(stream) - -(-count * parameter // 8)
    if cut < 0 or (cut and not stream[cut - 1]):
        return False
    quotients = [byte >> bit & 1 for byte in stream[:cut] for bit in range(8)]
    remainders = [byte >> bit & 1 for byte in stream[cut:] for bit in range(8)]
    ends = [place for place, bit in enumerate(quotients) if bit]
    if len(ends) != count or any(remainders[count * parameter :]):
        return False
    place = -1
    for number, (before, end) in enumerate(itertools.pairwise([-1, *ends])):
        field = remainders[number * parameter : (number + 1) * parameter]
        place += ((end - before - 1) << parameter) + sum(bit << i for i, bit in enumerate(field)) + 1
    return place < bits


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 30), st.integers(0, 60), st.integers(1, 2000))
def test_the_check_agrees_with_decoding_bit_by_bit(
    stream: bytes, parameter: int, count: int, bits: int
) -> None:
    found = sum(byte.bit_count() for byte in stream[: len(stream) - -(-count * parameter // 8)])
    for claimed in {count, found}:
        encoding = RiceEncoding(parameter=parameter, symbol=0, count=claimed)
        try:
            check_rice(np.frombuffer(stream, np.uint8), encoding, bits)
        except (MaskCodingError, PaddingError):
            assert not is_code(stream, parameter, claimed, bits)
        else:
            assert is_code(stream, parameter, claimed, bits)


@pytest.mark.parametrize(("rows", "columns"), [(3, 1), (700, 1001), (1, 3_000_001), (40_000, 3)])
@pytest.mark.parametrize("share", [0.0, 0.00001, 0.06, 0.4, 0.999])
def test_long_masks_go_in_pieces(rows: int, columns: int, share: float) -> None:
    packed = pack_bits(np.random.default_rng(3).random((rows, columns)) >= share)
    encoding, stream = rice_encode(packed, columns)
    check_rice(stream, encoding, rows * columns)
    np.testing.assert_array_equal(decode_rice(stream, encoding, rows, columns), packed)


def test_two_bits_far_apart_take_the_memory_of_the_mask_and_no_more() -> None:
    stream = np.frombuffer(bytes([0b11]) + ((1 << 26) - 1 << 26 | 7).to_bytes(7, "little"), np.uint8)
    encoding = RiceEncoding(parameter=26, symbol=1, count=2)
    rows, columns = 1 << 13, 1 << 14
    tracemalloc.start()
    check_rice(stream, encoding, rows * columns)
    checked = tracemalloc.get_traced_memory()[1]
    packed = decode_rice(stream, encoding, rows, columns)
    decoded = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert checked < 1 << 20
    assert decoded < packed.nbytes + (4 << 20)
    assert np.flatnonzero(np.unpackbits(packed, bitorder="little")).tolist() == [7, 7 + (1 << 26)]


def test_refuses_remainders_longer_than_the_stream() -> None:
    with pytest.raises(MaskCodingError, match="do not fit"):
        check("9137", count=2**40, parameter=30)


def test_refuses_set_bits_after_the_remainders() -> None:
    with pytest.raises(PaddingError):
        check("9177")
