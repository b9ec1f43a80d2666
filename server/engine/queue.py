"""Request queue in front of the device, and how batches leave it.

A batch mixes tasks. The task versions that wait take turns, one input each, and each batch resumes the round
where the last one ended: a flood for one task delays another by no more than the batch that is being
computed. Rows and tokens are counted as they are computed, without padding.

A request that is cancelled, late or failed leaves the queue at once. Nothing here takes longer because more
waits.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Condition
from typing import Any
from weakref import ref

from server.engine.batch import Batch, BatchLimits, CloseReason
from server.engine.fair_queue import FairQueue
from server.engine.pending import Clock, Cost, DropReason, PendingRequest, QueueEntry
from server.engine.room import Reservation, Room
from server.errors import InvalidBodyError, QueueFullError, ServerError, ShuttingDownError

_SMALLEST = Cost(1, 1)


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
        self._room = Room(limits, self._waiting)
        self._closed = False

    @property
    def waiting(self) -> int:
        """Rows in the queue, those still being tokenised included."""
        return self._room.rows

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return self._waiting.cost.tokens

    @property
    def waiting_seconds(self) -> float:
        """How long all of it takes, with what is being computed, by the speed of the last batches."""
        return self._room.seconds

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest input has waited; 0 if none waits."""
        with self._changed:
            oldest = self._waiting.oldest
            return 0.0 if oldest is None else self._clock() - oldest.timings.queued

    @property
    def drained(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._waiting

    def reservation(self, rows: int, version: str = "") -> Reservation:
        """Hold room for rows of a task version that are still being tokenised; a context.

        Raises:
            QueueFullError: There is no room for them now.
            InvalidBodyError: There is never room for so many.
            ShuttingDownError: The queue is closed.
        """
        place = Reservation(version, rows, self._end)
        with self._changed:
            self.check_room(rows, version)
            self._room.hold(place)
        return place

    def reservations(self, parts: Sequence[tuple[int, str]]) -> list[Reservation]:
        """Hold room for rows of several task versions, for all of them or none; each is given back alone.

        Args:
            parts: Rows, and the version that they are for.

        Raises:
            ServerError: As `reservation`.
        """
        places = [Reservation(version, rows, self._end) for rows, version in parts]
        with self._changed:
            self.check_room(sum(rows for rows, _ in parts))
            for rows, version in parts:
                self.check_room(rows, version)
            for place in places:
                self._room.hold(place)
        return places

    def check_room(self, rows: int, version: str = "") -> None:
        """Refuse rows of a task version that `reservation` would refuse now; it raises the same."""
        with self._changed:
            self._check_ever(rows)
            try:
                self._room.check(rows, version)
            except QueueFullError:
                if not self._drop_late():
                    raise
                self._room.check(rows, version)

    async def wait_for_room(self, rows: int, version: str = "") -> Reservation:
        """Wait for room for rows, behind all who wait already; cancelling the call gives the place up.

        Raises:
            InvalidBodyError: There is never room for so many.
            ShuttingDownError: The queue is closed.
        """
        place = Reservation(version, rows, self._end, patient=True)
        await self._wait(place)
        return place

    async def widen(self, place: Reservation, rows: int) -> None:
        """Give a reservation of `wait_for_room` back and wait for room for more rows than were foreseen."""
        self._end(place)
        place.rows = rows
        await self._wait(place)

    def put(self, request: PendingRequest, place: Reservation | None = None) -> None:
        """Add all inputs of a request, or none of them; longest inputs last, so that equal lengths meet.

        Args:
            request: The request.
            place: The room that is held for it, if any is.

        Raises:
            InvalidBodyError: An input alone is over the limits of a batch.
            QueueFullError: The rows do not fit in now.
            ShuttingDownError: The queue is closed.
        """
        entries = sorted(request.entries(), key=lambda entry: entry.features.longest)
        for entry in entries:
            self._check_size(entry)
        rows = sum(entry.cost.rows for entry in entries)
        with self._changed:
            if place is None:
                self.check_room(rows, request.task.digest)
            else:
                self._exchange(place, rows)
            request.timings.queued = self._clock()
            self._waiting.add(request, entries)
            self._changed.notify()
        request.future.add_done_callback(partial(self._over, ref(request)))

    def put_together(self, requests: Sequence[PendingRequest], places: Sequence[Reservation]) -> None:
        """Add requests before any batch is taken; one that `put` refuses fails alone.

        Args:
            requests: The requests.
            places: The room that is held for each.
        """
        with self._changed:
            for request, place in zip(requests, places, strict=True):
                try:
                    self.put(request, place)
                except ServerError as error:
                    request.fail(error)

    def take(self) -> Batch | None:
        """Wait for a batch.

        Returns:
            Live inputs within the limits; None once the queue is closed and empty.
        """
        with self._changed:
            self._room.computing = Cost()
            while not self.drained:
                self._room.let_in()
                wait = self._wait_needed()
                if wait > 0:
                    self._changed.wait(None if wait == math.inf else wait)
                elif batch := self._collect():
                    self._room.computing = batch.cost
                    self._room.let_in()
                    return batch
        return None

    def close(self) -> None:
        """Refuse new requests; what is in the queue is still handed out."""
        with self._changed:
            self._closed = True
            self._room.turn_away(ShuttingDownError())
            self._changed.notify_all()

    def abandon(self, error: ServerError) -> None:
        """Fail everything that waits; for a queue that no worker will take from again."""
        with self._changed:
            for request in self._waiting.requests:
                if not self._dead(request):
                    self._waiting.remove(request)
                    self._on_drop("abandoned")
                    request.fail(error)

    def note_speed(self, cost: Cost, seconds: float) -> None:
        """Learn from a finished batch how long rows and tokens take."""
        with self._changed:
            self._room.speed.note(cost, seconds)

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

    def _check_ever(self, rows: int) -> None:
        if self._closed:
            raise ShuttingDownError
        if rows > (limit := self.limits.waiting):
            raise InvalidBodyError(f"the request has {rows} rows and at most {limit} may wait; send fewer")

    def _exchange(self, place: Reservation, rows: int) -> None:
        """Give the room back that was held for rows, of which there may be more than were foreseen."""
        self._check_ever(rows)
        self._room.check_rows(rows - place.rows)
        self._room.unhold(place)

    async def _wait(self, place: Reservation) -> None:
        """Wait until a reservation has its room."""
        with self._changed:
            self._check_ever(place.rows)
            waiting = self._room.line_up(place)
            self._room.let_in()
        try:
            await asyncio.wrap_future(waiting)
        except BaseException:
            waiting.cancel()
            self._end(place)  # it may have got its room meanwhile
            raise

    def _end(self, place: Reservation) -> None:
        with self._changed:
            self._room.forget(place)
            self._room.let_in()

    def _drop_late(self) -> bool:
        """Drop what is late, and tell whether anything was; with one time limit the oldest are late first."""
        dropped = False
        while (oldest := self._waiting.oldest) is not None and self._dead(oldest):
            dropped = True
        return dropped

    def _dead(self, request: PendingRequest) -> bool:
        """Return whether nobody waits for this request; if so it leaves the queue."""
        dead = request.future.done() or self._clock() >= request.deadline
        if dead:
            self._discard(request)
        return dead

    def _over(self, which: ref[PendingRequest], _: Future[Any]) -> None:
        """Take note that a request is answered, failed or cancelled."""
        if (request := which()) is not None:
            self._discard(request)

    def _discard(self, request: PendingRequest) -> None:
        """Remove what waits of a request that is over; count it if it was never computed."""
        with self._changed:
            if not self._waiting.remove(request):
                return
            if (reason := request.drop(self._clock())) is not None:
                self._on_drop(reason)
            self._room.let_in()

    def _wait_needed(self) -> float:
        """Return the seconds until the next batch is due; infinite while nothing waits."""
        oldest, waiting, limits = self._waiting.oldest, self._waiting.cost, self.limits
        if oldest is None:
            return math.inf
        if self._closed or limits.exceeded_by(waiting + _SMALLEST):
            return 0.0
        return oldest.timings.queued + limits.wait_seconds - self._clock()

    def _collect(self) -> Batch | None:
        """Take inputs in turn until the batch is full or nothing is left; None if all of it was dead."""
        taken: list[QueueEntry] = []
        cost = Cost()
        while self._waiting:
            entry = self._waiting.first()
            if self._dead(entry.request):
                continue
            cost += entry.cost
            if self.limits.exceeded_by(cost):
                break
            taken.append(self._waiting.pop())
        return Batch(tuple(taken), self._why_closed(cost)) if taken else None

    def _why_closed(self, cost: Cost) -> CloseReason:
        """Tell why, from the cost of what was taken and of the input that was too much, if there was one."""
        full = self.limits.exceeded_by(cost) or self.limits.exceeded_by(cost + _SMALLEST)
        if full is not None:
            return full
        if self._closed:
            return "drained"
        return "waited" if self.limits.wait_seconds else "idle"
