import pytest

from mask_store import AbortRule
from server.telemetry.comparison import Compared
from server.telemetry.traffic_stats import TrafficStatistics, VersionCounts

SAME, OTHER = Compared(1.0, 0.1), Compared(0.0, 0.5)


def statistics(**rule: float) -> TrafficStatistics:
    return TrafficStatistics(1, (1, 2), AbortRule.model_validate({"rows": 10, **rule}) if rule else None)


def test_rows_are_counted_by_version() -> None:
    found = statistics()
    found.count(1, 3, failed=False)
    found.count(2, 2, failed=True)
    found.count(2, 1, failed=False)
    assert found.versions == {1: VersionCounts(3, 0), 2: VersionCounts(3, 2)}


def test_a_shadow_is_compared() -> None:
    found = statistics()
    assert (found.shadow.agreement, found.shadow.mean_difference) == (None, None)
    found.count_shadow(2, [SAME, OTHER])
    found.count_shadow(2, [SAME])
    found.count_shadow_failure(2, 4)
    found.skip_shadow(5)
    assert found.shadow.agreement == pytest.approx(2 / 3)
    assert found.shadow.mean_difference == pytest.approx(0.7 / 3)
    assert (found.shadow.rows, found.shadow.failed, found.shadow.skipped) == (3, 4, 5)


def test_numbers_have_no_agreement() -> None:
    found = statistics(agreement=1.0)
    found.count_shadow(2, [Compared(None, 0.25)] * 20)
    assert (found.shadow.agreement, found.shadow.mean_difference, found.stopped) == (None, 0.25, None)


def test_nothing_is_judged_before_there_are_enough_rows() -> None:
    found = statistics(agreement=0.9)
    found.count_shadow(2, [OTHER] * 9)
    assert found.stopped is None
    found.count_shadow(2, [OTHER])
    assert found.stopped == "version 2 agrees with version 1 on 0.00% of 10 rows, less than 90.00%"


def test_what_is_just_good_enough_goes_on() -> None:
    found = statistics(agreement=0.9, errors=0.1)
    found.count_shadow(2, [SAME] * 9 + [OTHER])
    found.count(2, 9, failed=False)
    found.count(2, 1, failed=True)
    assert found.stopped is None
    found.count(2, 1, failed=True)
    assert found.stopped == "version 2 failed at 18.18% of 11 rows, more than 10.00%"


def test_the_stable_version_is_not_judged() -> None:
    found = statistics(errors=0.0)
    found.count(1, 100, failed=True)
    assert found.stopped is None


def test_failures_of_a_shadow_are_judged() -> None:
    found = statistics(errors=0.5)
    found.count_shadow(2, [SAME] * 5)
    found.count_shadow_failure(2, 5)
    assert found.stopped is None
    found.count_shadow_failure(2, 1)
    assert found.stopped == "version 2 failed at 54.55% of 11 rows, more than 50.00%"


def test_the_first_reason_stays() -> None:
    found = statistics(errors=0.0, agreement=1.0)
    found.count(2, 10, failed=True)
    reason = found.stopped
    found.count_shadow(2, [OTHER] * 10)
    assert found.stopped == reason is not None
