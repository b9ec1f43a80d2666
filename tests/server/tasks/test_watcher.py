import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from mask_store import MaskStore, Snapshot, VersionInfo
from mask_store.store.records import bundle_path, current_path
from masking import Base, load_base
from server.tasks.lifecycle import Lifecycle
from server.tasks.loader import TaskLoader
from server.tasks.registry import TaskRegistry
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from tests.support.counting import StoreReads
from tests.support.models import tiny_base
from tests.support.serving import bundle_of, fill, wait_until


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
    return StoreWatcher(store, lifecycle, registry, metrics, poll_seconds=0.01, load_threads=2)


def bundle_file(watched: Watched, task: str) -> Path:
    digest = watched.store.current(task).digest.removeprefix("sha256:")
    return watched.place / "tasks" / task / "bundles" / f"{digest}.safetensors"


def test_the_first_look_loads_every_task(watched: Watched) -> None:
    assert not watched.watcher.first_pass_done
    watched.watcher.poll()
    assert watched.watcher.first_pass_done
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]


def test_an_empty_store_is_ready(base: Base, tmp_path: Path) -> None:
    MaskStore.open(tmp_path, create=True)
    watcher = watcher_of(tmp_path, base, TaskRegistry(), Metrics())
    watcher.poll()
    assert watcher.first_pass_done


def test_what_did_not_change_is_not_loaded_again(watched: Watched) -> None:
    watched.watcher.poll()
    before = dict(watched.registry.tasks)
    watched.watcher.poll()
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
    watcher.poll()
    assert Counter(reads.paths) == Counter(
        path for v in versions for path in (current_path(v.task), bundle_path(v.task, v.digest))
    )
    assert reads.hashes == 2
    assert [registry.get(version.task).digest for version in versions] == [v.digest for v in versions]
    new = store.publish(bundle_of(base, "names", seed=1))
    reads.clear()
    watcher.poll()
    assert Counter(reads.paths) == Counter(
        [current_path("names"), current_path("sentiment"), bundle_path("names", new.digest)]
    )
    assert reads.hashes == 1
    assert registry.get("names").digest == new.digest


def test_a_new_version_is_swapped_in(watched: Watched, base: Base) -> None:
    watched.watcher.poll()
    old = watched.registry.tasks["sentiment"]
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    watched.watcher.poll()
    new = watched.registry.tasks["sentiment"]
    assert (old.version, new.version) == (1, 2)
    assert old.digest != new.digest


def test_rollback_brings_the_old_digest_back(watched: Watched, base: Base) -> None:
    old = watched.store.current("sentiment").digest
    watched.store.publish(bundle_of(base, "sentiment", seed=1))
    watched.watcher.poll()
    watched.store.rollback("sentiment")
    watched.watcher.poll()
    served = watched.registry.tasks["sentiment"]
    assert (served.version, served.digest) == (1, old)


def test_a_deleted_task_is_served_no_longer(watched: Watched) -> None:
    watched.watcher.poll()
    watched.store.delete("names")
    watched.watcher.poll()
    assert list(watched.registry.tasks) == ["sentiment"]
    watched.store.delete("sentiment")
    watched.watcher.poll()
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
    watched.watcher.poll()
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
    watched.watcher.poll()
    watched.store.publish(bundle_of(base, "names", seed=1))
    _truncate(bundle_file(watched, "names"))
    watched.watcher.poll()
    assert watched.registry.tasks["names"].version == 1
    assert watched.registry.problems["names"].version == 2
    watched.store.rollback("names")
    watched.watcher.poll()
    assert watched.registry.tasks["names"].version == 1
    assert not watched.registry.problems


def test_a_mask_for_another_base_is_refused_by_name(watched: Watched, tmp_path: Path) -> None:
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    watched.store.publish(bundle_of(other, "endings"))
    watched.watcher.poll()
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert watched.registry.problems["endings"].reason.startswith("BaseMismatchError: ")


def test_unreadable_records_are_reported_and_hide_no_other(watched: Watched) -> None:
    watched.watcher.poll()
    record = watched.place / "tasks" / "names" / "current.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    watched.watcher.poll()
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert "names" in watched.registry.problems
    record.write_bytes(whole)
    watched.watcher.poll()
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
    watched.watcher.poll()
    watched.watcher.poll()
    assert sorted(tries) == ["names", "sentiment"]
    assert "secret" not in watched.registry.problems["names"].reason


def test_a_store_that_vanishes_changes_nothing_and_may_come_back(watched: Watched, base: Base) -> None:
    watched.watcher.poll()
    away = watched.place.rename(watched.place.with_name("away"))
    watched.watcher.poll()
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    assert "maskserve_store_up 0.0" in watched.metrics.exposition().decode()
    watched.place.mkdir()  # as a mount point without its disk
    watched.watcher.poll()
    assert sorted(watched.registry.tasks) == ["names", "sentiment"]
    watched.place.rmdir()
    away.rename(watched.place)
    watched.store.publish(bundle_of(base, "names", seed=1))
    watched.watcher.poll()
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
    watched.watcher.poll()
    quick = watched.watcher.pause_seconds
    look = MaskStore.snapshot

    def slow(store: MaskStore) -> Snapshot:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return look(store)

    monkeypatch.setattr(MaskStore, "snapshot", slow)
    watched.watcher.poll()
    assert 0.01 <= quick < 2.5 <= watched.watcher.pause_seconds
