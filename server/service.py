"""The parts of one server process, connected: base, store watcher, registry, engine, metrics.

Built whole before the first request (`Service.build`), started and stopped by the application. Knows no HTTP.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Self

import torch

from mask_store import MaskStore
from masking import Base, Features, LoadedTask, MaskedEncoder, TaskBatch, load_base
from masking.kernels import Kernels, Precision, costs, kernel_runs
from server.engine.pending import Floats, Outcome
from server.engine.queue import BatchLimits
from server.engine.retry import Compute
from server.engine.tokenizer import TokenizerStage
from server.engine.worker import Engine
from server.errors import DeadlineError
from server.http.parsing import Request, read_request
from server.http.schemas import example_body, predict_body
from server.memory_report import MemoryReport, memory_report
from server.settings import Settings, SettingsError
from server.tasks.lifecycle import Lifecycle
from server.tasks.registry import TaskRegistry
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import RequestTracer

logger = logging.getLogger(__name__)

_CPU_TOKENS, _GPU_TOKENS = 8192, 16384


@dataclass(frozen=True)
class Answer:
    """What the service computed for one request, and the seconds of each stage."""

    outcome: Outcome
    tokens: int
    tokenize_seconds: float


@dataclass(frozen=True)
class Service:
    """Everything that the routes need.

    Attributes:
        settings: What the operator set.
        base: The resident encoder.
        registry: The tasks in service.
        watcher: Keeps the registry in step with the store.
        lifecycle: Puts tasks in service and takes them out.
        engine: Queue and worker.
        metrics: What Prometheus is told.
        tokenizing: The thread that tokenises.
        tracer: Sends a trace of each request; None if nobody wants them.
        draining: Set once the server is about to go down.
    """

    settings: Settings
    base: Base
    registry: TaskRegistry
    watcher: StoreWatcher
    lifecycle: Lifecycle
    engine: Engine
    metrics: Metrics
    tokenizing: TokenizerStage
    tracer: RequestTracer | None = None
    draining: Event = field(default_factory=Event)

    @classmethod
    def build(cls, settings: Settings, *, base: Base | None = None, compute: Compute | None = None) -> Self:
        """Load the base, open the store and connect the parts; no thread runs yet.

        Args:
            settings: What the operator set.
            base: A base that is loaded already, in place of loading `settings.base`.
            compute: What computes a batch, in place of the masked encoder.

        Raises:
            MaskingError: The base can't be loaded.
            MaskStoreError: There is no store, or it can't be read.
            SettingsError: This machine does not have the wanted device, or not the package for traces.
        """
        tracer = None if settings.otlp_endpoint is None else RequestTracer.to(settings.otlp_endpoint)
        store = MaskStore.open(settings.store)  # before the base, which takes longer to load
        if base is None:
            base = load_base(settings.base, revision=settings.revision, device=_device(settings.device))
        metrics, registry = Metrics(settings.metrics_max_tasks), TaskRegistry()
        lifecycle = Lifecycle(
            store,
            base,
            registry,
            metrics,
            retry_seconds=settings.poll_seconds,
            kernels=settings.kernels,
        )
        watcher = StoreWatcher(
            store,
            lifecycle,
            registry,
            metrics,
            poll_seconds=settings.poll_seconds,
            load_threads=settings.load_threads,
        )
        masked = _masked_compute(base, settings.precision, settings.kernels)

        def prepare() -> None:
            _set_threads(settings.threads)
            watcher.wait_for_first_pass()
            if compute is None:
                if base.device.type == "cpu" and kernel_runs(base.device, settings.kernels):
                    metrics.note_costs(costs().as_dict())
                _warm_up(masked, registry)

        engine = Engine(
            compute or masked,
            _limits(settings, base.device),
            prepare=prepare,
            on_batch=metrics.batches.count,
            on_drop=metrics.batches.count_drop,
        )
        tokenizing = TokenizerStage()
        service = cls(settings, base, registry, watcher, lifecycle, engine, metrics, tokenizing, tracer)
        service._connect_gauges()
        return service

    def start(self) -> None:
        """Start the worker and the watcher."""
        self.engine.start()
        self.watcher.start()

    def close(self) -> None:
        """Compute what still waits, then stop every thread."""
        self.watcher.close(self.settings.shutdown_seconds)
        if not self.engine.close(self.settings.shutdown_seconds):
            logger.error("requests still waited after %d s and were dropped", self.settings.shutdown_seconds)
        self.tokenizing.close()
        if self.tracer is not None:
            self.tracer.close()

    def drain(self) -> None:
        """Be not ready from now on, while requests are still answered."""
        self.draining.set()

    def why_not_ready(self) -> str | None:
        """What is still missing before requests can be answered; None if nothing is."""
        if self.draining.is_set():
            return "the server is shutting down"
        if self.watcher.alive and not self.watcher.first_pass_done:
            return "the tasks of the store are still being loaded"
        if not self.engine.ready:
            return "the worker is not running"
        if not self.watcher.alive:
            return "the store is not being watched"
        return self._what_is_required() or None

    def _what_is_required(self) -> str:
        """Why each required task that is not served is not."""
        entries = self.registry.entries
        missing = [
            entry.why_not_served(name)
            if (entry := entries.get(name))
            else f"task {name!r} is not in the store"
            for name in self.settings.require_task
            if name not in self.registry.tasks
        ]
        return "; ".join(f"required {reason}" for reason in missing)

    def memory(self) -> MemoryReport:
        """Count what is held in memory."""
        return memory_report(self.base, self.registry.tasks)

    async def compute(self, task: LoadedTask, request: Request, request_id: str) -> Answer:
        """Tokenise and compute one request; cancelling the call drops it.

        Raises:
            ServerError: It can't be admitted, its computation failed, or it was not computed in time.
            TaskInputError: An input is not one that the task can take.
        """
        started = time.monotonic()
        seconds = self.settings.request_timeout_ms / 1000
        try:
            async with asyncio.timeout(seconds):
                with self.engine.queue.reservation(len(task.members) * request.rows):
                    features = await self.tokenizing.encode(task, request.inputs, truncate=request.truncate)
                tokenize_seconds = time.monotonic() - started
                outcome = await self.engine.run(task, features, request_id, deadline=started + seconds)
        except TimeoutError:
            raise DeadlineError from None
        return Answer(outcome, sum(item.tokens for item in features), tokenize_seconds)

    def _connect_gauges(self) -> None:
        metrics, queue = self.metrics, self.engine.queue
        metrics.read("maskserve_queue_rows", "Rows that wait", lambda: queue.waiting)
        metrics.read("maskserve_queue_tokens", "Tokens that wait", lambda: queue.waiting_tokens)
        metrics.read(
            "maskserve_queue_oldest_seconds", "How long the oldest waits", lambda: queue.oldest_seconds
        )
        metrics.read("maskserve_ready", "1 if requests can be answered", lambda: self.why_not_ready() is None)
        metrics.read("maskserve_worker_restarts", "Times the worker died", lambda: self.engine.restarts)
        metrics.read("maskserve_tasks", "Tasks in service", lambda: len(self.registry.tasks))
        metrics.read(
            "maskserve_task_problems",
            "Tasks whose current version can't be served",
            lambda: len(self.registry.problems),
        )
        metrics.read_forms(
            {
                "base": lambda: self.base.nbytes,
                "packed": lambda: sum(t.loaded.masks_nbytes for t in self.registry.tasks.values()),
                "head": lambda: sum(t.loaded.head_nbytes for t in self.registry.tasks.values()),
            }
        )


def _masked_compute(base: Base, precision: Precision, kernels: Kernels) -> Compute:
    encoder = MaskedEncoder(base, precision, kernels=kernels)

    def compute(parts: Sequence[tuple[LoadedTask, Sequence[Features]]]) -> Sequence[Sequence[Floats]]:
        return encoder.logits([TaskBatch(task, features) for task, features in parts])

    return compute


def _limits(settings: Settings, device: torch.device) -> BatchLimits:
    """Limits as set; where the tokens are left to the device, a slower one gets batches that end sooner."""
    return BatchLimits(
        rows=settings.max_batch_rows,
        tokens=settings.max_batch_tokens or (_CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS),
        wait_seconds=settings.max_wait_ms / 1000,
        waiting=settings.queue_limit,
    )


def _warm_up(compute: Compute, registry: TaskRegistry) -> None:
    """Compute one input of one task: kernels are built and threads are up before the first request."""
    for served in list(registry.tasks.values())[:1]:
        task = served.loaded
        body = predict_body.validate_python(example_body(task.spec.kind, pair=task.spec.pair))
        features = task.codec.encode(read_request(body, task).inputs, truncate=True)
        try:
            compute([(task, features)])
        except Exception:  # a task that fails must not keep the others from being served
            logger.exception("warming up with task %s failed", served.name)


def _device(wanted: str) -> torch.device:
    """The device by its name.

    Raises:
        SettingsError: This machine does not have it.
    """
    available = torch.cuda.is_available()
    if wanted == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(wanted)
    missing = device.type == "cuda" and not (available and (device.index or 0) < torch.cuda.device_count())
    if missing or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise SettingsError(f"--device {wanted}: this machine has no such device; use cpu or auto")
    return device


def _set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
