"""Recent requests: how many a second, and how long 95 % of them took at most, of the last half minute.

Two windows of fixed size follow each other, so the memory is bounded and the answer is of the last 30 to 60
seconds. A latency is known to a tenth: the buckets of a window grow by a quarter of an octave.
"""

import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 30.0
_FIRST = 0.25e-3  # seconds: the upper end of the first bucket
_PER_OCTAVE = 4
_BUCKETS = 72  # the last one holds what takes a minute or longer
_PERCENTILE = 0.95
_NONE = (0,) * _BUCKETS


@dataclass(frozen=True)
class Recent:
    """What happened in the last half minute.

    Attributes:
        per_second: Requests per second.
        p95_seconds: What 95 % of them took at most; None where there were none.
    """

    per_second: float
    p95_seconds: float | None


class RecentRequests:
    """Counts requests by how long they took; not thread-safe. Without requests it holds no buckets."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none; `clock` gives seconds."""
        self._clock = clock
        self._began = clock()
        self._before: array[int] | None = None
        self._now: array[int] | None = None

    def add(self, seconds: float) -> None:
        """Count a request that took so long."""
        self._turn()
        if self._now is None:
            self._now = array("L", bytes(array("L").itemsize * _BUCKETS))
        self._now[_bucket(seconds)] += 1

    def report(self) -> Recent:
        """Return rate and percentile."""
        self._turn()
        if self._before is None and self._now is None:  # most tasks, where there are thousands
            return Recent(0.0, None)
        before, now = self._before or _NONE, self._now or _NONE
        counts = [sum(pair) for pair in zip(before, now, strict=True)]
        left = 1 - (self._clock() - self._began) / WINDOW_SECONDS
        return Recent((sum(now) + sum(before) * left) / WINDOW_SECONDS, _percentile(counts))

    def _turn(self) -> None:
        """Begin the next window if the last one is over, and forget what is older than two."""
        passed = self._clock() - self._began
        if passed >= WINDOW_SECONDS:
            self._before = self._now if passed < 2 * WINDOW_SECONDS else None
            self._now = None
            self._began += WINDOW_SECONDS * int(passed / WINDOW_SECONDS)


def _bucket(seconds: float) -> int:
    if seconds <= _FIRST:
        return 0
    return min(_BUCKETS - 1, math.ceil(_PER_OCTAVE * math.log2(seconds / _FIRST)))


def _percentile(counts: list[int]) -> float | None:
    """Return the middle of the bucket that the 95th percentile lies in, in seconds."""
    wanted, seen = _PERCENTILE * sum(counts), 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen and seen >= wanted:
            return float(_FIRST * 2 ** ((bucket - 0.5) / _PER_OCTAVE))
    return None
