"""Predictor: one request from inputs to predictions, through tokenizer, queue, worker and codec."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from masking import LoadedTask, Prediction, TaskInput
from masking.tasks.predictions import Floats
from server.engine.pending import PendingRequest, Timings
from server.engine.tokenizer import TokenizerStage
from server.engine.worker import Engine
from server.errors import DeadlineError, QueueFullError
from server.tasks.registry import ServedTask
from server.telemetry.metrics import Metrics

_INLINE_LOGITS = 4096  # decoding more of them would hold up the event loop, so a thread does it
_ROOM_POLL_SECONDS = 0.1


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

    def of(self, task: LoadedTask) -> LoadedTask:
        """Return the task as the request wants it."""
        return task if self.max_length is None else task.shortened(self.max_length)

    @property
    def rows(self) -> int:
        """Rows that the inputs have at least; windows of long ones come on top."""
        return sum(item.rows for item in self.inputs)


class Predictor:
    """Computes requests and counts them. Call it from one event loop."""

    def __init__(
        self, tokenizer: TokenizerStage, engine: Engine, metrics: Metrics, *, timeout_seconds: float
    ) -> None:
        """Connect the parts.

        Args:
            tokenizer: Makes features of inputs.
            engine: Makes logits of features.
            metrics: Counts the time of each stage.
            timeout_seconds: Longest time from admission to the logits.
        """
        self._tokenizer = tokenizer
        self._engine = engine
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds

    async def predict(
        self,
        served: ServedTask,
        request: PredictRequest,
        request_id: str,
        timings: Timings,
        *,
        wait_for_room: bool = False,
    ) -> list[Prediction]:
        """Compute one request and count it; cancelling the call drops it.

        Args:
            served: The task version, kept to the end.
            request: The inputs.
            request_id: For the log.
            timings: Filled in, stage by stage.
            wait_for_room: Wait while others fill the queue, instead of refusing the request.

        Returns:
            One prediction per input, in order.

        Raises:
            ServerError: It can't be admitted, its computation failed, or it was not computed in time.
            TaskInputError: An input is not one that the task can take.
        """
        timings.admitted = time.monotonic()
        try:
            logits = await self._logits(
                request.of(served.loaded), request, request_id, timings, wait_for_room
            )
            predictions = await _decode(served.loaded, logits)
        except BaseException:  # a request that is dropped is cancelled
            served.statistics.count_failure(time.monotonic() - timings.received)
            raise
        timings.finished = time.monotonic()
        served.statistics.count_success(len(request.inputs), timings)
        self._metrics.time_prediction(timings)
        return predictions

    async def _logits(
        self,
        task: LoadedTask,
        request: PredictRequest,
        request_id: str,
        timings: Timings,
        wait_for_room: bool,
    ) -> Sequence[Floats]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    try:
                        return await self._compute(task, request, request_id, timings)
                    except QueueFullError:
                        if not wait_for_room:
                            raise
                    await asyncio.sleep(_ROOM_POLL_SECONDS)
        except TimeoutError:
            raise DeadlineError from None

    async def _compute(
        self, task: LoadedTask, request: PredictRequest, request_id: str, timings: Timings
    ) -> Sequence[Floats]:
        with self._engine.queue.reservation(len(task.members) * request.rows):
            features = await self._tokenizer.encode(task, request.inputs, truncate=request.truncate)
        timings.tokens = sum(item.tokens for item in features)
        deadline = timings.admitted + self._timeout_seconds
        return await self._engine.run(PendingRequest(task, features, request_id, deadline, timings))


async def _decode(task: LoadedTask, logits: Sequence[Floats]) -> list[Prediction]:
    def decode() -> list[Prediction]:
        return [task.codec.decode(values) for values in logits]

    few = sum(values.size for values in logits) <= _INLINE_LOGITS
    return decode() if few else await asyncio.to_thread(decode)
