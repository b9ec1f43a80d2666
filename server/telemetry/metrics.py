"""Prometheus metrics, with bounded labels.

Names that clients make up all count as one, and so do all tasks beyond the first hundred or so (a setting).

Gauges that mirror a state (queue depth, bytes) are read when scraped, from the callables that they are given;
counters and histograms count as things happen. What Prometheus' own client knows of every process (processor
time, memory, open files, garbage collections, Python's version) is told by its collectors.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from server.engine.batch import CloseReason
from server.engine.pending import DropReason, Timings
from server.engine.retry import FailureReason
from server.engine.worker import BatchReport
from server.telemetry.key_metrics import KeyMetrics
from server.telemetry.names import LabelNames
from server.telemetry.residency import ResidencyMetrics
from server.telemetry.traffic_metrics import TrafficCollector, TrafficState
from server.threads.supervision import SupervisedThread

UNKNOWN_TASK = "(unknown)"
NO_TASK = ""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TASK_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Fewer than for the stages: every task has them all."""
_STAGES = ("tokenize", "queue", "compute", "total")
_ROWS_PER_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS_PER_BATCH = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_TASKS_PER_BATCH = (1, 2, 4, 8, 16, 32, 64)

disable_created_metrics()  # the time when each series began, which would double their number


class BatchMetrics:
    """The series of batches and of dropped requests."""

    def __init__(self, to: CollectorRegistry) -> None:
        """Create every series at zero."""
        self._rows = Histogram("maskserve_batch_rows", "Rows per batch", buckets=_ROWS_PER_BATCH, registry=to)
        self._batch_tokens = Histogram(
            "maskserve_batch_tokens",
            "Tokens per batch, without padding",
            buckets=_TOKENS_PER_BATCH,
            registry=to,
        )
        self._tasks = Histogram(
            "maskserve_batch_tasks", "Tasks per batch", buckets=_TASKS_PER_BATCH, registry=to
        )
        self._tokens = Counter("maskserve_tokens", "Tokens computed, without padding", registry=to)
        self._padding = Counter(
            "maskserve_padding_tokens",
            "Tokens that padding each batch to its longest row would have added",
            registry=to,
        )
        self._busy = Counter(
            "maskserve_worker_busy_seconds", "Seconds that the worker spent computing batches", registry=to
        )
        self._failed = Counter(
            "maskserve_failed_batches", "Batches of which at least one input failed", registry=to
        )
        closed = Counter("maskserve_batches", "Batches by why they were closed", ["closed"], registry=to)
        failures = Counter(
            "maskserve_compute_failures",
            "Tries to compute a batch or a piece of it that failed, by why; pieces are tried again",
            ["reason"],
            registry=to,
        )
        dropped = Counter(
            "maskserve_dropped_requests",
            "Requests that left the queue without being computed, by why",
            ["reason"],
            registry=to,
        )
        self._closed = {reason: closed.labels(reason) for reason in get_args(CloseReason)}
        self._failures = {reason: failures.labels(reason) for reason in get_args(FailureReason)}
        self._dropped = {reason: dropped.labels(reason) for reason in get_args(DropReason)}

    def count(self, report: BatchReport) -> None:
        """Count one batch."""
        self._rows.observe(report.cost.rows)
        self._batch_tokens.observe(report.cost.tokens)
        self._tasks.observe(report.tasks)
        self._tokens.inc(report.cost.tokens)
        self._padding.inc(report.padding_tokens)
        self._busy.inc(report.seconds)
        self._closed[report.reason].inc()
        for reason in report.failures:
            self._failures[reason].inc()
        if report.failed:
            self._failed.inc()

    def count_drop(self, reason: DropReason) -> None:
        """Count a request that was dropped."""
        self._dropped[reason].inc()


