import pytest
from prometheus_client import CollectorRegistry

from server.engine.pending import Cost, Timings
from server.engine.retry import FailureReason
from server.engine.worker import BatchReport
from server.telemetry.metrics import NO_TASK, UNKNOWN_TASK, BatchMetrics, Metrics


def _lines(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_everything_starts_at_zero_and_two_instances_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.store_seen(readable=True)
    assert _lines(first)["maskserve_store_up"] == 1
    assert _lines(second)["maskserve_store_up"] == 0
    assert _lines(second)["maskserve_failed_batches_total"] == 0
    assert _lines(second)['maskserve_batches_total{closed="idle"}'] == 0


def test_requests_are_counted_by_route_task_and_status() -> None:
    metrics = Metrics()
    metrics.count_request("/predict/{task}", "trec", 200)
    metrics.count_request("/predict/{task}", "trec", 200)
    metrics.count_request("/predict/{task}", UNKNOWN_TASK, 404)
    metrics.count_request("/tasks", NO_TASK, 200)
    lines = _lines(metrics)
    name = "maskserve_requests_total"
    assert lines[f'{name}{{route="/predict/{{task}}",status="200",task="trec"}}'] == 2
    assert lines[f'{name}{{route="/predict/{{task}}",status="404",task="(unknown)"}}'] == 1
    assert lines[f'{name}{{route="/tasks",status="200",task=""}}'] == 1


def test_seconds_are_kept_by_stage() -> None:
    metrics = Metrics()
    metrics.time_prediction("trec", Timings(10.0, 10.25, 11.25, 13.25, 17.25, 17.5))
    lines = _lines(metrics)
    for stage, seconds in {"tokenize": 1.0, "queue": 2.0, "compute": 4.0, "total": 7.5}.items():
        assert lines[f'maskserve_stage_seconds_sum{{stage="{stage}"}}'] == seconds
        assert lines[f'maskserve_stage_seconds_count{{stage="{stage}"}}'] == 1


def test_the_whole_time_is_kept_by_task() -> None:
    metrics = Metrics(max_tasks=1)
    for task, seconds in (("trec", 0.02), ("trec", 0.2), ("sst2", 4.0)):
        metrics.time_prediction(task, Timings(received=10.0, finished=10.0 + seconds))
    lines = _lines(metrics)
    name = "maskserve_task_seconds"
    assert lines[f'{name}_bucket{{le="0.025",task="trec"}}'] == 1
    assert lines[f'{name}_count{{task="trec"}}'] == 2
    assert lines[f'{name}_sum{{task="(other)"}}'] == 4


def test_the_version_in_service_is_told_of_tasks_with_series_of_their_own() -> None:
    metrics = Metrics(max_tasks=1)
    for task, version in (("trec", 1), ("trec", 4), ("sst2", 2)):
        metrics.count_swap(task, version)
    told = {name: value for name, value in _lines(metrics).items() if "task_version" in name}
    assert told == {'maskserve_task_version{task="trec"}': 4}


def test_what_runs_and_what_the_process_takes_is_told() -> None:
    metrics = Metrics()
    metrics.describe_build({"version": "1.2.3", "precision": "bf16"})
    lines = _lines(metrics)
    assert lines['maskserve_build_info{precision="bf16",version="1.2.3"}'] == 1
    assert lines["process_resident_memory_bytes"] > 0
    assert lines["process_cpu_seconds_total"] > 0
    assert lines["process_open_fds"] > 0
    assert lines['python_gc_collections_total{generation="2"}'] >= 0


def test_series_have_no_second_one_for_when_they_began() -> None:
    assert "_created" not in Metrics().exposition().decode()


def test_gauges_are_read_when_scraped() -> None:
    metrics, state = Metrics(), {"rows": 1, "base": 10}
    metrics.read("maskserve_queue_rows", "Rows that wait", lambda: state["rows"])
    metrics.read_bytes({"base": lambda: state["base"], "packed": lambda: 3}, {"reserved": lambda: 7})
    assert _lines(metrics)["maskserve_queue_rows"] == 1
    state |= {"rows": 5, "base": 20}
    lines = _lines(metrics)
    assert lines["maskserve_queue_rows"] == 5
    assert lines['maskserve_bytes{form="base"}'] == 20
    assert lines['maskserve_bytes{form="packed"}'] == 3
    assert lines['maskserve_gpu_bytes{use="reserved"}'] == 7


def test_a_task_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics()
    for task in ("old", "kept"):
        metrics.count_request("/predict/{task}", task, 200)
        metrics.count_request("/predict/{task}", task, 422)
        metrics.count_swap(task, 3)
        metrics.count_load_failure(task)
        metrics.time_prediction(task, Timings())
    metrics.retain({"kept", "never-seen"}.__contains__)
    told = metrics.exposition().decode()
    assert 'task="old"' not in told
    lines = _lines(metrics)
    assert lines['maskserve_swaps_total{task="kept"}'] == 1
    assert lines['maskserve_load_failures_total{task="kept"}'] == 1
    assert lines['maskserve_task_version{task="kept"}'] == 3
    assert lines['maskserve_task_seconds_count{task="kept"}'] == 1


def test_the_text_format_explains_itself() -> None:
    told = Metrics().exposition().decode()
    assert "# HELP maskserve_requests_total Requests answered" in told
    assert "# TYPE maskserve_stage_seconds histogram" in told


def test_only_so_many_tasks_have_series_of_their_own() -> None:
    metrics = Metrics(max_tasks=2)
    for task in ("a", "b", "c", "d", "a"):
        metrics.count_swap(task, 3)
    metrics.count_request("/predict/{task}", UNKNOWN_TASK, 404)
    lines = _lines(metrics)
    assert lines['maskserve_swaps_total{task="a"}'] == 2
    assert lines['maskserve_swaps_total{task="(other)"}'] == 2
    assert 'task="c"' not in metrics.exposition().decode()
    metrics.retain({"b", "c"}.__contains__)
    metrics.count_swap("c", 1)  # there is room again
    assert _lines(metrics)['maskserve_swaps_total{task="c"}'] == 1


def test_loads_are_timed_by_result() -> None:
    metrics = Metrics()
    metrics.count_load("ok", 0.5)
    metrics.count_load("failed", 2.0)
    lines = _lines(metrics)
    assert lines['maskserve_load_seconds_sum{result="ok"}'] == 0.5
    assert lines['maskserve_load_seconds_count{result="failed"}'] == 1


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
    assert _value(registry, "worker_busy_seconds_total") == pytest.approx(0.2)
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
