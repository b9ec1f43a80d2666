import dataclasses
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from mask_store import MaskStore, Snapshot, StoreUnavailableError, VersionInfo
from mask_store.store.records import bundle_path, current_path
from masking import Base, load_base
from server.tasks.lifecycle import Lifecycle
from server.tasks.loader import TaskLoader
from server.tasks.registry import TaskRegistry
from server.tasks.rollouts import Rollouts
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from tests.support.counting import StoreReads
from tests.support.models import tiny_base
from tests.support.serving import bundle_of, fill, look, wait_until


@dataclasses.dataclass
class Watched:
    place: Path
    store: MaskStore
    registry: TaskRegistry
    metrics: Metrics
    watcher: StoreWatcher


@pytest.fixture
def watched(base: Base, tmp_path: Path) -> Watched:
    place = tmp_path / "store"
    store = fill(place, base, ["names", "sentiment"])
    registry, metrics = TaskRegistry(), Metrics()
    watcher = watcher_of(place, base, registry, metrics)
    return Watched(place, store, registry, metrics, watcher)


def watcher_of(place: Path | str, base: Base, registry: TaskRegistry, metrics: Metrics) -> StoreWatcher:
    store = MaskStore.open(place)
    loader = TaskLoader(store, base, registry, metrics, retry_seconds=0.01)
    lifecycle = Lifecycle(store, loader, registry, metrics)
    rollouts = Rollouts(store, lifecycle, loader, registry, metrics)
    return StoreWatcher(store, rollouts, registry, metrics, poll_seconds=0.01, load_threads=2)


def bundle_file(watched: Watched, task: str) -> Path:
    digest = watched.store.current(task).digest.removeprefix("sha256:")
    return watched.place / "tasks" / task / "bundles" / f"{digest}.safetensors"


def test_the_first_look_loads_every_task(watched: Watched) -> None:
    assert not watched.watcher.first_pass_done
    look(watched.watcher)
    assert watched.watcher.first_pass_done
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]


def test_an_empty_store_is_ready(base: Base, tmp_path: Path) -> None:
    MaskStore.open(tmp_path, create=True)
    watcher = watcher_of(tmp_path, base, TaskRegistry(), Metrics())
    look(watcher)
    assert watcher.first_pass_done


def test_what_did_not_change_is_not_loaded_again(watched: Watched) -> None:
    look(watched.watcher)
    before = dict(watched.registry.tasks)
    look(watched.watcher)
    assert all(watched.registry.tasks[name] is task for name, task in before.items())


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_load_reads_each_file_once_and_hashes_it_once(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    place = str(tmp_path / "store") if where == "folder" else f"memory://{uuid4().hex}/store"
    store = fill(place, base, ["names", "sentiment"])
    versions = [store.current(task) for task in ("names", "sentiment")]
    registry = TaskRegistry()
    watcher = watcher_of(place, base, registry, Metrics())
    reads = StoreReads(monkeypatch)
    look(watcher)
    assert Counter(reads.paths) == Counter(
        path for v in versions for path in (current_path(v.task), bundle_path(v.task, v.digest))
    )
    assert reads.hashes == 2
    assert [registry.get(version.task).digest for version in versions] == [v.digest for v in versions]
    new = store.publish(bundle_of(base, "names", seed=1))
    reads.clear()
    look(watcher)
    assert Counter(reads.paths) == Counter(
        [current_path("names"), current_path("sentiment"), bundle_path("names", new.digest)]
    )
    assert reads.hashes == 1
    assert registry.get("names").digest == new.digest


def test_a_new_version_is_swapped_in(watched: Watched, base: Base) -> None:
    look(watched.watcher)
    old = watched.registry.tasks["sentiment"]
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    look(watched.watcher)
    new = watched.registry.tasks["sentiment"]
    assert (old.version, new.version) == (1, 2)
    assert old.digest != new.digest


def test_rollback_brings_the_old_digest_back(watched: Watched, base: Base) -> None:
    old = watched.store.current("sentiment").digest
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    look(watched.watcher)
    watched.store.rollback("sentiment")
    look(watched.watcher)
    served = watched.registry.tasks["sentiment"]
    assert (served.version, served.digest) == (1, old)


def test_a_deleted_task_is_served_no_longer(watched: Watched) -> None:
    look(watched.watcher)
    watched.store.delete("names")
    look(watched.watcher)
    assert list(watched.registry.tasks) == ["sentiment"]
    watched.store.delete("sentiment")
    look(watched.watcher)
    assert not watched.registry.tasks


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, Path.unlink])
def test_a_damaged_bundle_is_reported_and_hides_no_other(
    watched: Watched, damage: Callable[[Path], None]
) -> None:
    file = bundle_file(watched, "names")
    whole = file.read_bytes()
    file.chmod(0o644)
    damage(file)
    look(watched.watcher)
    assert list(watched.registry.tasks) == ["sentiment"]
    problem = watched.registry.problems["names"]
    assert problem.version == 1
    assert str(watched.place) not in problem.reason
    file.write_bytes(whole)
    watched.watcher.start()
    wait_until(lambda: "names" in watched.registry.tasks)
    watched.watcher.close(5)
    assert not watched.registry.problems


