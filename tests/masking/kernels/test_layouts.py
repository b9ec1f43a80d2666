import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask_store.format.bits import pack_bits
from mask_store.format.rice import decode_rice, rice_encode
from masking.binarize import apply_mask
from masking.kernels import BitMask, StripMask, WordMask, ready_mask, rice_decoder
from masking.kernels.cpu import launch as native
from tests.masking.kernels.conftest import needs_kernels


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(0, 1), st.integers(0, 2**20))
def test_strips_hold_the_same_bits(rows: int, columns: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    bits = BitMask(pack_bits(mask), columns)
    strips = StripMask.of(bits)
    assert strips.shape == bits.shape == (rows, columns)
    assert np.array_equal(strips.expand().numpy(), mask)
    assert np.array_equal(pack_bits(strips.expand().numpy()), bits.packed)


@needs_kernels
def test_known_strip() -> None:
    mask = np.zeros((17, 2), np.bool_)
    mask[[0, 15, 16], [0, 1, 1]] = True
    strips = StripMask.of(BitMask(pack_bits(mask), 2)).strips
    assert strips.tolist() == [[1, 1 << 15], [0, 1]]


@needs_kernels
def test_a_strip_mask_takes_one_bit_per_weight() -> None:
    bits = BitMask(np.zeros((768, 96), np.uint8), 768)
    assert StripMask.of(bits).nbytes == bits.nbytes == 768 * 768 // 8


@needs_kernels
def test_bits_that_may_not_be_written_to() -> None:
    packed = np.full((16, 1), 255, np.uint8)
    packed.flags.writeable = False
    assert StripMask.of(BitMask(packed, 8)).strips.tolist() == [[0xFFFF] * 8]


def test_bits_applied_to_a_weight() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    bits = BitMask(pack_bits(np.array([[True, False, True], [False, True, True]])), 3)
    assert apply_mask(weight, bits.expand()).tolist() == [[0, 0, 2], [0, 4, 5]]


def test_ready_mask_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    assert isinstance(ready_mask(np.zeros((2, 1), np.uint8), 3), BitMask)


def test_strips_that_the_kernel_could_not_read() -> None:
    with pytest.raises(ValueError, match="contiguous uint16"):
        StripMask(np.zeros((1, 8), np.uint16)[:, ::2], 16)
    with pytest.raises(ValueError, match="1 strips do not hold 17 rows"):
        StripMask(np.zeros((1, 8), np.uint16), 17)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(0, 1), st.integers(0, 2**20))
def test_words_hold_the_same_bits(rows: int, columns: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    words = WordMask.of(BitMask(pack_bits(mask), columns), torch.device("cpu"))
    assert words.shape == (rows, columns)
    assert np.array_equal(words.expand().numpy(), mask)


def test_known_word() -> None:
    mask = np.zeros((3, 33), np.bool_)
    mask[[0, 1, 1, 2], [0, 1, 32, 31]] = True
    words = WordMask.of(BitMask(pack_bits(mask), 33), torch.device("cpu")).words
    assert words.tolist() == [[1, 2, -(2**31)], [0, 1, 0]]


def test_a_word_mask_takes_one_bit_per_weight_and_applies() -> None:
    bits = BitMask(np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8), 768)
    words, weight = WordMask.of(bits, torch.device("cpu")), torch.randn(96, 768)
    assert words.nbytes == bits.nbytes == 96 * 768 // 8
    assert torch.equal(apply_mask(weight, words.expand()), apply_mask(weight, bits.expand()))
    assert apply_mask(weight.bfloat16(), words.expand()).dtype == torch.bfloat16


def test_words_that_the_kernel_could_not_read() -> None:
    with pytest.raises(ValueError, match="contiguous int32"):
        WordMask(torch.zeros(2, 8, dtype=torch.int32).T, 16)
    with pytest.raises(ValueError, match="1 rows of words do not hold 33 columns"):
        WordMask(torch.zeros(1, 8, dtype=torch.int32), 33)


def test_a_mask_for_another_device_lives_there() -> None:
    mask = ready_mask(np.zeros((2, 1), np.uint8), 3, torch.device("meta"))
    assert isinstance(mask, WordMask)
    assert (mask.words.device.type, mask.shape) == ("meta", (2, 3))


@needs_kernels
@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 600), st.floats(0, 1), st.integers(0, 2**20))
def test_codes_are_decoded_as_the_format_says(rows: int, columns: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < share**4  # sparse ones have long gaps
    encoding, stream = rice_encode(pack_bits(mask), columns)
    stream.setflags(write=False)
    found = native.decode_rice(stream, encoding, rows, columns)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, decode_rice(stream, encoding, rows, columns))


@needs_kernels
@pytest.mark.parametrize("places", [[], [0], [63 * 64 - 1], [0, 63 * 64 - 1], list(range(0, 64 * 64, 65))])
def test_known_places_are_decoded(places: list[int]) -> None:
    mask = np.zeros(63 * 65, np.bool_)
    mask[[place for place in places if place < mask.size]] = True
    packed = pack_bits(mask.reshape(63, 65))
    encoding, stream = rice_encode(packed, 65)
    np.testing.assert_array_equal(native.decode_rice(stream, encoding, 63, 65), packed)


@needs_kernels
def test_the_kernel_decodes_where_kernels_compute() -> None:
    cpu = torch.device("cpu")
    assert rice_decoder(cpu) is native.decode_rice
    assert rice_decoder(cpu, "off") is rice_decoder(torch.device("cuda")) is decode_rice
