from collections import Counter

import pytest

from server.tasks.traffic import Shares

KEYS = [f"customer {number}" for number in range(10_000)]


@pytest.mark.parametrize(
    "weights", [{1: 90, 2: 10}, {3: 50, 4: 30, 5: 20}, {1: 99.5, 2: 0.5}, {7: 100}, {1: 0, 2: 100}]
)
def test_shares_are_the_weights(weights: dict[int, float]) -> None:
    shares = Shares("sentiment", weights)
    in_turn = Counter(shares.next() for _ in range(10_000))
    by_key = Counter(shares.of_key(key) for key in KEYS)
    for number, weight in weights.items():
        assert in_turn[number] / 100 == pytest.approx(weight, abs=0.05)
        assert by_key[number] / 100 == pytest.approx(weight, abs=1.5)


def test_a_few_requests_are_shared_by_weight_too() -> None:
    for _ in range(20):  # each begins elsewhere
        shares = Shares("sentiment", {1: 90, 2: 10})
        assert Counter(shares.next() for _ in range(30))[2] in (2, 3, 4)


def test_a_key_meets_the_same_version_in_every_process() -> None:
    """Known answers: another release must not send users to other versions in the middle of a trial."""
    shares = Shares("sentiment", {3: 50, 4: 30, 5: 20})
    assert [shares.of_key(key) for key in KEYS[:12]] == [3, 4, 4, 5, 3, 4, 4, 5, 4, 5, 4, 4]
    turned = Shares("sentiment", {5: 20, 3: 50, 4: 30})
    assert all(shares.of_key(key) == turned.of_key(key) for key in KEYS)


@pytest.mark.parametrize("others", [{}, {3: 10}])
def test_a_version_whose_weight_grows_keeps_its_keys(others: dict[int, float]) -> None:
    before, after = Shares("s", {1: 80, 2: 10, **others}), Shares("s", {1: 60, 2: 30, **others})
    moved = {(before.of_key(key), after.of_key(key)) for key in KEYS}
    assert {new for old, new in moved if old == 2} == {2}
    assert {old for old, new in moved if new == 1} == {1}
    assert before.of_key("x") == Shares("s", {1: 800, 2: 100, 3: 100}).of_key("x")


def test_tasks_are_shared_independently() -> None:
    one, other = Shares("one", {1: 50, 2: 50}), Shares("other", {1: 50, 2: 50})
    both = sum(one.of_key(key) == other.of_key(key) for key in KEYS)
    assert both / len(KEYS) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("key", ["", "ü", "\udcff", "x" * 10_000, "\0"])
def test_any_key_meets_a_version(key: str) -> None:
    assert Shares("s", {1: 50, 2: 50}).of_key(key) in (1, 2)