def test_a_damaged_new_version_leaves_the_old_one_in_service(watched: Watched, base: Base) -> None:
    look(watched.watcher)
    watched.store.publish(bundle_of(base, "names", seed=1))
    _truncate(bundle_file(watched, "names"))
    look(watched.watcher)
    assert watched.registry.tasks["names"].version == 1
    assert watched.registry.problems["names"].version == 2
    watched.store.rollback("names")
    look(watched.watcher)
    assert watched.registry.tasks["names"].version == 1
    assert not watched.registry.problems


def test_a_mask_for_another_base_is_refused_by_name(watched: Watched, tmp_path: Path) -> None:
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    watched.store.publish(bundle_of(other, "endings"))
    look(watched.watcher)
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert watched.registry.problems["endings"].reason.startswith("BaseMismatchError: ")


def test_unreadable_records_are_reported_and_hide_no_other(watched: Watched) -> None:
    look(watched.watcher)
    record = watched.place / "tasks" / "names" / "current.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    look(watched.watcher)
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert "names" in watched.registry.problems
    record.write_bytes(whole)
    look(watched.watcher)
    assert not watched.registry.problems


def test_a_failing_version_is_not_tried_at_every_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def load(_: MaskStore, version: VersionInfo) -> None:
        tries.append(version.task)
        raise OSError("disk /secret is on fire")

    monkeypatch.setattr(MaskStore, "load", load)
    monkeypatch.setattr("server.tasks.loader.time.monotonic", lambda: 0.0)
    look(watched.watcher)
    look(watched.watcher)
    assert sorted(tries) == ["names", "sentiment"]
    assert "secret" not in watched.registry.problems["names"].reason


def test_a_store_that_vanishes_changes_nothing_and_may_come_back(watched: Watched, base: Base) -> None:
    look(watched.watcher)
    away = watched.place.rename(watched.place.with_name("away"))
    look(watched.watcher)
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert "maskserve_store_up 0.0" in watched.metrics.exposition().decode()
    watched.place.mkdir()  # as a mount point without its disk
    look(watched.watcher)
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    watched.place.rmdir()
    away.rename(watched.place)
    watched.store.publish(bundle_of(base, "names", seed=1))
    look(watched.watcher)
    assert watched.registry.tasks["names"].version == 2


