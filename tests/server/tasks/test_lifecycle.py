import fcntl
import gc
import io
import logging
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import pytest

from mask_store import (
    MaskBundle,
    MaskStore,
    StoreFullError,
    StoreNotWritableError,
    StoreUnavailableError,
    TrafficPlan,
    VersionInfo,
)
from masking import Base, LoadedTask, load_base
from server import errors
from server.errors import ServerError
from server.tasks.lifecycle import Lifecycle
from server.tasks.loader import TaskLoader
from server.tasks.registry import TaskRegistry
from server.tasks.rollouts import Found, Rollouts
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from tests.support.models import tiny_base
from tests.support.serving import bundle_of, fill, look, wait_until

TASK = "sentiment"


@pytest.fixture(scope="module")
def bundles(base: Base) -> list[MaskBundle]:
    return [bundle_of(base, TASK, seed=seed) for seed in range(3)]


@dataclass
class Parts:
    place: Path
    store: MaskStore
    registry: TaskRegistry
    metrics: Metrics
    loader: TaskLoader
    lifecycle: Lifecycle
    watcher: StoreWatcher

    def served(self) -> int | None:
        task = self.registry.tasks.get(TASK)
        return None if task is None else task.version

    def current(self) -> int:
        return self.store.current(TASK).number


@pytest.fixture
def parts(base: Base, tmp_path: Path) -> Parts:
    fill(tmp_path / "store", base, [TASK])
    return make_parts(tmp_path / "store", base)


def make_parts(place: Path, base: Base) -> Parts:
    """The parts of a server over a store."""
    store = MaskStore.open(place)
    registry, metrics = TaskRegistry(), Metrics()
    loader = TaskLoader(store, base, registry, metrics, retry_seconds=0.01)
    lifecycle = Lifecycle(store, loader, registry, metrics)
    rollouts = Rollouts(store, lifecycle, loader, registry, metrics)
    watcher = StoreWatcher(store, rollouts, registry, metrics, poll_seconds=0.01)
    return Parts(place, store, registry, metrics, loader, lifecycle, watcher)


def damage(parts: Parts, number: int) -> None:
    digest = parts.store.version(TASK, number).digest.removeprefix("sha256:")
    file = parts.place / "tasks" / TASK / "bundles" / f"{digest}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


class SlowLoads:
    """Counts loads, and holds them up until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        self.let_go = Event()
        real = MaskStore.load

        def load(store: MaskStore, version: VersionInfo) -> MaskBundle:
            self.begun.append(version.number)
            assert self.let_go.wait(20)
            return real(store, version)

        monkeypatch.setattr(MaskStore, "load", load)


class Arrivals:
    """Counts the callers that came to a method that looks at the clock first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = Lifecycle.turn

        def turn(lifecycle: Lifecycle, name: str, seconds: float | None = None) -> object:
            self.count += 1
            return real(lifecycle, name, seconds)

        monkeypatch.setattr(Lifecycle, "turn", turn)


def test_load_serves_what_is_current(parts: Parts) -> None:
    task = parts.lifecycle.load(TASK)
    assert (task.name, task.version) == (TASK, 1)
    assert parts.registry.get(TASK) is task
    assert parts.lifecycle.load(TASK).loaded is task.loaded
    assert task.load_seconds > 0
    assert 'maskserve_load_seconds_count{result="ok"} 1.0' in parts.metrics.exposition().decode()


@pytest.mark.parametrize("name", ["nobody", "../etc", ""])
@pytest.mark.parametrize("operation", ["load", "unload", "rollback", "delete"])
def test_a_task_that_the_store_lacks(parts: Parts, operation: str, name: str) -> None:
    with pytest.raises(errors.TaskNotFoundError) as raised:
        getattr(parts.lifecycle, operation)(name)
    assert str(parts.place) not in str(raised.value)
    assert not parts.registry.entries


