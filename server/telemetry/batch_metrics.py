"""What Prometheus is told about batches and dropped requests. Every label has a few known values."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.engine.pending import DropReason
from server.engine.queue import CloseReason
from server.engine.retry import FailureReason
from server.engine.worker import BatchReport

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_TASKS = (1, 2, 4, 8, 16, 32, 64)


class BatchMetrics:
    """The series of the engine, in the registry of the process."""

    def __init__(self, to: CollectorRegistry) -> None:
        """Creates every series at zero."""
        self._rows = Histogram("maskserve_batch_rows", "Rows per batch", buckets=_ROWS, registry=to)
        self._batch_tokens = Histogram(
            "maskserve_batch_tokens", "Tokens per batch, without padding", buckets=_TOKENS, registry=to
        )
        self._tasks = Histogram("maskserve_batch_tasks", "Tasks per batch", buckets=_TASKS, registry=to)
        self._tokens = Counter("maskserve_tokens", "Tokens computed, without padding", registry=to)
        self._padding = Counter(
            "maskserve_padding_tokens",
            "Tokens that padding each batch to its longest row would have added",
            registry=to,
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
        """Note one batch."""
        self._rows.observe(report.cost.rows)
        self._batch_tokens.observe(report.cost.tokens)
        self._tasks.observe(report.tasks)
        self._tokens.inc(report.cost.tokens)
        self._padding.inc(report.padding_tokens)
        self._closed[report.reason].inc()
        for reason in report.failures:
            self._failures[reason].inc()
        if report.failed:
            self._failed.inc()

    def count_drop(self, reason: DropReason) -> None:
        """Note a request that was dropped."""
        self._dropped[reason].inc()
