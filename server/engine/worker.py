"""Engine: one supervised worker thread that owns the device and computes batch after batch.

A batch that fails fails only the requests that made it fail. A worker that dies fails the batch it was
computing, makes the engine not ready, and is started again; what waits in the queue is not lost. The model is
a `compute` callable that the engine is given.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from masking.tasks.predictions import Floats
from server.engine.batch import Batch, BatchLimits, CloseReason
from server.engine.pending import Cost, DropReason, PendingRequest
from server.engine.queue import RequestQueue, ignore
from server.engine.retry import BatchResult, Compute, FailureReason, compute_with_retry
from server.engine.room import Reservation
from server.errors import NotReadyError, ServerError, ShuttingDownError, UnhealthyError
from server.threads.supervision import SupervisedThread, do_nothing


@dataclass(frozen=True)
class BatchReport:
    """What one batch was and took, for the metrics.

    Attributes:
        cost: Rows and tokens computed.
        tasks: Task versions in it.
        padding_tokens: Tokens that padding every row to the longest would have added.
        reason: Why nothing more was taken into it.
        seconds: Time of compute, retries included.
        failures: Why a try to compute it, or a piece of it, failed; once for each.
        failed: Some of its inputs could not be computed at all.
    """

    cost: Cost
    tasks: int
    padding_tokens: int
    reason: CloseReason
    seconds: float
    failures: tuple[FailureReason, ...] = ()
    failed: bool = False


class Engine:
    """Queue, worker and supervisor. Start it, `run` requests, close it."""

    def __init__(
        self,
        compute: Compute,
        limits: BatchLimits,
        *,
        prepare: Callable[[], None] = do_nothing,
        on_batch: Callable[[BatchReport], None] = ignore,
        on_drop: Callable[[DropReason], None] = ignore,
        restart_seconds: float = 1.0,
    ) -> None:
        """Build the engine; no thread runs yet.

        Args:
            compute: Logits of the inputs of one or more tasks, per task and input in the order given; called
                by the worker thread only.
            limits: Limits of batches and of the queue.
            prepare: Called in every new worker thread before its first batch.
            on_batch: Called with a report of every batch.
            on_drop: Called with why a request was dropped before compute.
            restart_seconds: Pause before a dead worker is started again.
        """
        self.queue = RequestQueue(limits, on_drop=on_drop)
        self.worker = SupervisedThread(
            "worker",
            self._work,
            on_end=self._fail_current,
            on_failure=self._give_up,
            restart_seconds=restart_seconds,
        )
        self._compute = compute
        self._prepare = prepare
        self._on_batch = on_batch
        self._ready = Event()
        self._current: Batch | None = None

    @property
    def ready(self) -> bool:
        """Whether the worker is alive and prepared."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start the worker under its supervisor."""
        self.worker.start()

    def close(self, seconds: float) -> bool:
        """Take no new requests, compute what waits, and stop.

        Returns:
            False if that takes longer than `seconds`; what still waits then is failed.
        """
        self.queue.close()
        self.worker.stop()
        in_time = self.worker.join(seconds)
        self.queue.abandon(ShuttingDownError())
        return in_time

    async def run(self, request: PendingRequest, place: Reservation | None = None) -> tuple[Floats, ...]:
        """Compute the inputs of one request; cancelling the call drops what is not computed yet.

        Args:
            request: What to compute; its timings are filled in.
            place: The room that the queue holds for it, if it does.

        Returns:
            float32 logits per input, in order.

        Raises:
            ServerError: The queue is full or closed, the worker is not alive, an input is too large, its
                computation failed, or it was not computed in time.
        """
        if not self.ready:
            raise NotReadyError
        self.queue.put(request, place)
        return await asyncio.wrap_future(request.future)

    def run_together(
        self, requests: Sequence[PendingRequest], places: Sequence[Reservation]
    ) -> list[asyncio.Future[tuple[Floats, ...]]]:
        """Compute requests in as few batches as they fit into; see `run`.

        Args:
            requests: What to compute, at least one.
            places: The room that the queue holds for each.

        Returns:
            The logits of each request, or its error; cancelling one drops what is not computed of it.

        Raises:
            NotReadyError: The worker is not alive.
        """
        if not self.ready:
            raise NotReadyError
        self.queue.put_together(requests, places)
        return [asyncio.wrap_future(request.future) for request in requests]

    def _work(self) -> None:
        self._prepare()
        self._ready.set()
        while (batch := self.queue.take()) is not None:
            self._current = batch
            self._run_batch(batch)
            self._current = batch = None  # a worker that waits keeps no task version alive

    def _fail_current(self) -> None:
        """Fail the batch that a worker left behind when it died."""
        self._ready.clear()
        if self._current is not None:
            for request in self._current.requests:
                request.fail(UnhealthyError())
            self._current = None

    def _give_up(self) -> None:
        self.queue.close()
        self.queue.abandon(UnhealthyError())

    def _run_batch(self, batch: Batch) -> None:
        started = time.monotonic()
        result = compute_with_retry(self._compute, batch.entries)
        now = time.monotonic()
        failed = any(isinstance(answer, ServerError) for _, answer in result.answers)
        self._report(batch, result, now - started, failed=failed)
        for entry, answer in result.answers:
            if isinstance(answer, ServerError):
                entry.request.fail(answer)
            else:
                entry.request.add_logits(entry.index, answer, started, now)
        if not failed:
            self.queue.note_speed(batch.cost, time.monotonic() - started)

    def _report(self, batch: Batch, result: BatchResult, seconds: float, *, failed: bool) -> None:
        self._on_batch(
            BatchReport(
                batch.cost, batch.tasks, batch.padding_tokens, batch.reason, seconds, result.failures, failed
            )
        )
