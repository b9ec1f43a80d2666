import asyncio

import pytest

from benchmarks.measure import load
from benchmarks.measure.load import Load


class Clock:
    """Stands for the module `time`; moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


def test_clients_take_requests_in_turn_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    sent: list[tuple[str, int]] = []

    async def client(name: str, number: int) -> None:
        sent.append((name, number))
        clock.seconds += 1.0
        await asyncio.sleep(0)

    monkeypatch.setattr(load, "time", clock)
    clients = [lambda n: client("a", n), lambda n: client("b", n)]
    found = asyncio.run(load.load(clients, 5.0))
    assert sent == [("a", 0), ("b", 1), ("a", 2), ("b", 3), ("a", 4)]
    assert found.seconds == 5.0
    assert len(found.latencies) == len(sent)


def test_rate_and_median_latency() -> None:
    found = Load(8.0, (0.5, 1.0, 4.0, 2.0))
    assert found.rate == 0.5
    assert found.p50 == 1.5
