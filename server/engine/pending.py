"""Pending request: one admitted request in the queue, its entries, what they cost, and its timings.

Whoever put a request in may cancel its future at any time, and every request has a deadline: what is
cancelled or late is never computed.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

from masking import Features, LoadedTask
from masking.tasks.predictions import Floats
from server.errors import DeadlineError, ServerError

Clock = Callable[[], float]
DropReason = Literal["cancelled", "expired", "abandoned"]


@dataclass(slots=True)
class Timings:
    """When one request reached each stage, in seconds on the monotonic clock; 0 for a stage not reached.

    Each time is noted once, where it happens. Statistics, Prometheus, headers and traces read them from here.

    Attributes:
        received: The server took the request.
        admitted: Its inputs were read, and tokenising began.
        queued: It was put into the queue.
        started: The first batch with one of its inputs began.
        computed: The last of its inputs was computed.
        finished: Its predictions were decoded.
        tokens: Tokens of all its inputs, without padding.
        tokenized: It was tokenised, and had to wait for the masks of its task.
    """

    received: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    queued: float = 0.0
    started: float = 0.0
    computed: float = 0.0
    finished: float = 0.0
    tokens: int = 0
    tokenized: float = 0.0

    @property
    def tokenize(self) -> float:
        """Seconds of tokenising."""
        return (self.tokenized or self.queued) - self.admitted

    @property
    def masks(self) -> float:
        """Seconds of waiting for the masks of the task, after tokenising; 0 where they were ready."""
        return self.queued - self.tokenized if self.tokenized else 0.0

    @property
    def queue(self) -> float:
        """Seconds in the queue."""
        return self.started - self.queued

    @property
    def compute(self) -> float:
        """Seconds from the first batch to the last."""
        return self.computed - self.started

    @property
    def total(self) -> float:
        """Seconds from the arrival to the predictions."""
        return self.finished - self.received

    @property
    def stages(self) -> tuple[tuple[str, float, float], ...]:
        """Name, start and end of each stage of a finished request; empty for any other."""
        if not self.finished:
            return ()
        masks = (("masks", self.tokenized, self.queued),) if self.tokenized else ()
        return (
            ("tokenize", self.admitted, self.tokenized or self.queued),
            *masks,
            ("queue", self.queued, self.started),
            ("compute", self.started, self.computed),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What inputs take of a batch or of the queue: rows, and the tokens of all rows, nothing padded."""

    rows: int = 0
    tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both together."""
        return Cost(self.rows + other.rows, self.tokens + other.tokens)

    def __sub__(self, other: "Cost") -> "Cost":
        """Return what is left without the other."""
        return Cost(self.rows - other.rows, self.tokens - other.tokens)


def cost_of(task: LoadedTask, features: Features) -> Cost:
    """Count what computing one input of a task costs; limits, shares and metrics all count by it."""
    return Cost(task.copies * len(features.rows), task.copies * features.tokens)


@dataclass(eq=False)
class PendingRequest:
    """One admitted request.

    Attributes:
        task: The task version that the request keeps until it is answered.
        features: Its inputs, at least one; each becomes one `QueueEntry`.
        request_id: For the log.
        deadline: When nobody waits for the answer any more, by the queue's clock.
        timings: When it reached each stage.
        future: Resolved with float32 logits per input, in order, or failed with a `ServerError`.
    """

    task: LoadedTask
    features: Sequence[Features]
    request_id: str = ""
    deadline: float = math.inf
    timings: Timings = field(default_factory=Timings)
    future: Future[tuple[Floats, ...]] = field(default_factory=Future)
    _logits: dict[int, Floats] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def cost(self) -> Cost:
        """Rows and tokens of all inputs."""
        return sum((cost_of(self.task, features) for features in self.features), Cost())

    def entries(self) -> Iterator["QueueEntry"]:
        """Yield the inputs with their costs, in order."""
        for index, features in enumerate(self.features):
            yield QueueEntry(self, index, cost_of(self.task, features))

    def add_logits(self, index: int, logits: Floats, started: float, now: float) -> None:
        """Keep the logits of one input; the last one resolves the future.

        Args:
            index: Place of the input in the request.
            logits: Its float32 logits.
            started: When the batch with it began.
            now: When that batch was computed.
        """
        self.timings.started = self.timings.started or started
        self._logits[index] = logits
        if len(self._logits) == len(self.features) and self._settle():
            self.timings.computed = now
            self.future.set_result(tuple(self._logits[i] for i in range(len(self.features))))

    def fail(self, error: ServerError) -> None:
        """Fail the whole request, unless it is settled already."""
        if self._settle():
            self.future.set_exception(error)

    def drop(self, now: float) -> DropReason | None:
        """Give the request up if it is cancelled or late.

        Returns:
            Why; None for a request that is wanted or answered.
        """
        late = now >= self.deadline and not self._answered
        if not (late or self.future.cancelled()):
            return None
        self.fail(DeadlineError())
        return "expired" if late else "cancelled"

    @property
    def _answered(self) -> bool:
        return self.future.done() and not self.future.cancelled()

    def _settle(self) -> bool:
        """Return whether the caller may resolve the future: it is the first to ask, and nobody cancelled."""
        with self._lock:
            untouched = not (self.future.done() or self.future.running())
            return untouched and self.future.set_running_or_notify_cancel()


@dataclass(frozen=True, eq=False, slots=True)
class QueueEntry:
    """One input of a request: the unit that batches are made of."""

    request: PendingRequest
    index: int
    cost: Cost

    @property
    def features(self) -> Features:
        """The input itself."""
        return self.request.features[self.index]
