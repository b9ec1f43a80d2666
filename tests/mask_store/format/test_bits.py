import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mask_store import pack_bits, unpack_bits
from mask_store.format.bits import count_zeros, padding_is_zero

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 40)))


def test_golden_bytes() -> None:
    mask = np.array([[1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [0, 1, 1, 1, 1, 1, 1, 0, 1, 0]], np.bool_)
    assert pack_bits(mask).tolist() == [[0b10000001, 0b10], [0b01111110, 0b01]]


@given(masks)
def test_round_trip(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    packed = pack_bits(mask)
    assert packed.dtype == np.uint8
    assert packed.shape == (mask.shape[0], -(-mask.shape[1] // 8))
    np.testing.assert_array_equal(unpack_bits(packed, mask.shape[1]), mask)


@given(masks)
def test_bitarray_and_numpy_agree(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    np.testing.assert_array_equal(pack_bits(mask), np.packbits(mask, axis=1, bitorder="little"))


@given(masks)
def test_counts_zeros_and_leaves_padding_zero(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    packed = pack_bits(mask)
    assert count_zeros(packed, mask.shape[1]) == int((~mask).sum())
    assert padding_is_zero(packed, mask.shape[1])


def test_sees_a_set_padding_bit() -> None:
    packed = pack_bits(np.ones((3, 10), np.bool_))
    packed[1, 1] |= 0b100
    assert not padding_is_zero(packed, 10)


def test_packs_a_view_that_is_not_contiguous() -> None:
    mask = np.random.default_rng(0).random((16, 24)) > 0.5
    np.testing.assert_array_equal(pack_bits(mask.T), np.packbits(mask.T, axis=1, bitorder="little"))
    packed = pack_bits(mask)
    np.testing.assert_array_equal(unpack_bits(packed[::2], 24), mask[::2])


@pytest.mark.parametrize("wrong", [np.ones((2, 8), np.uint8), np.ones(8, np.bool_)])
def test_pack_refuses_what_is_no_bool_matrix(wrong: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    with pytest.raises(ValueError, match="expected a bool matrix"):
        pack_bits(wrong)


@pytest.mark.parametrize("columns", [8, 17])
def test_unpack_refuses_rows_of_another_length(columns: int) -> None:
    with pytest.raises(ValueError, match="expected uint8 of shape"):
        unpack_bits(np.zeros((2, 2), np.uint8), columns)
