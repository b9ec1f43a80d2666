"""Holds: tasks that are pinned, unloaded and released, and what a pin keeps from being deleted."""

from collections.abc import Callable

import pytest

from mask_store import (
    Hold,
    MaskBundle,
    MaskStore,
    MissingBundleError,
    RecordError,
    TrafficPlan,
    UnknownTaskError,
    UnknownVersionError,
    VersionInfo,
)
from mask_store.errors import HeldError
from mask_store.store.orders import order_path
from mask_store.store.records import bundle_path
from tests.mask_store.store.test_task_folder import crash_at_each_write
from tests.support.bundles import version_bundle


@pytest.fixture
def three(store: MaskStore) -> MaskStore:
    for seed in range(3):
        store.publish(version_bundle(seed=seed))
    return store


def test_a_task_is_pinned_unloaded_and_released(three: MaskStore) -> None:
    assert three.hold("demo") is None
    pin = three.pin("demo", 2)
    assert (three.hold("demo"), pin.version, str(pin)) == (pin, 2, "pinned to version 2")
    assert three.snapshot().holds == {"demo": pin}
    unload = three.unload("demo")
    assert (three.hold("demo"), unload.version, str(unload)) == (unload, None, "unloaded")
    assert three.current("demo").number == 3
    assert three.verify() == ()
    assert three.release("demo") == unload
    assert three.release("demo") is None
    assert three.hold("demo") is None
    assert three.snapshot().holds == {}


def test_a_pin_keeps_its_version(three: MaskStore) -> None:
    three.pin("demo", 1)
    for act in (
        lambda: three.delete("demo", 1),
        lambda: three.rollback("demo"),
        lambda: three.set_traffic("demo", TrafficPlan(weights={1: 50, 2: 50}, stable=1)),
        lambda: three.promote("demo"),
    ):
        with pytest.raises(HeldError, match="is pinned to version 1: release it first"):
            act()
    assert [version.number for version in three.prune().versions] == [2]
    assert three.publish(version_bundle(seed=9)).number == 4  # which nobody serves
    three.release("demo")
    assert [version.number for version in three.prune().versions] == [1, 3]


def test_an_unloaded_task_can_be_rolled_back(three: MaskStore) -> None:
    three.unload("demo")
    assert three.rollback("demo").number == 2
    assert three.hold("demo") is not None


def test_what_can_not_be_pinned(three: MaskStore) -> None:
    with pytest.raises(UnknownVersionError, match="no version 7, it has 1, 2, 3"):
        three.pin("demo", 7)
    three._files.remove(bundle_path("demo", three.version("demo", 1).digest))
    with pytest.raises(MissingBundleError):
        three.pin("demo", 1)

    def refuse(version: VersionInfo, bundle: MaskBundle) -> None:
        assert version.digest == bundle.digest
        raise RuntimeError("does not fit")

    with pytest.raises(RuntimeError, match="does not fit"):
        three.pin("demo", 2, check=refuse)
    assert three.hold("demo") is None


def test_a_task_that_is_not_there(three: MaskStore) -> None:
    acts: list[Callable[[], object]] = [
        lambda: three.hold("other"),
        lambda: three.pin("other", 1),
        lambda: three.unload("other"),
        lambda: three.release("other"),
    ]
    for act in acts:
        with pytest.raises(UnknownTaskError, match="no task 'other'"):
            act()


def test_a_deleted_task_is_not_held(three: MaskStore) -> None:
    three.unload("demo")
    three.delete("demo")
    three.publish(version_bundle())
    assert three.hold("demo") is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"task":"demo"}', b"\xff", b"x" * 9999])
def test_a_hold_that_can_not_be_read_hides_nothing(three: MaskStore, data: bytes) -> None:
    three._files.replace(order_path("demo", "hold"), data)
    snapshot = three.snapshot()
    assert (snapshot.holds, [problem.task for problem in snapshot.unreadable]) == ({}, ["demo"])
    assert snapshot.current["demo"].number == 3
    assert [problem.kind for problem in three.verify()] == ["RecordError"]
    with pytest.raises(RecordError, match="its hold can't be read, set it anew"):
        three.hold("demo")
    assert [problem.task for problem in three.prune().problems] == ["demo"]
    three.release("demo")
    assert three.verify() == ()


def test_a_pinned_version_that_is_gone_is_told(three: MaskStore) -> None:
    three.pin("demo", 1)
    three._files.remove("tasks/demo/versions/00000001.json")
    assert next((problem.number, problem.kind) for problem in three.verify()) == (1, "HeldError")


def test_names_with_dots_are_told_apart(store: MaskStore) -> None:
    for task in ("a", "a.hold", "a.traffic"):
        store.publish(version_bundle(task))
    holds = {task: store.unload(task) for task in ("a.hold", "a.traffic")}
    assert store.snapshot().holds == holds


@pytest.mark.parametrize("act", ["pin", "unload", "release"])
def test_a_crash_leaves_the_hold_as_it_was_or_as_it_is_wanted(place: str, act: str) -> None:
    def order(store: MaskStore) -> Hold | None:
        if act == "pin":
            return store.pin("demo", 1)
        return store.unload("demo") if act == "unload" else store.release("demo")

    def check(store: MaskStore) -> None:
        assert store.verify() == ()
        order(store)
        hold = store.hold("demo")
        assert hold is None if act == "release" else hold is not None

    crash_at_each_write(order, check, place)
