"""Quota: how many rows a caller may ask in a second, and have computed at a time. Used by one event loop.

Rows per second are a token bucket. It holds the rows of one second, and a request takes as many as it has
rows. A request with more than the bucket holds is let in while the bucket is full, and what it took too much
has to flow in again before the next.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import InvalidBodyError, KeyLimitError

_ROUNDING = 1e-6  # rows


@dataclass(frozen=True)
class Limits:
    """Limits of a caller; None for none.

    Attributes:
        rows_per_second: Rows that it may ask on average.
        rows_in_flight: Rows that may be computed for it at a time.
    """

    rows_per_second: float | None = None
    rows_in_flight: int | None = None


class Hold:
    """Rows that are computed for a caller, until they are released."""

    def __init__(self, quota: "Quota", rows: int) -> None:
        """Count them."""
        self._quota, self._rows = quota, rows
        quota.in_flight += rows

    def release(self) -> None:
        """Count them no longer."""
        rows, self._rows = self._rows, 0
        if rows:
            self._quota.in_flight -= rows
            self._quota.let_in()


class Quota:
    """What is left to a caller of its limits.

    Attributes:
        limits: May be replaced at any time, from any thread.
        in_flight: Rows that are computed for it now.
    """

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with a full bucket.

        Args:
            name: Of the caller, for messages.
            limits: Its limits.
            clock: Gives seconds.
        """
        self.limits = limits
        self.in_flight = 0
        self._name = name
        self._clock = clock
        self._left: float | None = None  # full
        self._seen = clock()
        self._line: deque[tuple[int, asyncio.Future[Hold]]] = deque()

    def check(self) -> None:
        """Refuse whatever is asked now, before anything is read; `admit` would refuse it, too.

        Raises:
            KeyLimitError: Not even one row is left.
        """
        self._check_flight(1)
        self._check_rate(1)

    def charge(self, rows: int) -> None:
        """Take rows of the rate.

        Raises:
            KeyLimitError: So many are not left.
        """
        self._check_rate(rows)
        if (rate := self.limits.rows_per_second) is not None:
            self._left = self._filled(rate) - rows

    @contextmanager
    def admit(self, rows: int) -> Iterator[None]:
        """Take rows, of which those in flight are given back at the end.

        Raises:
            KeyLimitError: So many are not left.
            InvalidBodyError: So many may never be in flight.
        """
        self._check_ever(rows)
        self._check_flight(rows)
        self.charge(rows)
        hold = Hold(self, rows)
        try:
            yield
        finally:
            hold.release()

    async def hold(self, rows: int) -> Hold:
        """Wait until rows may be in flight, in turn with others who wait; they are not charged.

        Raises:
            InvalidBodyError: So many may never be.
        """
        self._check_ever(rows)
        if not self._line and self._fits(rows):
            return Hold(self, rows)
        waiting: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        self._line.append((rows, waiting))
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():  # it got its turn meanwhile
                waiting.result().release()
            raise

    def let_in(self) -> None:
        """Give those who wait their turn, as far as there is room."""
        while self._line:
            rows, waiting = self._line[0]
            if not waiting.done():
                if self.in_flight and not self._fits(rows):
                    return
                waiting.set_result(Hold(self, rows))
            self._line.popleft()

    def _fits(self, rows: int) -> bool:
        most = self.limits.rows_in_flight
        return most is None or self.in_flight + rows <= most

    def _check_ever(self, rows: int) -> None:
        most = self.limits.rows_in_flight
        if most is not None and rows > most:
            raise InvalidBodyError(
                f"the request has {rows} rows and key {self._name!r} may have {most} in flight; send fewer"
            )

    def _check_flight(self, rows: int) -> None:
        if not self._fits(rows):
            raise KeyLimitError(
                f"{self.in_flight} rows of key {self._name!r} are in flight and its limit is "
                f"{self.limits.rows_in_flight}; try again after Retry-After"
            )

    def _check_rate(self, rows: int) -> None:
        rate = self.limits.rows_per_second
        if rate is None:
            return
        missing = min(rows, _capacity(rate)) - self._filled(rate)
        if missing > _ROUNDING:
            raise KeyLimitError(
                f"key {self._name!r} may ask {rate:g} rows per second; try again after Retry-After",
                missing / rate,
            )

    def _filled(self, rate: float) -> float:
        """Return the rows in the bucket, after what flowed in since the last look."""
        now, most = self._clock(), _capacity(rate)
        left = most if self._left is None else min(most, self._left + (now - self._seen) * rate)
        self._left, self._seen = left, now
        return left


def _capacity(rate: float) -> float:
    return max(1.0, rate)