def test_an_error_nobody_thought_of_does_not_end_the_watch(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def snapshot(_: MaskStore) -> None:
        looks.append(1)
        raise RuntimeError("unthinkable")

    with monkeypatch.context() as patched:
        patched.setattr(MaskStore, "snapshot", snapshot)
        watched.watcher.start()
        wait_until(lambda: len(looks) > 2)
    wait_until(lambda: watched.watcher.first_pass_done)
    assert watched.watcher.alive
    watched.watcher.close(5)
    assert not watched.watcher.alive


def test_a_store_that_is_much_work_is_looked_at_seldom(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(watched.watcher)
    quick = watched.watcher.pause_seconds
    snapshot = MaskStore.snapshot

    def slow(store: MaskStore) -> Snapshot:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return snapshot(store)

    monkeypatch.setattr(MaskStore, "snapshot", slow)
    look(watched.watcher)
    assert 0.01 <= quick < 2.5 <= watched.watcher.pause_seconds


class Slow:
    """Holds up a method of the store until it is let go; for all tasks or for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str, task: str | None = None) -> None:
        self.begun, self.let_go = Event(), Event()
        real = getattr(MaskStore, method)

        def slow(store: MaskStore, *arguments: VersionInfo) -> object:
            if task is None or arguments[0].task == task:
                self.begun.set()
                assert self.let_go.wait(60)
            return real(store, *arguments)

        monkeypatch.setattr(MaskStore, method, slow)


def test_a_slow_load_holds_up_no_other_task(
    watched: Watched, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(watched.watcher)
    slow = Slow(monkeypatch, "load", "names")
    watched.store.publish(bundle_of(base, "names", seed=1))
    watched.watcher.poll()
    assert slow.begun.wait(20)
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    watched.watcher.poll()
    wait_until(lambda: watched.registry.tasks["sentiment"].version == 2)
    assert watched.registry.tasks["names"].version == 1
    (watched.place / "tasks/names/current.json").write_bytes(b"{")
    watched.watcher.poll()  # what else there is to say about that task waits for no one either
    slow.let_go.set()
    assert watched.watcher.loads.wait(20)
    assert watched.registry.tasks["names"].version == 2


def test_a_load_that_does_not_end_does_not_keep_the_server_from_being_ready(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.tasks.watcher._FIRST_PASS_SECONDS", 0.2)
    slow = Slow(monkeypatch, "load", "names")
    watched.watcher.start()
    wait_until(lambda: watched.watcher.first_pass_done)
    assert watched.registry.entry("names").state == "loading"
    assert "sentiment" in watched.registry.tasks
    slow.let_go.set()
    watched.watcher.close(5)


def test_a_store_that_hangs_is_noticed_and_does_not_hold_up_the_end(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.tasks.watcher._LOOK_SECONDS", 0.1)
    look(watched.watcher)
    assert "maskserve_store_up 1.0" in watched.metrics.exposition().decode()
    slow = Slow(monkeypatch, "snapshot")
    watched.watcher.start()
    wait_until(lambda: "maskserve_store_up 0.0" in watched.metrics.exposition().decode())
    wait_until(lambda: "no answer within" in caplog.text)
    slow.let_go.set()
    wait_until(lambda: "maskserve_store_up 1.0" in watched.metrics.exposition().decode())
    slow.let_go.clear()
    slow.begun.clear()
    assert slow.begun.wait(20)
    started = time.monotonic()
    watched.watcher.close(30)
    assert time.monotonic() - started < 20
    assert not watched.watcher.alive
    slow.let_go.set()


def test_a_look_that_never_comes_back_is_given_up(
    watched: Watched, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.tasks.watcher._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("server.tasks.watcher._ABANDON_SECONDS", 0.1)
    look(watched.watcher)
    with monkeypatch.context() as patched:
        slow = Slow(patched, "snapshot")
        watched.watcher.poll()
    watched.store.publish(bundle_of(base, "names", seed=1))
    look(watched.watcher)
    assert watched.registry.tasks["names"].version == 2
    slow.let_go.set()


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), RuntimeError("unforeseen")])
def test_a_store_that_is_away_takes_one_line_for_each_change(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    look(watched.watcher)

    def fail(_: MaskStore) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(MaskStore, "snapshot", fail)
        for _ in range(20):
            look(watched.watcher)
        assert watched.watcher.pause_seconds == 5
    assert caplog.text.count("can't be read") == 1
    assert ("Traceback" in caplog.text) == isinstance(error, RuntimeError)
    seen = _last_look(watched)
    with caplog.at_level("INFO"):
        look(watched.watcher)
    assert caplog.text.count("can be read again") == 1
    assert watched.watcher.pause_seconds < 2
    assert _last_look(watched) > seen > time.time() - 600


def _last_look(watched: Watched) -> float:
    text = watched.metrics.exposition().decode()
    (found,) = re.findall(r"^maskserve_store_last_look_timestamp_seconds (\S+)$", text, re.MULTILINE)
    return float(found)


_SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
}


@pytest.mark.parametrize("kind", _SPECIAL)
@pytest.mark.parametrize("at_start", [True, False])
def test_what_is_no_file_harms_its_task_only(watched: Watched, base: Base, kind: str, at_start: bool) -> None:
    if not at_start:
        look(watched.watcher)
    pointer = watched.place / "tasks" / "names" / "current.json"
    pointer.unlink()
    _SPECIAL[kind](pointer)
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    look(watched.watcher)
    assert watched.watcher.first_pass_done
    assert watched.registry.tasks["sentiment"].version == 2
    assert ("names" in watched.registry.tasks) != at_start
    assert "names" in watched.registry.problems
    assert "maskserve_store_up 1.0" in watched.metrics.exposition().decode()


def test_a_bundle_that_is_wrong_in_itself_is_not_tried_again_until_there_is_another(
    watched: Watched, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    watched.store.publish(bundle_of(other, "names"))
    look(watched.watcher)
    reads = StoreReads(monkeypatch)
    monkeypatch.setattr("server.tasks.loader.time.monotonic", lambda: 1e12)
    look(watched.watcher)
    assert not [path for path in reads.paths if "bundles" in path]
    watched.store.publish(bundle_of(base, "names", seed=1))
    look(watched.watcher)
    assert watched.registry.tasks["names"].version == 3
