"""Request queue in front of the device, and how batches leave it.

A batch mixes tasks. The task versions that wait take turns, one input each, and each batch resumes the round
where the last one ended: a flood for one task delays another by no more than the batch that is being
computed. Rows and tokens are counted as they are computed, without padding.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Literal

from server.engine.fair_queue import FairQueue
from server.engine.pending import Clock, Cost, DropReason, PendingRequest, QueueEntry
from server.errors import InvalidBodyError, QueueFullError, ServerError, ShuttingDownError

CloseReason = Literal["full_rows", "full_tokens", "waited", "idle", "drained"]

_SMALLEST = Cost(1, 1)
_MEMORY_OF_SPEED = 0.8  # weight of the batches before, where the newest one counts 1


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch and the queue may become.

    Attributes:
        rows: Most rows in one batch.
        tokens: Most tokens in one batch, of all rows, without padding.
        wait_seconds: How long a batch that is not full waits for more inputs.
        waiting: Most rows in the queue.
    """

    rows: int
    tokens: int
    wait_seconds: float
    waiting: int

    def exceeded_by(self, cost: Cost) -> Literal["full_rows", "full_tokens"] | None:
        """Return the limit of a batch that this is over, if there is one."""
        if cost.rows > self.rows:
            return "full_rows"
        return "full_tokens" if cost.tokens > self.tokens else None


@dataclass(frozen=True)
class Batch:
    """Inputs to be computed together.

    Attributes:
        entries: The inputs, in the order in which they were taken.
        reason: Why nothing more was taken: `full_rows` and `full_tokens` (the next input would have been over
            that limit); else the queue was empty, after the longest wait (`waited`), with nothing to wait for
            (`idle`), or for good (`drained`).
    """

    entries: tuple[QueueEntry, ...]
    reason: CloseReason

    @property
    def cost(self) -> Cost:
        """Rows and tokens of all inputs."""
        return sum((entry.cost for entry in self.entries), Cost())

    @property
    def tasks(self) -> int:
        """Task versions that it mixes."""
        return len({entry.request.task.digest for entry in self.entries})

    @property
    def padding_tokens(self) -> int:
        """Tokens that padding every row to the longest one would add."""
        longest = max(entry.features.longest for entry in self.entries)
        return self.cost.rows * longest - self.cost.tokens

    @property
    def requests(self) -> list[PendingRequest]:
        """The requests that have an input in this batch, each once."""
        return list({id(entry.request): entry.request for entry in self.entries}.values())


def ignore(_event: object) -> None:
    """Do nothing: what is called where the caller gives no function."""


