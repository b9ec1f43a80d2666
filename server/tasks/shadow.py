"""Shadow: a version that computes what the stable one answers, in the same batch, only to be compared.

It costs clients no answer: it takes room only while half of the queue is free, fails alone, and is compared
after the client has its answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from masking import Features, LoadedTask, TaskInput, TaskInputError
from masking.tasks.predictions import Floats
from server.engine.pending import PendingRequest
from server.engine.ready_masks import ReadyMasks
from server.engine.room import Reservation
from server.engine.tokenizer import TokenizerStage
from server.engine.turns import Turns
from server.engine.worker import Engine
from server.errors import BackendFailedError, ServerError
from server.tasks.registry import ServedTask
from server.telemetry.comparison import Comparison
from server.telemetry.traffic_stats import TrafficStatistics

_SHARE_OF_ROOM = 0.5


@dataclass
class ShadowRequest:
    """What a shadow is to compute beside one request.

    Attributes:
        stable: The version that answers the request, as the request wants it.
        shadow: The shadow, likewise.
        version: Number of the shadow.
        statistics: Where the comparison is counted.
        pending: What the queue gets.
        place: The room that it holds for it.
        logits: Once it is in the queue, those that it computes.
        judged: Whether there is an answer that they are compared with.
    """

    stable: LoadedTask
    shadow: LoadedTask
    version: int
    statistics: TrafficStatistics
    pending: PendingRequest
    place: Reservation
    logits: asyncio.Future[tuple[Floats, ...]] | None = None
    judged: bool = False

    def drop(self) -> None:
        """Give it up if the request has no answer to compare with."""
        if self.logits is not None and not self.judged:
            self.logits.cancel()


class Shadows:
    """Prepares and judges what shadows compute. Call it from one event loop."""

    def __init__(self, tokenizer: TokenizerStage, engine: Engine, masks: ReadyMasks, turns: Turns) -> None:
        """Connect the parts.

        Args:
            tokenizer: Makes features for a shadow that encodes inputs otherwise than the stable version.
            engine: Computes.
            masks: Those that it computes with; a shadow is left out while its masks are cold.
            turns: Those in which answers are decoded.
        """
        self._tokenizer = tokenizer
        self._engine = engine
        self._masks = masks
        self._turns = turns
        self._judging: set[asyncio.Task[None]] = set()

    async def prepare(
        self,
        served: ServedTask,
        request: PendingRequest,
        inputs: Sequence[TaskInput],
        *,
        truncate: bool,
        max_length: int | None,
    ) -> ShadowRequest | None:
        """Prepare what the shadow of a version is to compute, if it has one and there is room to spare.

        Args:
            served: The version that answers.
            request: What it computes.
            inputs: The inputs of the request.
            truncate: Whether long texts are cut.
            max_length: To how many tokens at most; None for the task's own limit.
        """
        shadow, statistics = served.shadow, served.traffic
        if shadow is None or statistics is None or statistics.stopped is not None:
            return None
        masks = self._masks.take(shadow, counted=False)
        if masks is None:  # they are there for later requests
            self._masks.load(shadow)
            statistics.skip_shadow(len(inputs))
            return None
        task = masks if max_length is None else masks.shortened(max_length)
        alike = task.codec.encoding == request.task.codec.encoding
        try:
            features: Sequence[Features] = request.features
            if not alike or task.copies != request.task.copies:
                features = await self._tokenizer.encode(task, inputs, truncate=truncate)
            pending = PendingRequest(task, features, request.request_id, request.deadline)
            place = self._reserve(pending)
        except Exception as error:  # none of them is the client's
            if is_at_fault(error) or isinstance(error, TaskInputError):
                statistics.count_shadow_failure(shadow.version, len(inputs))
            else:
                statistics.skip_shadow(len(inputs))
            return None
        if place is None:
            statistics.skip_shadow(len(inputs))
            return None
        return ShadowRequest(request.task, task, shadow.version, statistics, pending, place)

    def judge(self, request: ShadowRequest, logits: Sequence[Floats]) -> None:
        """Compare what the shadow computes with the stable version's logits, once it is there."""
        request.judged = True
        task = asyncio.create_task(self._judge(request, logits))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    def _reserve(self, pending: PendingRequest) -> Reservation | None:
        queue, rows = self._engine.queue, pending.cost.rows
        if queue.waiting + rows > _SHARE_OF_ROOM * queue.limits.waiting:
            return None
        if queue.waiting_seconds > _SHARE_OF_ROOM * queue.limits.waiting_seconds:
            return None
        return queue.reservation(rows, pending.task.digest)

    async def _judge(self, request: ShadowRequest, logits: Sequence[Floats]) -> None:
        statistics, rows = request.statistics, len(logits)
        assert request.logits is not None
        try:
            computed = await request.logits
            comparison = Comparison(request.stable.spec, request.shadow.spec)
            one, other = request.stable.codec, request.shadow.codec

            def compare() -> None:
                pairs = zip(logits, computed, strict=True)
                compared = [comparison.of(one.decode(a), other.decode(b)) for a, b in pairs]
                statistics.count_shadow(request.version, compared)

            await self._turns.run(compare, (*logits, *computed))
        except Exception as error:
            if is_at_fault(error):
                statistics.count_shadow_failure(request.version, rows)
            else:
                statistics.skip_shadow(rows)


def is_at_fault(error: BaseException) -> bool:
    """Tell whether a request failed by its version, not by its client or for lack of room."""
    if isinstance(error, BackendFailedError) or type(error) is ServerError:
        return True
    return isinstance(error, Exception) and not isinstance(error, ServerError | TaskInputError)
