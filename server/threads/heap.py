"""Heap: what the C library does with freed memory, where it can be told (glibc)."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_KEPT_BYTES = 64 << 20
_LARGEST_BYTES = 32 << 20  # as much as mallopt takes


def keep_freed() -> None:
    """Keep up to 64 MiB of what is freed for the next body, instead of giving it back each time.

    The system hands out memory page by page, which takes longer than all else that reading a body takes, and
    other threads wait for the interpreter meanwhile.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back_freed() -> None:
    """Give back to the system what was freed: reading bundles leaves holes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