def test_callers_that_want_the_same_version_share_one_load(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, arrivals = SlowLoads(monkeypatch), Arrivals(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(parts.lifecycle.load, TASK) for _ in range(4)]
        wait_until(lambda: arrivals.count == 4 and bool(loads.begun))
        loads.let_go.set()
        assert len({id(call.result().loaded) for call in calls}) == 1
    assert loads.begun == [1]


def test_callers_share_a_failure_too(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(parts, 1)
    loads, arrivals = SlowLoads(monkeypatch), Arrivals(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(parts.lifecycle.load, TASK) for _ in range(4)]
        wait_until(lambda: arrivals.count == 4 and bool(loads.begun))
        loads.let_go.set()
        for call in calls:
            assert isinstance(call.exception(), errors.TaskUnavailableError)
    assert loads.begun == [1]
    with pytest.raises(errors.TaskUnavailableError):  # who comes later gets an attempt of its own
        parts.lifecycle.load(TASK)
    assert loads.begun == [1, 1]


def test_a_slow_load_holds_up_no_other_task(
    parts: Parts, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = parts.store.publish(bundle_of(base, "names")).task
    parts.lifecycle.load(names)
    loads = SlowLoads(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(parts.lifecycle.load, TASK)
        wait_until(lambda: bool(loads.begun))
        assert parts.registry.entries[TASK].state == "loading"
        with pytest.raises(errors.TaskUnavailableError, match="is being loaded"):
            parts.registry.get(TASK)
        parts.lifecycle.unload(names)
        loads.let_go.set()
        call.result()
    assert parts.registry.entries[TASK].state == "serving"


def test_an_unloaded_task_stays_away_until_it_is_loaded(parts: Parts, bundles: list[MaskBundle]) -> None:
    look(parts.watcher)
    parts.lifecycle.unload(TASK)
    look(parts.watcher)
    parts.store.publish(bundles[1])
    look(parts.watcher)
    assert parts.registry.entries[TASK].state == "unloaded"
    with pytest.raises(errors.TaskUnloadedError, match=f"POST /tasks/{TASK}/load"):
        parts.registry.get(TASK)
    assert parts.lifecycle.load(TASK).version == 2
    look(parts.watcher)
    assert parts.served() == 2


def test_a_task_can_be_unloaded_before_it_was_ever_served(parts: Parts) -> None:
    parts.lifecycle.unload(TASK)
    look(parts.watcher)
    assert parts.served() is None
    assert parts.watcher.first_pass_done


@pytest.mark.parametrize("leave", ["unload", "swap", "delete"])
def test_a_version_is_freed_when_its_last_user_ends(
    parts: Parts, bundles: list[MaskBundle], leave: str
) -> None:
    in_flight = [parts.loader.masks.take(parts.lifecycle.load(TASK))]
    assert in_flight[0] is not None
    freed: weakref.ref[LoadedTask] = weakref.ref(in_flight[0])
    if leave == "swap":
        parts.store.publish(bundles[1])
        look(parts.watcher)
    elif leave == "unload":
        parts.lifecycle.unload(TASK)
    else:
        parts.lifecycle.delete(TASK)
    gc.collect()
    assert freed() is in_flight[0]
    in_flight.clear()
    gc.collect()
    assert freed() is None


def test_a_pinned_version_is_kept_until_it_is_unpinned(parts: Parts, bundles: list[MaskBundle]) -> None:
    parts.store.publish(bundles[1])
    look(parts.watcher)
    assert parts.lifecycle.pin(TASK, 1).version == 1
    parts.store.publish(bundles[2])
    look(parts.watcher)
    assert (parts.served(), parts.registry.entries[TASK].pinned) == (1, 1)
    assert parts.lifecycle.load(TASK).version == 1
    assert parts.lifecycle.pin(TASK, None).version == 3
    assert parts.registry.entries[TASK].pinned is None


def test_a_version_that_is_not_there_can_not_be_pinned(parts: Parts) -> None:
    look(parts.watcher)
    with pytest.raises(errors.VersionNotFoundError, match="it has 1"):
        parts.lifecycle.pin(TASK, 7)
    assert parts.registry.entries[TASK].pinned is None


def test_a_damaged_version_can_not_be_pinned(parts: Parts, bundles: list[MaskBundle]) -> None:
    parts.store.publish(bundles[1])
    look(parts.watcher)
    damage(parts, 1)
    with pytest.raises(errors.ConflictError, match="found"):
        parts.lifecycle.pin(TASK, 1)
    assert parts.registry.entries[TASK].pinned is None
    look(parts.watcher)
    assert parts.served() == 2
    assert not parts.registry.problems


def test_holds_are_those_of_all_servers(parts: Parts, bundles: list[MaskBundle], base: Base) -> None:
    other = make_parts(parts.place, base)
    parts.store.publish(bundles[1])
    look(other.watcher)
    parts.lifecycle.pin(TASK, 1)
    look(other.watcher)
    assert (other.served(), other.registry.entry(TASK).pinned) == (1, 1)
    parts.store.publish(bundles[2])
    look(other.watcher)
    assert other.served() == 1
    parts.lifecycle.unload(TASK)
    look(other.watcher)
    assert (other.served(), other.registry.entry(TASK).state) == (None, "unloaded")
    assert other.lifecycle.load(TASK).version == 3
    look(parts.watcher)
    assert parts.served() == 3
    parts.store.pin(TASK, 2)  # as the command line does
    for one in (parts, other):
        look(one.watcher)
        assert one.served() == 2
    parts.store.release(TASK)
    for one in (parts, other):
        look(one.watcher)
        assert (one.served(), one.registry.entry(TASK).pinned) == (3, None)


@pytest.mark.parametrize("version", [1, None])
def test_a_hold_outlives_the_server(
    parts: Parts, bundles: list[MaskBundle], base: Base, version: int | None
) -> None:
    parts.store.publish(bundles[1])
    parts.store.unload(TASK) if version is None else parts.store.pin(TASK, version)
    started = make_parts(parts.place, base)
    look(started.watcher)
    assert started.served() == version
    assert started.watcher.first_pass_done


def test_a_hold_goes_before_traffic(parts: Parts, bundles: list[MaskBundle]) -> None:
    parts.store.publish(bundles[1])
    parts.store.set_traffic(TASK, TrafficPlan(weights={1: 50, 2: 50}))
    look(parts.watcher)
    assert len(parts.registry.entry(TASK).versions) == 2
    parts.store.pin(TASK, 1)
    look(parts.watcher)
    assert [one.version for one in parts.registry.entry(TASK).versions] == [1]
    parts.store.release(TASK)
    look(parts.watcher)
    assert sorted(one.version for one in parts.registry.entry(TASK).versions) == [1, 2]


def test_a_pinned_version_that_can_not_be_loaded_displaces_nothing(
    parts: Parts, bundles: list[MaskBundle], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts.store.publish(bundles[1])
    look(parts.watcher)
    parts.store.pin(TASK, 1)
    damage(parts, 1)
    look(parts.watcher)
    assert (parts.served(), parts.registry.entry(TASK).pinned) == (2, None)
    problem = parts.registry.entry(TASK).problem
    assert problem is not None
    assert (problem.version, "DigestMismatchError" in problem.reason) == (1, True)
    for _ in range(3):
        look(parts.watcher)
    assert "pinned to version 1" not in caplog.text


def test_a_hold_that_can_not_be_read_changes_nothing(parts: Parts, bundles: list[MaskBundle]) -> None:
    parts.store.publish(bundles[1])
    parts.lifecycle.pin(TASK, 1)
    (parts.place / "orders" / f"{TASK}.hold.json").write_text("{}")
    look(parts.watcher)
    assert (parts.served(), parts.registry.entry(TASK).pinned) == (1, 1)
    parts.lifecycle.pin(TASK, None)
    look(parts.watcher)
    assert parts.served() == 2


def test_a_look_that_began_before_a_hold_does_not_undo_it(parts: Parts) -> None:
    parts.lifecycle.load(TASK)
    seen, found = time.monotonic(), Found(parts.store.current(TASK))
    parts.lifecycle.unload(TASK)
    rollouts = Rollouts(parts.store, parts.lifecycle, parts.loader, parts.registry, parts.metrics)
    assert rollouts.is_due(found, seen)
    rollouts.refresh(found, seen)
    assert parts.registry.entry(TASK).state == "unloaded"


def test_rollback_is_served_at_once(parts: Parts, bundles: list[MaskBundle]) -> None:
    for bundle in bundles[1:]:
        parts.store.publish(bundle)
    look(parts.watcher)
    assert parts.lifecycle.rollback(TASK).version == 2
    assert (parts.served(), parts.current()) == (2, 2)
    assert parts.lifecycle.rollback(TASK, 3).version == 3
    assert (parts.served(), parts.current()) == (3, 3)


def test_rollbacks_that_contradict(parts: Parts, bundles: list[MaskBundle]) -> None:
    with pytest.raises(errors.ConflictError, match="no earlier version"):
        parts.lifecycle.rollback(TASK)
    parts.store.publish(bundles[1])
    parts.lifecycle.pin(TASK, 2)
    with pytest.raises(errors.ConflictError, match="pinned to version 2; unpin it first"):
        parts.lifecycle.rollback(TASK)
    parts.lifecycle.pin(TASK, None)
    damage(parts, 1)
    with pytest.raises(errors.ConflictError):
        parts.lifecycle.rollback(TASK)
    assert (parts.served(), parts.current()) == (2, 2)


def test_an_upload_is_published_and_served(parts: Parts, bundles: list[MaskBundle]) -> None:
    look(parts.watcher)
    done = parts.lifecycle.publish(TASK, io.BytesIO(bundles[1].to_bytes()))
    assert (done.version.number, done.created, done.served.version) == (2, True, 2)
    again = parts.lifecycle.publish(TASK, bundles[1].to_bytes())
    assert (again.version, again.created) == (done.version, False)
    assert again.served is done.served
    assert parts.store.load(TASK).digest == bundles[1].digest


def test_an_upload_makes_a_new_task(parts: Parts, base: Base) -> None:
    done = parts.lifecycle.publish("names", bundle_of(base, "names").to_bytes())
    assert (done.version.number, done.created) == (1, True)
    assert parts.registry.get("names") is done.served


def test_an_upload_to_a_pinned_task_waits_in_the_store(parts: Parts, bundles: list[MaskBundle]) -> None:
    parts.lifecycle.pin(TASK, 1)
    done = parts.lifecycle.publish(TASK, bundles[1].to_bytes())
    assert (done.version.number, done.served.version) == (2, 1)
    assert parts.current() == 2


@pytest.mark.parametrize("what", ["garbage", "cut", "another task", "another base"])
def test_a_wrong_upload_changes_nothing(
    parts: Parts, bundles: list[MaskBundle], base: Base, tmp_path: Path, what: str
) -> None:
    look(parts.watcher)
    uploads: dict[str, Callable[[], bytes]] = {
        "garbage": lambda: b"\x80\x04 not a bundle",
        "cut": lambda: bundles[1].to_bytes()[:-1],
        "another task": lambda: bundle_of(base, "names").to_bytes(),
        "another base": lambda: bundle_of(load_base(tiny_base(tmp_path / "other", seed=7)), TASK).to_bytes(),
    }
    with pytest.raises(errors.InvalidBodyError):
        parts.lifecycle.publish(TASK, uploads[what]())
    assert (parts.served(), len(parts.store.versions(TASK))) == (1, 1)
    assert not parts.registry.problems


@pytest.mark.parametrize(
    ("trouble", "refusal", "status"),
    [
        (StoreNotWritableError("/secret is read-only"), errors.StoreReadOnlyError, 409),
        (StoreFullError("/secret is full"), errors.InsufficientStorageError, 507),
        (StoreUnavailableError("/secret is away"), errors.StoreUnreachableError, 503),
    ],
)
@pytest.mark.parametrize("operation", ["publish", "rollback", "delete"])
def test_a_store_that_takes_nothing(
    parts: Parts,
    bundles: list[MaskBundle],
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    trouble: Exception,
    refusal: type[ServerError],
    status: int,
) -> None:
    def refuse(*_: object) -> None:
        raise trouble

    look(parts.watcher)
    method = "rollback_and_load" if operation == "rollback" else operation
    monkeypatch.setattr(MaskStore, method, refuse)
    arguments = [bundles[1].to_bytes()] if operation == "publish" else []
    with pytest.raises(refusal) as raised:
        getattr(parts.lifecycle, operation)(TASK, *arguments)
    assert raised.value.status == status
    assert "secret" not in raised.value.message
    assert parts.served() == 1


def test_a_deleted_task_is_gone(parts: Parts) -> None:
    look(parts.watcher)
    parts.lifecycle.delete(TASK)
    assert not parts.registry.entries
    assert parts.store.tasks() == ()
    look(parts.watcher)
    assert not parts.registry.entries


def test_a_look_that_comes_late_undoes_nothing(parts: Parts, bundles: list[MaskBundle]) -> None:
    seen, stale = time.monotonic(), parts.store.current(TASK)
    parts.lifecycle.publish(TASK, bundles[1].to_bytes())
    assert not parts.lifecycle.is_due(stale, seen)
    parts.lifecycle.refresh(stale, seen)
    assert parts.served() == 2
    parts.lifecycle.drop_missing(TASK)
    assert parts.served() == 2
    parts.lifecycle.unload(TASK)
    parts.lifecycle.refresh(stale, seen)
    parts.lifecycle.report_unreadable(TASK, "seen before it was unloaded")
    assert parts.registry.entries[TASK].state == "unloaded"


def test_a_rollback_to_what_is_served_is_not_undone_by_an_earlier_look(
    parts: Parts, bundles: list[MaskBundle]
) -> None:
    statistics = parts.lifecycle.load(TASK).statistics
    parts.store.publish(bundles[1])
    seen, found = time.monotonic(), parts.store.current(TASK)
    assert parts.lifecycle.is_due(found, seen)
    served = parts.lifecycle.rollback(TASK)
    assert (served.version, parts.current()) == (1, 1)
    parts.lifecycle.refresh(found, seen)
    assert parts.served() == 1
    assert parts.registry.get(TASK).statistics is statistics


@pytest.mark.parametrize("served", [True, False])
def test_a_look_that_comes_after_a_deletion_reports_no_failure(parts: Parts, served: bool) -> None:
    if served:
        parts.lifecycle.load(TASK)
    seen, stale = time.monotonic(), replace(parts.store.current(TASK), digest="sha256:" + "0" * 64)
    parts.store.delete(TASK)
    parts.lifecycle.refresh(stale, seen)
    assert (parts.served() == 1) == served
    assert not parts.registry.problems
    assert "maskserve_load_failures_total{" not in parts.metrics.exposition().decode()
    look(parts.watcher)
    assert not parts.registry.entries


def test_a_store_that_is_away(parts: Parts) -> None:
    look(parts.watcher)
    current = parts.store.current(TASK)
    parts.place.rename(parts.place.with_name("away"))
    for operation in ("load", "unload", "rollback", "delete"):
        with pytest.raises(errors.StoreUnreachableError):
            getattr(parts.lifecycle, operation)(TASK)
    parts.lifecycle.drop_missing(TASK)
    parts.lifecycle.refresh(current, time.monotonic())
    with pytest.raises(errors.StoreUnreachableError):
        parts.lifecycle.pin(TASK, 1)
    assert parts.served() == 1


def test_nothing_is_kept_of_names_that_were_only_asked_for(parts: Parts) -> None:
    for number in range(100):
        with pytest.raises(errors.TaskNotFoundError):
            parts.lifecycle.load(f"made-up-{number}")
    gc.collect()
    assert not parts.lifecycle._turns
    assert not parts.loader._failures
    assert "made-up" not in parts.metrics.exposition().decode()


def test_a_store_that_others_lock(parts: Parts, bundles: list[MaskBundle]) -> None:
    look(parts.watcher)
    impatient = MaskStore.open(parts.place, lock_seconds=0.05)
    lifecycle = Lifecycle(impatient, parts.loader, parts.registry, parts.metrics)
    with (parts.place / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for call in (
            lambda: lifecycle.publish(TASK, bundles[1].to_bytes()),
            lambda: lifecycle.rollback(TASK),
            lambda: lifecycle.delete(TASK),
        ):
            with pytest.raises(errors.StoreUnreachableError, match="the store is locked: another process"):
                call()
    assert parts.served() == 1
    assert lifecycle.publish(TASK, bundles[1].to_bytes()).version.number == 2


def test_the_wait_for_ones_turn_ends(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = SlowLoads(monkeypatch)
    monkeypatch.setattr("server.tasks.lifecycle._TURN_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(parts.lifecycle.load, TASK)
        wait_until(lambda: bool(loads.begun))
        with pytest.raises(errors.TaskBusyError, match="try again later") as raised:
            parts.lifecycle.unload(TASK)
        assert raised.value.status == 503
        loads.let_go.set()
        call.result()
    parts.lifecycle.unload(TASK)


def test_a_rollback_passes_over_what_is_damaged(
    parts: Parts, bundles: list[MaskBundle], caplog: pytest.LogCaptureFixture
) -> None:
    for bundle in bundles[1:]:
        parts.store.publish(bundle)
    look(parts.watcher)
    (parts.place / "tasks" / TASK / "versions" / "00000002.json").write_bytes(bytes(40))
    assert parts.lifecycle.rollback(TASK).version == 1
    assert "the rollback passed over a version" in caplog.text


def test_a_version_that_no_task_can_have(parts: Parts) -> None:
    for call in (parts.lifecycle.pin, parts.lifecycle.rollback):
        with pytest.raises(errors.VersionNotFoundError, match="above 99999999"):
            call(TASK, 10**300)
