import pytest

from server.telemetry.recent import WINDOW_SECONDS, RecentRequests
from tests.support.server_parts import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> RecentRequests:
    return RecentRequests(clock)


def test_without_requests_there_is_no_percentile(recent: RecentRequests, clock: Clock) -> None:
    clock.now += 1000
    assert (recent.report().per_second, recent.report().p95_seconds) == (0, None)


@pytest.mark.parametrize("seconds", [0.0003, 0.004, 0.07, 1.3, 25.0])
def test_a_latency_is_known_to_a_tenth(recent: RecentRequests, seconds: float) -> None:
    for _ in range(10):
        recent.add(seconds)
    assert recent.report().p95_seconds == pytest.approx(seconds, rel=0.1)


def test_the_percentile_is_that_of_all_but_the_slowest_twentieth(recent: RecentRequests) -> None:
    for number in range(100):
        recent.add(0.01 if number < 95 else 5.0)
    assert recent.report().p95_seconds == pytest.approx(0.01, rel=0.1)
    recent.add(5.0)
    assert recent.report().p95_seconds == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_what_no_bucket_fits_counts_all_the_same(recent: RecentRequests, seconds: float) -> None:
    recent.add(seconds)
    assert recent.report().per_second == pytest.approx(1 / WINDOW_SECONDS)
    assert recent.report().p95_seconds is not None


def test_a_steady_rate_is_told_whenever_it_is_asked_for(recent: RecentRequests, clock: Clock) -> None:
    rates = []
    for second in range(200):
        for _ in range(5):
            recent.add(0.01)
        clock.now += 1
        if second > WINDOW_SECONDS:
            rates.append(recent.report().per_second)
    assert min(rates) == pytest.approx(5, rel=0.05)
    assert max(rates) == pytest.approx(5, rel=0.05)


def test_what_is_older_than_two_windows_is_forgotten(recent: RecentRequests, clock: Clock) -> None:
    recent.add(3.0)
    clock.now += 1.5 * WINDOW_SECONDS
    recent.add(0.01)
    assert recent.report().p95_seconds == pytest.approx(3.0, rel=0.1)
    clock.now += WINDOW_SECONDS
    assert recent.report().p95_seconds == pytest.approx(0.01, rel=0.1)
    clock.now += WINDOW_SECONDS
    assert recent.report().p95_seconds is None