class Metrics:
    """All metrics of one process, in a registry of their own.

    Attributes:
        batches: Those of the engine.
        keys: Those of keys.
        residency: Those of the masks in memory.
        in_flight: Requests being answered, the scrape that reads it among them.
    """

    def __init__(self, max_tasks: int = 100, max_keys: int = 100) -> None:
        """Create every metric at zero; so many tasks and keys at most get series of their own."""
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._names = LabelNames(max_tasks)
        self.batches = BatchMetrics(self._registry)
        self.keys = KeyMetrics(self._registry, max_keys)
        self.residency = ResidencyMetrics(self._registry)
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=self._registry)
        self._requests = counter("maskserve_requests", "Requests answered", ["route", "task", "status"])
        self.in_flight = gauge("maskserve_requests_in_flight", "Requests being answered, this one included")
        self._build = Info("maskserve_build", "What is running here", registry=self._registry)
        self._versions = gauge("maskserve_task_version", "Number of the version in service", ["task"])
        self._swaps = counter("maskserve_swaps", "Versions put in service", ["task"])
        self._load_failures = counter(
            "maskserve_load_failures", "Versions that could not be loaded", ["task"]
        )
        self._aborts = counter(
            "maskserve_traffic_aborts",
            "Traffic that a threshold ended, as this server found",
            ["task"],
        )
        latency = seconds(
            "maskserve_stage_seconds",
            "Time of a prediction by stage: tokenize, queue, compute, total",
            ["stage"],
        )
        self._latency = {stage: latency.labels(stage) for stage in _STAGES}
        self._task_latency = Histogram(
            "maskserve_task_seconds",
            "Time of a prediction by task, from its arrival on",
            ["task"],
            buckets=_TASK_SECONDS,
            registry=self._registry,
        )
        self._load_seconds = seconds(
            "maskserve_load_seconds",
            "Time of reading and checking a version, by result: ok, failed",
            ["result"],
        )
        self._costs = gauge(
            "maskserve_cost_seconds",
            "Time of masked layers by which their way is chosen: kernel and torch per weight and token, fold "
            "per weight",
            ["of"],
        )
        self._by_task = (
            self._requests,
            self._swaps,
            self._versions,
            self._load_failures,
            self._aborts,
            self._task_latency,
        )
        self._store_up = gauge("maskserve_store_up", "1 if the store could be read at the last look")
        self._store_seen = gauge(
            "maskserve_store_last_look_timestamp_seconds", "When the store could be read last, in Unix time"
        )

    def read(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when scraped."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def describe_build(self, facts: Mapping[str, str]) -> None:
        """Set the labels of the metric that says what is running: versions, device, precision."""
        self._build.info(dict(facts))

    def read_restarts(self, threads: Iterable[SupervisedThread]) -> None:
        """Add the gauge of how many times each thread was started again, read when scraped."""
        name, text = "maskserve_thread_restarts", "Times a thread died and was started again"
        gauge = Gauge(name, text, ["thread"], registry=self._registry)
        for thread in threads:
            gauge.labels(thread.name).set_function(partial(getattr, thread, "restarts"))

    def read_bytes(
        self, values: Mapping[str, Callable[[], float]], gpu: Mapping[str, Callable[[], float]]
    ) -> None:
        """Add the gauges of bytes in memory by form, and of a GPU's by use, read when scraped."""
        bytes_ = Gauge("maskserve_bytes", "Bytes in memory by form", ["form"], registry=self._registry)
        gpu_bytes = Gauge(
            "maskserve_gpu_bytes",
            "Bytes of the GPU's memory that this process holds: reserved, and tensors, which are a part of "
            "them; 0 without a GPU",
            ["use"],
            registry=self._registry,
        )
        for gauge, functions in ((bytes_, values), (gpu_bytes, gpu)):
            for label, value in functions.items():
                gauge.labels(label).set_function(value)

    def count_request(self, route: str, task: str, status: int) -> None:
        """Count an answered request; `task` is a served name, `UNKNOWN_TASK` or `NO_TASK`."""
        self._requests.labels(route, self._label(task), str(status)).inc()

    def time_prediction(self, task: str, timings: Timings) -> None:
        """Observe the seconds that one finished prediction of a served task spent in each stage."""
        for stage, series in self._latency.items():
            series.observe(getattr(timings, stage))
        self._task_latency.labels(self._label(task)).observe(timings.total)

    def count_swap(self, task: str, version: int) -> None:
        """Count a version put in service; its number is told of tasks with series of their own."""
        label = self._label(task)
        self._swaps.labels(label).inc()
        if label == task:
            self._versions.labels(task).set(version)

    def count_load_failure(self, task: str) -> None:
        """Count a version that could not be loaded."""
        self._load_failures.labels(self._label(task)).inc()

    def begin_traffic(self, task: str) -> None:
        """Let the series of aborts begin at zero, so that Prometheus sees the first one as a rise."""
        self._aborts.labels(self._label(task))

    def count_abort(self, task: str) -> None:
        """Count traffic that a threshold ended."""
        self._aborts.labels(self._label(task)).inc()

    def read_traffic(self, traffic: Callable[[], Mapping[str, TrafficState]]) -> None:
        """Add the series of versions side by side, read when scraped, of as many tasks as have their own."""
        self._registry.register(TrafficCollector(traffic, self._names.most))

    def count_load(self, result: Literal["ok", "failed"], seconds: float) -> None:
        """Note the end of a load and how long it took."""
        self._load_seconds.labels(result).observe(seconds)

    def note_costs(self, costs: Mapping[str, float]) -> None:
        """Note what the ways to compute a masked layer cost here."""
        for name, seconds in costs.items():
            self._costs.labels(name).set(seconds)

    def store_seen(self, *, readable: bool) -> None:
        """Note whether the store could be read."""
        self._store_up.set(readable)
        if readable:
            self._store_seen.set_to_current_time()

    def forget(self, task: str) -> None:
        """Drop the series of a task that is gone."""
        for metric in self._by_task:
            metric.remove_by_labels({"task": task})
        self._names.free(task)

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Drop the series of all other tasks: those that late requests brought back, after `forget`."""
        for task in self._names.without(wanted):
            self.forget(task)

    def _label(self, task: str) -> str:
        """Return the task's own name while there is room for it."""
        return task if task in (UNKNOWN_TASK, NO_TASK) else self._names.label(task)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
