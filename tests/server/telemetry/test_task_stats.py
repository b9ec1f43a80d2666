from concurrent.futures import ThreadPoolExecutor

from server.engine.pending import Timings
from server.telemetry.task_stats import TaskStatistics


def _timings(*, tokenize: float, queue: float, compute: float, total: float) -> Timings:
    """Times of a request with stages of these lengths."""
    queued, started = tokenize, tokenize + queue
    return Timings(0.0, 0.0, queued, started, started + compute, total)


def test_nothing_was_asked_yet() -> None:
    report = TaskStatistics().report()
    assert (report["last_inference"], report["inference_count"]) == (0, 0)
    assert report["inference_stats"].keys() == {"success", "fail", "queue", "compute_input", "compute_infer"}
    assert all(spent == {"count": 0, "ns": 0} for spent in report["inference_stats"].values())


def test_inputs_and_the_nanoseconds_of_each_stage_add_up() -> None:
    statistics = TaskStatistics()
    statistics.count_success(3, _timings(tokenize=0.001, queue=0.002, compute=0.004, total=0.008))
    statistics.count_success(1, _timings(tokenize=0.001, queue=0.0, compute=0.004, total=0.006))
    statistics.count_failure(0.5)
    report = statistics.report()
    assert report["inference_count"] == 4
    assert report["last_inference"] > 1_600_000_000_000
    assert report["inference_stats"] == {
        "success": {"count": 2, "ns": 14_000_000},
        "fail": {"count": 1, "ns": 500_000_000},
        "compute_input": {"count": 2, "ns": 2_000_000},
        "queue": {"count": 2, "ns": 2_000_000},
        "compute_infer": {"count": 2, "ns": 8_000_000},
    }


def test_threads_that_count_at_once_lose_nothing() -> None:
    statistics = TaskStatistics()

    def count(_: int) -> None:
        for _ in range(500):
            statistics.count_success(2, Timings(received=0.0))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert statistics.report()["inference_count"] == 4000
