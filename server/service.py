"""Service: the life of one server process: start, readiness, drain, close."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from threading import Event, Thread
from typing import Concatenate, ParamSpec, TypeVar

from masking import Base
from masking.inference import ResidentWeights
from masking.kernels import Precision
from server.daemons import OperatorThreads
from server.engine.batch import BatchLimits
from server.engine.ready_masks import ReadyMasks
from server.engine.tokenizer import TokenizerStage
from server.engine.worker import Engine
from server.predictor import Predictor
from server.settings import Settings
from server.tasks.audit import audited
from server.tasks.history import TaskHistory
from server.tasks.lifecycle import Lifecycle
from server.tasks.registry import TaskRegistry
from server.tasks.rollouts import Rollouts
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from server.telemetry.requests import RequestFacts, RequestRecorder
from server.telemetry.tracing import RequestTracer
from server.tenants.callers import Callers
from server.threads.supervision import SupervisedThread

logger = logging.getLogger(__name__)

Given = ParamSpec("Given")
Result = TypeVar("Result")

_OPERATORS = 8
_REPORTS = 4
_LOOKS = 2
_LEAST_SECONDS = 1.0


class Closing:
    """How much time is left for the end of a process."""

    def __init__(self) -> None:
        """Not begun yet."""
        self._end: float | None = None

    def begin(self, seconds: float) -> None:
        """Begin to count."""
        self._end = time.monotonic() + seconds

    def left(self, seconds: float) -> float:
        """Return the seconds that are left, a moment at least; all of them if it begins only now."""
        if self._end is None:
            self.begin(seconds)
        assert self._end is not None
        return max(_LEAST_SECONDS, self._end - time.monotonic())


@dataclass(frozen=True)
class Service:
    """The parts of one server process, connected; `server.build` makes it.

    Attributes:
        settings: What the operator set.
        base: The resident encoder.
        weights: Its layers in the precision in which they are multiplied.
        registry: The tasks in service.
        masks: Those in memory.
        watcher: Keeps the registry in step with the store.
        lifecycle: Puts tasks in service and takes them out.
        rollouts: Serves versions of a task side by side.
        history: Looks up versions in the store.
        engine: Queue and worker.
        tokenizer: The threads that tokenise.
        predictor: Computes requests.
        metrics: What Prometheus scrapes.
        callers: Who may call.
        tracer: Sends a trace of each request; None where none are wanted.
        operators: Threads for what operators do to tasks, which may wait for the store.
        reports: Threads for what operators look at.
        looks: Threads for what clients look up in the store, for which they may wait.
        draining: Set once the server is about to stop.
        closing: The time that is left once it stops.
    """

    settings: Settings
    base: Base
    weights: ResidentWeights
    registry: TaskRegistry
    masks: ReadyMasks
    watcher: StoreWatcher
    lifecycle: Lifecycle
    rollouts: Rollouts
    history: TaskHistory
    engine: Engine
    tokenizer: TokenizerStage
    predictor: Predictor
    metrics: Metrics
    callers: Callers
    tracer: RequestTracer | None = None
    operators: OperatorThreads = field(default_factory=partial(OperatorThreads, "operator", _OPERATORS))
    reports: OperatorThreads = field(default_factory=partial(OperatorThreads, "report", _REPORTS))
    looks: OperatorThreads = field(default_factory=partial(OperatorThreads, "look", _LOOKS))
    draining: Event = field(default_factory=Event)
    closing: Closing = field(default_factory=Closing)

    async def change(
        self,
        facts: RequestFacts,
        how: Callable[Concatenate[str, Given], Result],
        task: str,
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Change a task as an operator wants it, off the event loop; the audit log says who did it.

        Args:
            facts: Who asks.
            how: A method of the lifecycle, given the task.
            task: The task.
            args: What else it is given.
            kwargs: What else it is given, by name.

        Raises:
            ServerError: As the method.
        """

        def work() -> Result:
            return how(task, *args, **kwargs)

        return await self.operators.run(audited, self.registry, facts, how.__name__, task, work)

    @property
    def version(self) -> str:
        """Version of this project."""
        try:
            return version("maskserve")
        except PackageNotFoundError:  # run from a folder that is not installed
            return "0"

    @property
    def precision(self) -> Precision:
        """In which precision the encoder multiplies."""
        return self.weights.precision

    @cached_property
    def recorder(self) -> RequestRecorder:
        """Counts, logs and traces the requests of every protocol."""
        return RequestRecorder(self.metrics, self.tracer)

    @property
    def limits(self) -> BatchLimits:
        """How large a batch and the queue may become."""
        return self.engine.queue.limits

    def start(self) -> None:
        """Start the worker, the tokenizer and the watcher."""
        self.tokenizer.start()
        self.engine.start()
        self.watcher.start()
        self.callers.start()

    def close(self) -> None:
        """Compute what still waits, then stop every thread, in `shutdown_seconds` all together."""
        seconds = self.settings.shutdown_seconds
        self.callers.close(self.closing.left(seconds))
        self.watcher.close(self.closing.left(seconds))
        if not self.engine.close(self.closing.left(seconds)):
            logger.error("requests still waited after %d s and were dropped", seconds)
        self.tokenizer.close()
        if self.tracer is not None:
            sending = Thread(target=self.tracer.close, name="last-traces", daemon=True)
            sending.start()
            sending.join(self.closing.left(seconds))

    @property
    def failure(self) -> str | None:
        """Why the process can't go on; None if it can."""
        return next((thread.failure for thread in self.threads if thread.failure), None)

    def drain(self) -> None:
        """Be not ready from now on, while requests are still answered."""
        self.draining.set()

    def why_not_ready(self) -> str | None:
        """Tell what is still missing before requests can be answered; None if nothing is."""
        if self.draining.is_set():
            return "the server is shutting down"
        return self.why_not_running() or self._missing_tasks() or None

    def why_not_running(self) -> str | None:
        """Tell which part does not work, so that another process may do better; None if all of them do."""
        if self.failure is not None:
            return self.failure
        missing = {
            "the tasks of the store are still being loaded": (
                self.watcher.alive and not self.watcher.first_pass_done
            ),
            "the worker is not running": not self.engine.ready,
            "the tokenizer is not running": not self.tokenizer.ready,
            "the store is not being watched": not self.watcher.alive,
        }
        return next((reason for reason, holds in missing.items() if holds), None)

    @property
    def threads(self) -> tuple[SupervisedThread, ...]:
        """The threads without which nothing works."""
        keys = () if self.callers.thread is None else (self.callers.thread,)
        return (self.engine.worker, *self.tokenizer.threads, self.watcher.thread, *keys)

    def _missing_tasks(self) -> str:
        """Tell why each required task that can't be computed is not."""
        missing = [reason for name in self.settings.require_task if (reason := self._missing(name))]
        return "; ".join(f"required {reason}" for reason in missing)

    def _missing(self, name: str) -> str | None:
        if not self.registry.knows(name):
            return f"task {name!r} is not in the store"
        entry = self.registry.entry(name)
        if entry.served is None:
            return entry.why_not_served(name)
        if self.masks.state(entry.served.digest) != "ready":
            return f"task {name!r} has no masks in memory: {entry.problem or 'there was no room for them'}"
        return None
