"""One admitted request on its way through the queue: its inputs, what they cost, and how it is settled.

Whoever put a request in may cancel its future at any time, and every request has a deadline: what is
cancelled or late is never computed. Nothing here decides when something is computed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from masking import Features, LoadedTask
from server.errors import DeadlineError, ServerError

Floats = NDArray[np.float32]
Clock = Callable[[], float]
DropReason = Literal["cancelled", "expired", "abandoned"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What inputs take of a batch or of the queue: rows, and the tokens of all rows, nothing padded."""

    rows: int = 0
    tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(self.rows + other.rows, self.tokens + other.tokens)

    def __sub__(self, other: "Cost") -> "Cost":
        """What is left without the other."""
        return Cost(self.rows - other.rows, self.tokens - other.tokens)


def cost_of(task: LoadedTask, features: Features) -> Cost:
    """What computing one input of a task costs; limits, shares and metrics all count by it."""
    members = len(task.members)
    return Cost(members * len(features.rows), members * features.tokens)


@dataclass(frozen=True)
class Outcome:
    """What the engine answers for one request: logits per input, and seconds spent."""

    logits: tuple[Floats, ...]
    queue_seconds: float
    compute_seconds: float


@dataclass(eq=False)
class Ticket:
    """One admitted request.

    Attributes:
        task: The task version that the request keeps until it is answered.
        features: Its inputs; each becomes one `Item`.
        request_id: For the log.
        deadline: When nobody waits for the answer any more, by the queue's clock.
        future: Resolved with an `Outcome`, or failed with a `ServerError`.
        submitted: When it was put into the queue.
        started: When the first batch with one of its inputs began.
    """

    task: LoadedTask
    features: Sequence[Features]
    request_id: str = ""
    deadline: float = math.inf
    future: Future[Outcome] = field(default_factory=Future)
    submitted: float = 0.0
    started: float | None = None
    _logits: dict[int, Floats] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _dropped: bool = False

    def items(self) -> Iterator["Item"]:
        """The inputs with their costs, in order."""
        for index, features in enumerate(self.features):
            yield Item(self, index, cost_of(self.task, features))

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

    def drop(self, now: float) -> DropReason | None:
        """Give the request up if it is cancelled or late.

        Returns:
            Why, the first time; None from the second time on, and for a request that is wanted or answered.
        """
        late = now >= self.deadline and not self._answered
        if self._dropped or not (late or self.future.cancelled()):
            return None
        self._dropped = True
        self.fail(DeadlineError())
        return "expired" if late else "cancelled"

    @property
    def _answered(self) -> bool:
        return self.future.done() and not self.future.cancelled()

    def _settle(self) -> bool:
        """Whether the caller may resolve the future: it is the first to ask, and nobody cancelled."""
        with self._lock:
            untouched = not (self.future.done() or self.future.running())
            return untouched and self.future.set_running_or_notify_cancel()


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One input of a request: the unit that batches are made of."""

    ticket: Ticket
    index: int
    cost: Cost

    @property
    def features(self) -> Features:
        """The input itself."""
        return self.ticket.features[self.index]
