"""The one queue in front of the device, and how batches leave it.

Requests are counted in rows. Every task that waits has a lane; lanes take turns, so no task starves, and a
batch holds rows of one task only. Within a lane the oldest input goes first. Whoever put a request in may
cancel its future at any time: it is then dropped before compute. Nothing here computes or knows HTTP.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock

import numpy as np
from numpy.typing import NDArray

from masking import Features, LoadedTask
from server.errors import InvalidBodyError, QueueFullError, ServerError, ShuttingDownError

Floats = NDArray[np.float32]
Clock = Callable[[], float]


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch and the queue may become.

    Attributes:
        rows: Most rows in one batch.
        tokens: Most tokens in one batch, padding included.
        wait_seconds: How long a batch that is not full waits for more rows.
        waiting: Most rows in the queue.
    """

    rows: int
    tokens: int
    wait_seconds: float
    waiting: int


@dataclass(frozen=True)
class Outcome:
    """What the engine answers for one request: logits per input, and seconds spent."""

    logits: tuple[Floats, ...]
    queue_seconds: float
    compute_seconds: float


@dataclass(eq=False)
class Ticket:
    """One admitted request on its way through the queue.

    Attributes:
        task: The task version that the request keeps until it is answered.
        features: Its inputs; each becomes one `Item`.
        request_id: For the log.
        future: Resolved with an `Outcome`, or failed with a `ServerError`.
    """

    task: LoadedTask
    features: Sequence[Features]
    request_id: str = ""
    future: Future[Outcome] = field(default_factory=Future)
    submitted: float = 0.0
    started: float | None = None
    _logits: dict[int, Floats] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def store(self, index: int, logits: Floats, started: float, now: float) -> None:
        """Keep the logits of one input; the last one resolves the future."""
        self.started = started if self.started is None else self.started
        self._logits[index] = logits
        if len(self._logits) == len(self.features) and self._settle():
            ordered = tuple(self._logits[i] for i in range(len(self.features)))
            self.future.set_result(Outcome(ordered, self.started - self.submitted, now - self.started))

    def fail(self, error: ServerError) -> None:
        """Fail the whole request, unless it is settled already."""
        if self._settle():
            self.future.set_exception(error)

    def _settle(self) -> bool:
        """Whether the caller may resolve the future: it is the first to ask, and nobody cancelled."""
        with self._lock:
            untouched = not (self.future.done() or self.future.running())
            return untouched and self.future.set_running_or_notify_cancel()


@dataclass(frozen=True, eq=False)
class Item:
    """One input of a request: the unit that batches are made of."""

    ticket: Ticket
    index: int

    @property
    def features(self) -> Features:
        """The input itself."""
        return self.ticket.features[self.index]

    @property
    def rows(self) -> int:
        """Rows of this input."""
        return len(self.features.rows)


@dataclass(frozen=True)
class Batch:
    """Inputs of one task to be computed together."""

    task: LoadedTask
    items: tuple[Item, ...]

    @property
    def features(self) -> list[Features]:
        """The inputs in order."""
        return [item.features for item in self.items]

    @property
    def rows(self) -> int:
        """Rows of all inputs."""
        return sum(item.rows for item in self.items)

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return sum(item.features.tokens for item in self.items)

    @property
    def padded_tokens(self) -> int:
        """Tokens with padding: what is really computed."""
        return self.rows * max(item.features.longest for item in self.items)

    @property
    def tickets(self) -> list[Ticket]:
        """The requests that have an input in this batch, each once."""
        return list({id(item.ticket): item.ticket for item in self.items}.values())


class _Lane:
    """The waiting inputs of one task version, oldest first."""

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.rows = 0
        self.tokens = 0

    def push(self, item: Item) -> None:
        self.items.append(item)
        self.rows += item.rows
        self.tokens += item.features.tokens

    def pop(self) -> Item:
        item = self.items.popleft()
        self.rows -= item.rows
        self.tokens -= item.features.tokens
        return item


