import asyncio

import pytest

from server.errors import InvalidBodyError, KeyLimitError
from server.tenants.quota import Limits, Quota
from tests.support.server_parts import Clock


def test_without_limits_everything_is_let_in() -> None:
    quota = Quota("free", Limits())
    quota.check()
    with quota.admit(10**9), quota.admit(10**9):
        assert quota.in_flight == 2 * 10**9
    assert quota.in_flight == 0


def test_rows_of_a_second_are_there_at_once_and_flow_in_again() -> None:
    clock = Clock()
    quota = Quota("team-a", Limits(rows_per_second=10), clock)
    for _ in range(10):
        quota.charge(1)
    with pytest.raises(KeyLimitError, match="'team-a' may ask 10 rows per second") as refused:
        quota.check()
    assert refused.value.headers == {"retry-after": "1"}
    clock.now += 0.3
    quota.charge(3)
    with pytest.raises(KeyLimitError):
        quota.charge(1)
    clock.now += 3600  # no more than a second's rows gather
    quota.charge(10)
    with pytest.raises(KeyLimitError):
        quota.charge(1)


def test_a_request_of_more_than_a_second_is_paid_for_afterwards() -> None:
    clock = Clock()
    quota = Quota("team-a", Limits(rows_per_second=10), clock)
    quota.charge(100)
    with pytest.raises(KeyLimitError) as refused:
        quota.charge(1)
    assert refused.value.headers == {"retry-after": "10"}  # 90 rows too many, and one more
    clock.now += 9.1
    quota.charge(1)
    clock.now += 0.5
    with pytest.raises(KeyLimitError):  # a large one needs the whole bucket
        quota.charge(100)


def test_less_than_a_row_per_second_is_a_rate_too() -> None:
    clock = Clock()
    quota = Quota("slow", Limits(rows_per_second=0.1), clock)
    quota.charge(1)
    with pytest.raises(KeyLimitError) as refused:
        quota.charge(1)
    assert refused.value.headers == {"retry-after": "10"}
    clock.now += 10
    quota.charge(1)


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    quota = Quota("team-a", Limits(rows_per_second=10, rows_in_flight=4), clock)
    with quota.admit(4):
        for _ in range(100):
            with pytest.raises(KeyLimitError, match="4 rows of key 'team-a' are in flight"), quota.admit(1):
                pass
        with pytest.raises(KeyLimitError):
            quota.check()
    quota.charge(6)
    with pytest.raises(InvalidBodyError, match="has 5 rows and key 'team-a' may have 4"), quota.admit(5):
        pass


def test_what_fails_gives_its_rows_in_flight_back() -> None:
    quota = Quota("team-a", Limits(rows_in_flight=4))
    with pytest.raises(RuntimeError), quota.admit(4):
        raise RuntimeError
    assert quota.in_flight == 0


def test_who_can_wait_does_so_in_turn() -> None:
    async def wait() -> None:
        quota = Quota("team-a", Limits(rows_in_flight=4))
        first = await quota.hold(3)
        second, third, fourth = (asyncio.create_task(quota.hold(rows)) for rows in (2, 1, 4))
        await asyncio.sleep(0)
        assert not second.done()
        assert not third.done()  # there is room for it, but others came first
        third.cancel()
        first.release()
        first.release()  # a second time changes nothing
        (await second).release()
        (await fourth).release()
        assert third.cancelled()
        assert quota.in_flight == 0
        with pytest.raises(InvalidBodyError):
            await quota.hold(5)

    asyncio.run(wait())


def test_who_leaves_when_its_turn_comes_gives_it_back() -> None:
    async def wait() -> None:
        quota = Quota("team-a", Limits(rows_in_flight=1))
        first = await quota.hold(1)
        second = asyncio.create_task(quota.hold(1))
        await asyncio.sleep(0)
        first.release()
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        assert quota.in_flight == 0

    asyncio.run(wait())


def test_a_lower_limit_keeps_nobody_waiting_for_ever() -> None:
    async def wait() -> None:
        quota = Quota("team-a", Limits(rows_in_flight=4))
        first = await quota.hold(1)
        second = asyncio.create_task(quota.hold(4))
        await asyncio.sleep(0)
        quota.limits = Limits(rows_in_flight=2)
        first.release()
        (await second).release()

    asyncio.run(wait())
