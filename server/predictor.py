"""Predictor: one request from inputs to predictions, through tokenizer, queue, worker and codec."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from masking import Features, KnownTask, LoadedTask, Prediction, TaskInput, TaskInputError
from masking.tasks.predictions import Floats
from server.engine.pending import PendingRequest, Timings
from server.engine.ready_masks import ReadyMasks
from server.engine.room import Reservation
from server.engine.tokenizer import TokenizerStage
from server.engine.turns import Turns
from server.engine.worker import Engine
from server.errors import DeadlineError
from server.tasks.registry import ServedTask
from server.tasks.shadow import ShadowRequest, Shadows, is_at_fault
from server.telemetry.metrics import Metrics
from server.threads.interpreter import look_at_new

_COLD_AT_ONCE = 8
"""Tasks of one fan-out whose masks are loaded and computed at once, so that others get theirs in between."""
_SMALL_BODY = 8192  # bytes; reading and answering less than this takes no longer than going to a thread
_GIVES_WAY_SECONDS = 0.02
_EXPECTED_SECONDS = 0.25
_LOOKS_AGAIN_SECONDS = 0.001

_Task = TypeVar("_Task", bound=KnownTask)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PredictRequest:
    """What is to be predicted.

    Attributes:
        inputs: The task's inputs, at least one.
        truncate: Cut long texts instead of refusing them.
        max_length: Tokens of a row at most; None for the task's own limit.
    """

    inputs: tuple[TaskInput, ...]
    truncate: bool = False
    max_length: int | None = None

    def of(self, task: _Task) -> _Task:
        """Return the task as the request wants it."""
        return task if self.max_length is None else task.shortened(self.max_length)

    @property
    def rows(self) -> int:
        """Rows that the inputs have at least; windows of long ones come on top."""
        return sum(item.rows for item in self.inputs)


Call = tuple[ServedTask, PredictRequest]
_Waiting = asyncio.Future[tuple[Floats, ...]] | TaskInputError
_Pend = Callable[[LoadedTask], PendingRequest]


@dataclass(frozen=True)
class _Entered:
    """A request of several that is in the queue.

    Attributes:
        waiting: Its logits once they are there, or why it has none.
        shadow: What is computed beside it, if anything is.
    """

    waiting: _Waiting
    shadow: ShadowRequest | None = None

    def drop(self) -> None:
        """Give up what is not computed yet."""
        if isinstance(self.waiting, asyncio.Future):
            self.waiting.cancel()
        if self.shadow is not None:
            self.shadow.drop()


class Predictor:
    """Computes requests and counts them. Call it from one event loop."""

    def __init__(
        self,
        tokenizer: TokenizerStage,
        engine: Engine,
        masks: ReadyMasks,
        metrics: Metrics,
        *,
        timeout_seconds: float,
    ) -> None:
        """Connect the parts.

        Args:
            tokenizer: Makes features of inputs.
            engine: Makes logits of features.
            masks: Those that it computes with.
            metrics: Counts the time of each stage.
            timeout_seconds: Longest time from admission to the logits.
        """
        self._tokenizer = tokenizer
        self._engine = engine
        self._masks = masks
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._in_flight = 0
        self._turns = Turns()
        self._shadows = Shadows(tokenizer, engine, masks, self._turns)

    def check_room(self, served: ServedTask) -> None:
        """Refuse whatever is asked of a task now, before anything is read; `predict` would refuse it, too.

        Raises:
            ServerError: There is no room in the queue, or the server is shutting down.
        """
        self._engine.queue.check_room(served.loaded.copies, served.digest)

    async def expect(self, served: ServedTask) -> Reservation:
        """Hold room for a request to a task whose body is still to be read, and wait for a turn.

        A batch that is done makes room for many: no more of them are let in at once than there is room for,
        and those that are refused are not held up. A client that does not send its body keeps nobody out.

        Returns:
            The place: a context to answer the request in; `predict` is given it as `expected`.

        Raises:
            ServerError: As `check_room`.
        """
        place = self._engine.queue.reservation(served.loaded.copies, served.digest)
        try:
            await self._turns.take()
        except BaseException:
            place.release()
            raise
        asyncio.get_running_loop().call_later(_EXPECTED_SECONDS, place.release)
        return place

    async def wait_for_room(self, served: ServedTask, request: PredictRequest) -> Reservation:
        """Wait for a place in the queue, in turn with all who do; cancelling the call gives it up.

        Returns:
            The place: a context that `predict` is given, and is called in.

        Raises:
            ServerError: The request has more rows than may wait, the server is shutting down, or no place was
                free for as long as a request may take.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._engine.queue.wait_for_room(rows_of(served, request), served.digest)
        except TimeoutError:
            raise DeadlineError("no room in the queue was free in time") from None

    async def run_by_size(self, size: int, work: Callable[[], _Result]) -> _Result:
        """Do the work that `size` bytes of a body make: few at once, many in a thread and in turns."""
        if size <= _SMALL_BODY:
            return work()
        await self.give_way()
        try:
            return await asyncio.to_thread(work)
        finally:
            look_at_new()

    async def give_way(self) -> None:
        """Wait while a request is computed, but not for long.

        Computing often needs the interpreter for a moment, and long work in Python lets it wait each time.
        """
        end = time.monotonic() + _GIVES_WAY_SECONDS
        while self._in_flight and time.monotonic() < end:
            await asyncio.sleep(_LOOKS_AGAIN_SECONDS)

    async def predict(
        self,
        served: ServedTask,
        request: PredictRequest,
        request_id: str,
        timings: Timings,
        *,
        place: Reservation | None = None,
        expected: Reservation | None = None,
    ) -> list[Prediction]:
        """Compute one request and count it; cancelling the call drops it.

        Args:
            served: The task version, kept to the end.
            request: The inputs.
            request_id: For the log.
            timings: Filled in, stage by stage.
            place: What `wait_for_room` gave; without it the request is refused while the queue is full.
            expected: What `expect` gave; it is given back for the room of the rows that there are.

        Returns:
            One prediction per input, in order.

        Raises:
            ServerError: It can't be admitted, its computation failed, or it was not computed in time.
            TaskInputError: An input is not one that the task can take.
        """
        timings.admitted = time.monotonic()
        with self._counted(served, request, timings):
            rows = rows_of(served, request)
            if expected is not None:
                expected.release()
            with place or self._engine.queue.reservation(rows, served.digest) as held:
                logits = await self._logits(served, request, request_id, timings, held)
            return await self._decode(served.loaded, logits)

    async def fan_out(
        self, calls: Sequence[Call], request_id: str
    ) -> AsyncGenerator[tuple[int, list[Prediction] | Exception]]:
        """Compute requests to several tasks together, and count each; closing the generator drops them.

        What several tasks encode alike is tokenised once. All enter the queue at once, so that they are
        computed in one batch if they fit into one.

        Args:
            calls: The task versions, kept to the end, and the request to each; at least one.
            request_id: For the log.

        Yields:
            The number of a call and its predictions, one per input, or why there are none: each as soon as it
            is there, in no order.

        Raises:
            ServerError: There is no room for all of them, or nothing can be computed now.
        """
        now = time.monotonic()
        every = [Timings(received=now, admitted=now) for _ in calls]
        try:
            waiting = await self._enter(calls, every, request_id)
        except BaseException:
            for served, _ in calls:
                served.statistics.count_failure(time.monotonic() - now)
            raise
        replies: asyncio.Queue[tuple[int, list[Prediction] | Exception]] = asyncio.Queue()

        async def answer(number: int) -> None:
            try:
                replies.put_nowait(
                    (number, await self._answer(*calls[number], every[number], waiting[number]))
                )
            except Exception as error:
                replies.put_nowait((number, error))

        running = [asyncio.create_task(answer(number)) for number in range(len(calls))]
        try:
            for _ in calls:
                yield await replies.get()
        finally:
            for task in running:
                task.cancel()
            for entered in waiting:
                entered.drop()

    async def _enter(
        self, calls: Sequence[Call], every: Sequence[Timings], request_id: str
    ) -> list[_Entered]:
        """Put requests to several tasks into the queue, but for those that their codec refuses.

        Those whose masks are cold enter it one by one, as these come, and keep their places until then; they
        have no shadows.
        """
        rows = [(rows_of(served, request), served.digest) for served, request in calls]
        places = dict(enumerate(self._engine.queue.reservations(rows)))
        shadows = list[ShadowRequest | None]()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                encoded = await self._encode_once(calls)
            found: dict[int, _Entered] = {}
            pending: dict[int, _Pend] = {}
            for number, ((_, request), features) in enumerate(zip(calls, encoded, strict=True)):
                if isinstance(features, TaskInputError):
                    found[number] = _Entered(features)
                else:
                    pending[number] = self._pend(request, features, request_id, every[number])
            masks = {number: self._masks.take(calls[number][0]) for number in pending}
            ready = {number: pending.pop(number)(one) for number, one in masks.items() if one is not None}
            for number, one in ready.items():
                shadows.append(await self._shadow(*calls[number], one))
            computed = self._run(list(ready.values()), [places[number] for number in ready], shadows)
            few = asyncio.Semaphore(_COLD_AT_ONCE)
            for number, pend in pending.items():
                entering = self._enter_cold(calls[number][0], every[number], pend, places.pop(number), few)
                found[number] = _Entered(entering)
            found |= zip(ready, computed, strict=True)
            return [found[number] for number in range(len(calls))]
        except TimeoutError:
            raise DeadlineError from None
        finally:
            for place in places.values():
                place.release()
            for shadow in shadows:
                if shadow is not None:
                    shadow.place.release()

    def _run(
        self,
        requests: Sequence[PendingRequest],
        places: Sequence[Reservation],
        shadows: Sequence[ShadowRequest | None],
    ) -> list[_Entered]:
        """Compute requests, each with its shadow's if there is one, in as few batches as they fit into."""
        beside = [shadow for shadow in shadows if shadow is not None]
        computed = self._engine.run_together(
            [*requests, *(shadow.pending for shadow in beside)],
            [*places, *(shadow.place for shadow in beside)],
        )
        for shadow, logits in zip(beside, computed[len(requests) :], strict=True):
            shadow.logits = logits
        return [_Entered(*pair) for pair in zip(computed, shadows, strict=False)]

    async def _shadow(
        self, served: ServedTask, request: PredictRequest, pending: PendingRequest
    ) -> ShadowRequest | None:
        return await self._shadows.prepare(
            served, pending, request.inputs, truncate=request.truncate, max_length=request.max_length
        )

    def _enter_cold(
        self, served: ServedTask, timings: Timings, pend: _Pend, place: Reservation, few: asyncio.Semaphore
    ) -> asyncio.Task[tuple[Floats, ...]]:
        """Put a request into the queue once its masks are loaded, a few at a time."""
        timings.tokenized = time.monotonic()

        async def run() -> tuple[Floats, ...]:
            async with few:
                masks = await self._ready(self._masks.get(served), timings)
                return await self._engine.run(pend(masks), place)

        running = asyncio.create_task(run())
        running.add_done_callback(lambda _: place.release())  # it may be cancelled before it begins
        return running

    def _pend(
        self, request: PredictRequest, features: Sequence[Features], request_id: str, timings: Timings
    ) -> _Pend:
        """Return what makes the entry of a request in the queue, once the masks of its task are there."""
        timings.tokens = sum(item.tokens for item in features)
        deadline = timings.admitted + self._timeout_seconds
        return lambda masks: PendingRequest(request.of(masks), features, request_id, deadline, timings)

    async def _encode_once(self, calls: Sequence[Call]) -> list[Sequence[Features] | TaskInputError]:
        """Tokenise the inputs of each call, those that tasks encode alike once."""
        found: dict[Hashable, Sequence[Features] | TaskInputError] = {}
        keys = list[Hashable]()
        for served, request in calls:
            task, inputs, truncate = request.of(served.loaded), request.inputs, request.truncate
            keys.append((task.codec.encoding, task.copies, inputs, truncate))
            if keys[-1] not in found:
                try:
                    found[keys[-1]] = await self._tokenizer.encode(task, inputs, truncate=truncate)
                except TaskInputError as error:
                    found[keys[-1]] = error
        return [found[key] for key in keys]

    async def _answer(
        self, served: ServedTask, request: PredictRequest, timings: Timings, entered: _Entered
    ) -> list[Prediction]:
        """Wait for the logits of one request of several, and count it."""
        with self._counted(served, request, timings):
            if isinstance(entered.waiting, TaskInputError):
                raise entered.waiting
            try:
                async with asyncio.timeout(timings.admitted + self._timeout_seconds - time.monotonic()):
                    logits = await self._answered(entered)
            except TimeoutError:
                raise DeadlineError from None
            return await self._decode(served.loaded, logits)

    async def _answered(self, entered: _Entered) -> Sequence[Floats]:
        """Wait for logits, and have those of the shadow compared with them; without an answer, drop both."""
        assert not isinstance(entered.waiting, TaskInputError)
        try:
            logits = await entered.waiting
        except BaseException:
            entered.drop()
            raise
        if entered.shadow is not None:
            self._shadows.judge(entered.shadow, logits)
        return logits

    @contextmanager
    def _counted(self, served: ServedTask, request: PredictRequest, timings: Timings) -> Iterator[None]:
        """Count a request that is computed inside the context."""
        self._in_flight += 1
        try:
            yield
        except BaseException as error:  # a request that is dropped is cancelled
            served.statistics.count_failure(time.monotonic() - timings.received)
            if served.traffic is not None and is_at_fault(error):
                served.traffic.count(served.version, len(request.inputs), failed=True)
            raise
        finally:
            self._in_flight -= 1
        timings.finished = time.monotonic()
        served.statistics.count_success(len(request.inputs), timings)
        if served.traffic is not None:
            served.traffic.count(served.version, len(request.inputs), failed=False)
        self._metrics.time_prediction(served.name, timings)

    async def _ready(self, found: LoadedTask | Future[LoadedTask], timings: Timings) -> LoadedTask:
        """Wait for the masks of a task; others may wait for the same load."""
        if isinstance(found, LoadedTask):
            return found
        timings.tokenized = timings.tokenized or time.monotonic()
        return await asyncio.wrap_future(found)

    async def _logits(
        self,
        served: ServedTask,
        request: PredictRequest,
        request_id: str,
        timings: Timings,
        place: Reservation,
    ) -> Sequence[Floats]:
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                masks = self._masks.get(served)  # where they are cold, they are loaded meanwhile
                features = await self._tokenizer.encode(
                    request.of(served.loaded),
                    request.inputs,
                    truncate=request.truncate,
                    patient=place.patient,
                )
                pending = self._pend(request, features, request_id, timings)(
                    await self._ready(masks, timings)
                )
                if place.patient and pending.cost.rows > place.rows:
                    await self._engine.queue.widen(place, pending.cost.rows)
                    pending.deadline = time.monotonic() + self._timeout_seconds
                    limit.reschedule(pending.deadline)
                if served.shadow is None or (shadow := await self._shadow(served, request, pending)) is None:
                    return await self._engine.run(pending, place)
                with shadow.place:
                    (entered,) = self._run([pending], [place], [shadow])
                return await self._answered(entered)
        except TimeoutError:
            raise DeadlineError from None

    async def _decode(self, task: KnownTask, logits: Sequence[Floats]) -> list[Prediction]:
        """Decode the logits of a request, which take turns with those of others."""

        def decode() -> list[Prediction]:
            return [task.codec.decode(values) for values in logits]

        return await self._turns.run(decode, logits)


def rows_of(served: ServedTask, request: PredictRequest) -> int:
    """Return the rows that a request takes of the queue, at least; windows of long texts come on top."""
    return served.loaded.copies * request.rows