class BatchQueue:
    """Bounded queue of requests; thread-safe. Any thread puts, one worker takes."""

    def __init__(self, limits: BatchLimits, *, clock: Clock = time.monotonic) -> None:
        """Starts empty and open."""
        self.limits = limits
        self._clock = clock
        self._changed = Condition()
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._waiting = 0
        self._reserved = 0
        self._seconds_per_row = 0.0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Rows in the queue, those still being tokenised included."""
        return self._waiting + self._reserved

    @property
    def drained(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._lanes

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

    def put(self, ticket: Ticket) -> None:
        """Add all inputs of a request, or none of them; longest inputs last, so that padding is small.

        Raises:
            InvalidBodyError: An input alone is over the limits of a batch.
            QueueFullError: The rows do not fit in now.
            ShuttingDownError: The queue is closed.
        """
        items = [Item(ticket, index) for index in range(len(ticket.features))]
        for item in items:
            self._check_size(item)
        rows = sum(item.rows for item in items)
        with self._changed:
            self._check_room(rows)
            ticket.submitted = self._clock()
            lane = self._lanes.setdefault(ticket.task.digest, _Lane())
            for item in sorted(items, key=lambda item: item.features.longest):
                lane.push(item)
            self._waiting += rows
            self._changed.notify()

    def take(self) -> Batch | None:
        """Wait for a batch.

        Returns:
            Live inputs of one task within the limits; None once the queue is closed and empty.
        """
        with self._changed:
            while not self.drained:
                key, wait = self._next_lane()
                if key is None:
                    self._changed.wait(wait)
                elif batch := self._collect(key):
                    return batch
        return None

    def close(self) -> None:
        """Refuse new requests; what is in the queue is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self, error: ServerError) -> None:
        """Fail everything that waits; for a queue that nobody will take from again."""
        with self._changed:
            for lane in self._lanes.values():
                for item in lane.items:
                    item.ticket.fail(error)
            self._lanes.clear()
            self._waiting = 0

    def note_speed(self, rows: int, seconds: float) -> None:
        """Learn from a finished batch how long rows take, for Retry-After."""
        self._seconds_per_row += 0.2 * (seconds / rows - self._seconds_per_row)

    def _check_size(self, item: Item) -> None:
        padded = item.rows * item.features.longest
        for count, limit, unit in (
            (item.rows, self.limits.rows, "rows"),
            (padded, self.limits.tokens, "tokens"),
        ):
            if count > limit:
                raise InvalidBodyError(
                    f"input {item.index} alone has {count} {unit} and a batch takes at most {limit}"
                )

    def _check_room(self, rows: int) -> None:
        limit = self.limits.waiting
        if self._closed:
            raise ShuttingDownError
        if rows > limit:
            raise InvalidBodyError(f"the request has {rows} rows and at most {limit} may wait; send fewer")
        if self.waiting + rows > limit:
            self._purge()
        if self.waiting + rows > limit:
            raise QueueFullError(self.waiting, limit, self.waiting * self._seconds_per_row)

    def _purge(self) -> None:
        """Forget the inputs of settled requests, so that they hold no room."""
        for key, lane in list(self._lanes.items()):
            for _ in range(len(lane.items)):
                item = lane.pop()
                if item.ticket.future.done():
                    self._waiting -= item.rows
                else:
                    lane.push(item)
            if not lane.items:
                del self._lanes[key]

    def _next_lane(self) -> tuple[str | None, float | None]:
        """The first lane whose turn it is; else how long until there is one."""
        shortest: float | None = None
        for key, lane in self._lanes.items():
            full = lane.rows >= self.limits.rows or lane.tokens >= self.limits.tokens
            if full or self._closed:
                return key, None
            age = self._clock() - lane.items[0].ticket.submitted
            if age >= self.limits.wait_seconds:
                return key, None
            wait = self.limits.wait_seconds - age
            shortest = wait if shortest is None else min(shortest, wait)
        return None, shortest

    def _collect(self, key: str) -> Batch | None:
        """Take from a lane what fits into one batch; the lane's rest waits for its next turn."""
        lane = self._lanes.pop(key)
        taken: list[Item] = []
        rows = longest = 0
        while lane.items:
            item = lane.items[0]
            if not item.ticket.future.done():
                rows, longest = rows + item.rows, max(longest, item.features.longest)
                if taken and (rows > self.limits.rows or rows * longest > self.limits.tokens):
                    break
                taken.append(item)
            lane.pop()
            self._waiting -= item.rows
        if lane.items:
            self._lanes[key] = lane
        return Batch(taken[0].ticket.task, tuple(taken)) if taken else None