class RequestQueue:
    """Bounded queue of requests; thread-safe. Any thread puts, one worker takes."""

    def __init__(
        self,
        limits: BatchLimits,
        *,
        clock: Clock = time.monotonic,
        on_drop: Callable[[DropReason], None] = ignore,
    ) -> None:
        """Start empty and open.

        Args:
            limits: Limits of batches and of the queue.
            clock: Seconds, for waiting times and deadlines.
            on_drop: Called with why a request left the queue without being computed.
        """
        self.limits = limits
        self._clock = clock
        self._on_drop = on_drop
        self._changed = Condition()
        self._waiting = FairQueue()
        self._reserved = 0
        self._measured_tokens = self._measured_seconds = 0.0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Rows in the queue, those still being tokenised included."""
        return self._waiting.cost.rows + self._reserved

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return self._waiting.cost.tokens

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest input has waited; 0 if none waits."""
        with self._changed:
            oldest = self._waiting.oldest
            return 0.0 if oldest is None else self._clock() - oldest

    @property
    def drained(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._waiting

    @contextmanager
    def reservation(self, rows: int) -> Iterator[None]:
        """Hold room for rows that are still being tokenised.

        Raises:
            QueueFullError: There is no room for them now.
            InvalidBodyError: There is never room for so many.
            ShuttingDownError: The queue is closed.
        """
        with self._changed:
            self._check_room(rows)
            self._reserved += rows
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= rows

    def put(self, request: PendingRequest) -> None:
        """Add all inputs of a request, or none of them; longest inputs last, so that equal lengths meet.

        Raises:
            InvalidBodyError: An input alone is over the limits of a batch.
            QueueFullError: The rows do not fit in now.
            ShuttingDownError: The queue is closed.
        """
        entries = sorted(request.entries(), key=lambda entry: entry.features.longest)
        for entry in entries:
            self._check_size(entry)
        cost = sum((entry.cost for entry in entries), Cost())
        with self._changed:
            self._check_room(cost.rows)
            request.timings.queued = self._clock()
            self._waiting.add(entries)
            self._changed.notify()

    def take(self) -> Batch | None:
        """Wait for a batch.

        Returns:
            Live inputs within the limits; None once the queue is closed and empty.
        """
        with self._changed:
            while not self.drained:
                wait = self._wait_needed()
                if wait > 0:
                    self._changed.wait(None if wait == math.inf else wait)
                elif batch := self._collect():
                    return batch
        return None

    def close(self) -> None:
        """Refuse new requests; what is in the queue is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self, error: ServerError) -> None:
        """Fail everything that waits; for a queue that no worker will take from again."""
        with self._changed:
            for request in self._waiting.requests:
                if not self._dead(request):
                    request.fail(error)
                    self._on_drop("abandoned")
            self._waiting.clear()

    def note_speed(self, tokens: int, seconds: float) -> None:
        """Learn from a finished batch how long tokens take, for Retry-After."""
        self._measured_tokens = _MEMORY_OF_SPEED * self._measured_tokens + tokens
        self._measured_seconds = _MEMORY_OF_SPEED * self._measured_seconds + seconds

    def _check_size(self, entry: QueueEntry) -> None:
        match self.limits.exceeded_by(entry.cost):
            case "full_rows":
                count, limit, unit = entry.cost.rows, self.limits.rows, "rows"
            case "full_tokens":
                count, limit, unit = entry.cost.tokens, self.limits.tokens, "tokens"
            case None:
                return
        raise InvalidBodyError(
            f"input {entry.index} alone has {count} {unit} and a batch takes at most {limit} {unit}"
        )

    def _check_room(self, rows: int) -> None:
        limit = self.limits.waiting
        if self._closed:
            raise ShuttingDownError
        if rows > limit:
            raise InvalidBodyError(f"the request has {rows} rows and at most {limit} may wait; send fewer")
        if self.waiting + rows > limit:
            self._waiting.discard(self._dead)
        if self.waiting + rows > limit:
            raise QueueFullError(self.waiting, limit, self._seconds_to_drain())

    def _seconds_to_drain(self) -> float:
        return self._waiting.cost.tokens * self._measured_seconds / max(1.0, self._measured_tokens)

    def _dead(self, request: PendingRequest) -> bool:
        """Return whether nobody waits for this request; count those that were never computed."""
        if (reason := request.drop(self._clock())) is not None:
            self._on_drop(reason)
        return request.future.done()

    def _wait_needed(self) -> float:
        """Return the seconds until the next batch is due; infinite while nothing waits."""
        oldest, waiting, limits = self._waiting.oldest, self._waiting.cost, self.limits
        if oldest is None:
            return math.inf
        if self._closed or limits.exceeded_by(waiting + _SMALLEST):
            return 0.0
        return oldest + limits.wait_seconds - self._clock()

    def _collect(self) -> Batch | None:
        """Take inputs in turn until the batch is full or nothing is left; None if all of it was dead."""
        taken: list[QueueEntry] = []
        cost = Cost()
        while self._waiting:
            entry = self._waiting.first()
            if not self._dead(entry.request):
                cost += entry.cost
                if self.limits.exceeded_by(cost):
                    break
                taken.append(entry)
            self._waiting.pop()
        return Batch(tuple(taken), self._why_closed(cost)) if taken else None

    def _why_closed(self, cost: Cost) -> CloseReason:
        """Tell why, from the cost of what was taken and of the input that was too much, if there was one."""
        full = self.limits.exceeded_by(cost) or self.limits.exceeded_by(cost + _SMALLEST)
        if full is not None:
            return full
        if self._closed:
            return "drained"
        return "waited" if self.limits.wait_seconds else "idle"
