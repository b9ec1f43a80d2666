"""What any file may do to a reader: be refused by the store's own error, at once and in little memory."""

import time
import tracemalloc
from collections import Counter

import pytest

from mask_store import BundleError, MaskBundle
from mask_store.format.bundle import digest_of
from mask_store.messages import LONGEST_MESSAGE
from tests.mask_store.format.mutations import mutants, originals

CONSTANT_BYTES = 64 << 20  # docs/bundle-format.md, section 6
LONGEST_SECONDS = 5  # of the process's own time, on any machine
KINDS = 15  # ways of being refused that the mutants must reach at least
SMALL_BYTES = 1 << 16


@pytest.mark.parametrize(
    ("count", "seed"),
    [(1_000, 1), pytest.param(100_000, 2, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])],
)
def test_mutants_are_refused_by_the_stores_own_error(count: int, seed: int) -> None:
    kinds = Counter[str]()
    slowest, largest = 0.0, 0
    for data in mutants(count, seed):
        started = time.process_time()
        kinds[outcome(data)] += 1
        slowest = max(slowest, time.process_time() - started)
        largest = max(largest, peak_bytes(data) - 3 * len(data))
    print(f"{count} files, {slowest:.3f} s and 3 times the size and {largest:,} bytes at most: {kinds}")
    assert slowest < LONGEST_SECONDS
    assert largest < CONSTANT_BYTES
    assert len(kinds) > KINDS


def test_the_originals_are_accepted() -> None:
    assert {outcome(data) for data in originals()} == {"accepted"}


def outcome(data: bytes) -> str:
    """Read a file; say how it was refused. What is accepted can be decoded, and is what was written."""
    try:
        bundle = MaskBundle.from_bytes(data)
    except BundleError as error:
        assert str(error).isprintable()
        assert len(str(error)) <= LONGEST_MESSAGE
        return type(error).__name__
    assert bundle.to_bytes() == data
    for member in bundle.members:
        small = (layer for layer in member.info.layers if layer.packed_bytes < SMALL_BYTES)
        assert all(member.masks[layer.name].nbytes == layer.packed_bytes for layer in small)
    return "accepted"


def peak_bytes(data: bytes) -> int:
    """Read a file past its checksum, as a store reads what a record names; return the memory that it took."""
    tracemalloc.start()
    try:
        MaskBundle.from_bytes(data, digest=digest_of(data))
    except BundleError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak
