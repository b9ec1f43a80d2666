"""Room in the queue: who may still come in, who holds a place, and who waits for one. Not thread-safe.

What waits is limited in rows, and in seconds by the speed of the last batches. The seconds that count for a
request are those of what is computed before it: versions take turns, so that rows of others which wait behind
their own kind do not keep it out.

Requests that can wait for a place (rows of large bodies) get it in the order in which they asked. They have
at most half of the queue, so that others find room beside them.
"""

from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from statistics import median_low
from types import TracebackType

from server.engine.batch import BatchLimits
from server.engine.fair_queue import FairQueue
from server.engine.pending import Cost
from server.errors import QueueFullError, ServerError

_SHARE_OF_PATIENT = 0.5
_BATCHES_REMEMBERED = 8


class Speed:
    """How fast the last batches were computed; one that is out of the ordinary does not count."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._batches: deque[tuple[Cost, float]] = deque(maxlen=_BATCHES_REMEMBERED)
        self._seconds_per_token = 0.0
        self.tokens_per_row = 0.0
        """Tokens that a row has on average; 0 before the first batch."""

    def note(self, cost: Cost, seconds: float) -> None:
        """Learn from a finished batch."""
        self._batches.append((cost, seconds))
        whole = sum((one for one, _ in self._batches), Cost())
        self.tokens_per_row = whole.tokens / whole.rows
        self._seconds_per_token = median_low(spent / one.tokens for one, spent in self._batches)

    def seconds(self, tokens: float) -> float:
        """Return how long tokens take; 0 before the first batch."""
        return tokens * self._seconds_per_token


@dataclass(eq=False)
class Reservation:
    """Room for the rows of one request; a context, at the end of which it is given back.

    Attributes:
        version: Digest of the task version that the rows are for.
        rows: How many.
        patient: Whether the request can wait for a place; if so it is counted until it is answered.
        held: Whether the rows take room now: from when they get it until the request is put.
    """

    version: str
    rows: int
    end: Callable[["Reservation"], None]
    patient: bool = False
    held: bool = False
    counted: bool = False

    def __enter__(self) -> "Reservation":
        """Return the reservation."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Give back what it holds."""
        self.release()

    def release(self) -> None:
        """Give back what it holds; it may hold nothing any more."""
        self.end(self)


class Room:
    """The room of one queue.

    Attributes:
        computing: What was taken and is not computed yet.
        speed: How fast batches are computed.
    """

    def __init__(self, limits: BatchLimits, waiting: FairQueue) -> None:
        """Watch what waits in `waiting`."""
        self.computing = Cost()
        self.speed = Speed()
        self._limits = limits
        self._waiting = waiting
        self._reserved: Counter[str] = Counter()
        self._reserved_rows = self._patient_rows = 0
        self._line: deque[tuple[Reservation, Future[None]]] = deque()

    @property
    def rows(self) -> int:
        """Rows that wait, those that are still being tokenised included."""
        return self._waiting.cost.rows + self._reserved_rows

    @property
    def seconds(self) -> float:
        """How long it takes to compute everything that was let in."""
        reserved = self._reserved_rows * self.speed.tokens_per_row
        return self.speed.seconds(self.computing.tokens + self._waiting.cost.tokens + reserved)

    def check(self, rows: int, version: str) -> None:
        """Refuse rows of a task version for which there is no room now.

        Raises:
            QueueFullError: Too many rows wait, or too many seconds of work.
        """
        self.check_rows(rows)
        seconds, limit = self._seconds_before(version), self._limits.waiting_seconds
        if seconds >= limit:
            raise QueueFullError.of_seconds(seconds, limit)

    def check_rows(self, rows: int) -> None:
        """Refuse so many rows more if that is over the limit of rows.

        Raises:
            QueueFullError: It is.
        """
        if not self._has_rows(rows):
            raise QueueFullError.of_rows(self.rows, self._limits.waiting, self.seconds)

    def hold(self, place: Reservation) -> None:
        """Let a reservation take its room, whether there is any or not."""
        place.held = True
        self._reserved[place.version] += place.rows
        self._reserved_rows += place.rows
        if place.patient:
            place.counted = True
            self._patient_rows += place.rows

    def unhold(self, place: Reservation) -> None:
        """Take the room of a reservation back, for its request is in the queue or needs it no more."""
        if place.held:
            place.held = False
            self._reserved_rows -= place.rows
            self._reserved[place.version] -= place.rows
            if not self._reserved[place.version]:
                del self._reserved[place.version]

    def forget(self, place: Reservation) -> None:
        """Take everything back that a reservation has."""
        self.unhold(place)
        if place.counted:
            place.counted = False
            self._patient_rows -= place.rows

    def line_up(self, place: Reservation) -> Future[None]:
        """Put a reservation behind those that wait for room; returns what ends once it has some."""
        waiting: Future[None] = Future()
        self._line.append((place, waiting))
        return waiting

    def let_in(self) -> None:
        """Give room to those who wait for it, in order, as far as there is any."""
        while self._line:
            place, waiting = self._line[0]
            if not waiting.cancelled():
                if self._patient_full() or not self._has_room(place):
                    return
                if waiting.set_running_or_notify_cancel():
                    self.hold(place)
                    waiting.set_result(None)
            self._line.popleft()

    def turn_away(self, error: ServerError) -> None:
        """Fail those who wait for room."""
        while self._line:
            _, waiting = self._line.popleft()
            if waiting.set_running_or_notify_cancel():
                waiting.set_exception(error)

    def _has_rows(self, rows: int) -> bool:
        return self.rows + rows <= self._limits.waiting

    def _has_room(self, place: Reservation) -> bool:
        seconds = self._seconds_before(place.version)
        return self._has_rows(place.rows) and seconds < self._limits.waiting_seconds

    def _seconds_before(self, version: str) -> float:
        """Return how long what is computed before a new request of a task version takes."""
        row = self.speed.tokens_per_row
        everything = self._waiting.cost.tokens + self._reserved_rows * row
        own = self._waiting.tokens_of(version) + self._reserved[version] * row
        in_turns = (own + row) * self._waiting.versions_with(version)
        return self.speed.seconds(self.computing.tokens + min(everything, in_turns))

    def _patient_full(self) -> bool:
        rows, share = self._patient_rows, _SHARE_OF_PATIENT
        seconds = self.speed.seconds(rows * self.speed.tokens_per_row)
        return rows >= share * self._limits.waiting or seconds >= share * self._limits.waiting_seconds
