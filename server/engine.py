"""The engine: one supervised worker thread that owns the device and computes batch after batch.

A batch that fails fails only its own requests. A worker that dies fails the batch it was computing, makes the
engine not ready, and is started anew; what waits in the queue is not lost. Knows neither HTTP nor models: it
is given a `compute` callable.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from masking import Features, LoadedTask
from server.batching import Batch, BatchLimits, BatchQueue, Floats, Outcome, Ticket
from server.errors import BackendFailedError, NotReadyError, ServerError, ShuttingDownError, UnhealthyError

logger = logging.getLogger(__name__)

Compute = Callable[[LoadedTask, Sequence[Features]], Sequence[Floats]]


@dataclass(frozen=True)
class BatchReport:
    """What one batch was and took, for the metrics.

    Attributes:
        rows: Rows computed.
        tokens: Tokens without padding.
        padded_tokens: Tokens with padding.
        seconds: Time of compute.
        failed: Compute raised.
    """

    rows: int
    tokens: int
    padded_tokens: int
    seconds: float
    failed: bool


def _ignore(_report: BatchReport) -> None:
    pass


def _nothing() -> None:
    pass


class Engine:
    """Queue, worker and supervisor. Start it, `run` requests, close it."""

    def __init__(
        self,
        compute: Compute,
        limits: BatchLimits,
        *,
        prepare: Callable[[], None] = _nothing,
        on_batch: Callable[[BatchReport], None] = _ignore,
        restart_seconds: float = 1.0,
    ) -> None:
        """Builds the engine; no thread runs yet.

        Args:
            compute: Logits of a task's inputs; called by the worker thread only.
            limits: Limits of batches and of the queue.
            prepare: Called in every new worker thread before its first batch.
            on_batch: Told about every batch.
            restart_seconds: Pause before a dead worker is started anew.
        """
        self.queue = BatchQueue(limits)
        self.restarts = 0
        self._compute = compute
        self._prepare = prepare
        self._on_batch = on_batch
        self._restart_seconds = restart_seconds
        self._ready = Event()
        self._closing = Event()
        self._current: Batch | None = None
        self._supervisor = Thread(target=self._supervise, name="engine-supervisor", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether the worker is alive and prepared."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start the worker under its supervisor."""
        self._supervisor.start()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until the worker is ready; False if it is not in time."""
        return self._ready.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Take no new requests, compute what waits, and stop.

        Returns:
            False if that takes longer than `seconds`; what still waits then is failed.
        """
        self.queue.close()
        self._closing.set()
        if self._supervisor.ident is not None:
            self._supervisor.join(seconds)
        in_time = not self._supervisor.is_alive()
        self.queue.abandon(ShuttingDownError())
        return in_time

    async def run(self, task: LoadedTask, features: Sequence[Features], request_id: str = "") -> Outcome:
        """Compute the inputs of one request; cancelling the call drops what is not computed yet.

        Args:
            task: The task version, kept to the end.
            features: At least one input.
            request_id: For the log.

        Returns:
            Logits per input in order, and the time spent.

        Raises:
            ServerError: The queue is full or closed, the worker is not alive, an input is too large, or
                its batch failed.
        """
        if not self.ready:
            raise NotReadyError
        ticket = Ticket(task, features, request_id)
        self.queue.put(ticket)
        return await asyncio.wrap_future(ticket.future)

    def _supervise(self) -> None:
        """Keep a worker thread running until the queue is closed and empty."""
        while not self.queue.drained:
            worker = Thread(target=self._work, name="engine-worker", daemon=True)
            worker.start()
            worker.join()
            self._ready.clear()
            if self._current is not None:
                self._fail(self._current, UnhealthyError())
                self._current = None
            if self._closing.is_set():
                self.queue.abandon(ShuttingDownError())
            elif not self.queue.drained:
                self.restarts += 1
                self._closing.wait(self._restart_seconds)

    def _work(self) -> None:
        try:
            self._prepare()
            self._ready.set()
            while (batch := self.queue.take()) is not None:
                self._current = batch
                self._run_batch(batch)
                self._current = batch = None  # a worker that waits keeps no task version alive
        except BaseException:
            logger.critical("the worker died and will be restarted", exc_info=True)

    def _run_batch(self, batch: Batch) -> None:
        started = time.monotonic()
        try:
            logits = self._compute(batch.task, batch.features)
            if len(logits) != len(batch.items):
                raise RuntimeError(f"compute answered {len(logits)} of {len(batch.items)} inputs")
        except Exception:
            ids = ", ".join(ticket.request_id for ticket in batch.tickets)
            logger.exception("a batch failed; requests: %s", ids)
            self._fail(batch, BackendFailedError())
            self._report(batch, started, failed=True)
            return
        now = time.monotonic()
        self._report(batch, started, failed=False)
        for item, values in zip(batch.items, logits, strict=True):
            item.ticket.store(item.index, values, started, now)

    def _report(self, batch: Batch, started: float, *, failed: bool) -> None:
        seconds = time.monotonic() - started
        self.queue.note_speed(batch.rows, seconds)
        self._on_batch(BatchReport(batch.rows, batch.tokens, batch.padded_tokens, seconds, failed))

    @staticmethod
    def _fail(batch: Batch, error: ServerError) -> None:
        for ticket in batch.tickets:
            ticket.fail(error)
