from prometheus_client import CollectorRegistry

from server.engine.pending import Cost
from server.engine.retry import FailureReason
from server.engine.worker import BatchReport
from server.telemetry.batch_metrics import BatchMetrics


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(f"maskserve_{name}", labels)
    assert value is not None, name
    return value


def test_batches_are_measured() -> None:
    registry = CollectorRegistry()
    metrics = BatchMetrics(registry)
    metrics.count(BatchReport(Cost(4, 30), 3, 10, "full_rows", 0.1))
    failures: tuple[FailureReason, ...] = ("out_of_memory", "out_of_memory", "failed")
    metrics.count(BatchReport(Cost(2, 10), 1, 0, "idle", 0.1, failures, failed=True))
    assert _value(registry, "batch_rows_sum") == 6
    assert _value(registry, "batch_tokens_sum") == 40
    assert _value(registry, "batch_tasks_sum") == 4
    assert _value(registry, "batch_tasks_count") == 2
    assert _value(registry, "tokens_total") == 40
    assert _value(registry, "padding_tokens_total") == 10
    assert _value(registry, "failed_batches_total") == 1
    closed = {
        reason: _value(registry, "batches_total", closed=reason)
        for reason in ("full_rows", "full_tokens", "waited", "idle", "drained")
    }
    assert closed == {"full_rows": 1, "full_tokens": 0, "waited": 0, "idle": 1, "drained": 0}
    assert _value(registry, "compute_failures_total", reason="out_of_memory") == 2
    assert _value(registry, "compute_failures_total", reason="failed") == 1


def test_dropped_requests_are_counted_by_reason() -> None:
    registry = CollectorRegistry()
    metrics = BatchMetrics(registry)
    for reason in ("expired", "cancelled", "expired"):
        metrics.count_drop(reason)
    counted = {
        reason: _value(registry, "dropped_requests_total", reason=reason)
        for reason in ("cancelled", "expired", "abandoned")
    }
    assert counted == {"cancelled": 1, "expired": 2, "abandoned": 0}
