import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import server.tasks.loader
from mask_store import (
    MaskStore,
    MaskStoreError,
    MissingBundleError,
    RecordError,
    StoreUnavailableError,
    VersionInfo,
)
from mask_store.store.records import bundle_path
from masking import Base, BaseMismatchError, load_base
from server.errors import TaskUnavailableError
from server.tasks.loader import TaskLoader
from server.tasks.registry import TaskProblem, TaskRegistry
from server.telemetry.metrics import Metrics
from tests.support.counting import StoreReads
from tests.support.models import tiny_base
from tests.support.serving import bundle_of, fill

TASK = "sentiment"


@dataclass
class Parts:
    store: MaskStore
    registry: TaskRegistry
    metrics: Metrics
    loader: TaskLoader


@pytest.fixture
def parts(base: Base, tmp_path: Path) -> Parts:
    store = fill(tmp_path / "store", base, [TASK])
    registry, metrics = TaskRegistry(), Metrics()
    return Parts(store, registry, metrics, TaskLoader(store, base, registry, metrics, retry_seconds=60))


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("secret")


def test_a_version_is_loaded_once(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    version = parts.store.current(TASK)
    task = parts.loader.serve(version, time.monotonic())
    assert parts.loader.is_served(version)
    reads = StoreReads(monkeypatch)
    served = parts.loader.serve(version, time.monotonic())
    assert (served.version, served.loaded_at) == (task.version, task.loaded_at)
    assert served.loaded is task.loaded
    assert served.statistics is task.statistics
    assert served.since > task.since
    assert parts.loader.serve(version, time.monotonic(), found_current=True) is served
    again = parts.loader.serve(replace(version, number=2), time.monotonic())
    assert (again.version, again.loaded) == (2, task.loaded)
    assert (reads.paths, reads.hashes) == ([], 0)


def test_a_bundle_at_hand_is_not_read_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    version = parts.store.current(TASK)
    bundle = parts.store.load(version)
    reads = StoreReads(monkeypatch)
    assert parts.loader.serve(version, time.monotonic(), bundle=bundle).digest == version.digest
    assert (reads.paths, reads.hashes) == ([], 0)


def test_a_failed_version_waits_and_another_one_does_not(parts: Parts) -> None:
    broken = replace(parts.store.current(TASK), number=7, digest="sha256:" + "0" * 64)
    assert parts.loader.may_try(broken)
    with pytest.raises(TaskUnavailableError, match="version 7: MissingBundleError"):
        parts.loader.serve(broken, time.monotonic())
    assert not parts.loader.may_try(broken)
    assert parts.loader.may_try(parts.store.current(TASK))
    parts.loader.forget(TASK)
    assert parts.loader.may_try(broken)


def test_who_waited_while_it_failed_is_told_the_same(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    version, asked = parts.store.current(TASK), time.monotonic()
    monkeypatch.setattr(server.tasks.loader, "load_task", _fail)
    for _ in range(2):
        with pytest.raises(TaskUnavailableError, match="internal error"):
            parts.loader.serve(version, asked)
    assert 'maskserve_load_seconds_count{result="failed"} 1.0' in parts.metrics.exposition().decode()


def test_a_load_that_fails_for_no_known_reason_tells_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.tasks.loader, "load_task", _fail)
    with pytest.raises(TaskUnavailableError, match="internal error") as raised:
        parts.loader.serve(parts.store.current(TASK), time.monotonic())
    assert "secret" not in raised.value.message
    assert 'maskserve_load_seconds_count{result="failed"} 1.0' in parts.metrics.exposition().decode()


def test_a_bundle_for_another_base_is_refused(parts: Parts, tmp_path: Path) -> None:
    other = bundle_of(load_base(tiny_base(tmp_path / "other", seed=7)), TASK)
    with pytest.raises(BaseMismatchError):
        parts.loader.check(other)


def test_a_task_that_is_forgotten_has_no_series(parts: Parts) -> None:
    parts.loader.serve(parts.store.current(TASK), time.monotonic())
    assert f'task="{TASK}"' in parts.metrics.exposition().decode()
    parts.loader.forget(TASK)
    assert f'task="{TASK}"' not in parts.metrics.exposition().decode()


@pytest.mark.parametrize("served", [True, False])
def test_a_bundle_that_is_gone_since_its_task_moved_on_takes_no_task_away(
    parts: Parts, base: Base, served: bool
) -> None:
    if served:
        parts.loader.serve(parts.store.current(TASK), time.monotonic())
    gone = replace(parts.store.current(TASK), digest="sha256:" + "0" * 64)
    parts.store.publish(bundle_of(base, TASK, seed=1))
    with pytest.raises(MissingBundleError):
        parts.loader.serve(gone, time.monotonic(), found_current=True)
    assert parts.registry.entry(TASK).state == ("serving" if served else "loading")
    assert parts.registry.knows(TASK)
    assert not parts.registry.problems


@pytest.mark.parametrize("error", [RecordError("broken"), StoreUnavailableError("away")])
def test_a_bundle_that_is_gone_is_reported_where_the_store_can_not_tell_why(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, error: MaskStoreError
) -> None:
    gone = replace(parts.store.current(TASK), digest="sha256:" + "0" * 64)

    def current(_: MaskStore, __: str) -> VersionInfo:
        raise error

    monkeypatch.setattr(MaskStore, "current", current)
    with pytest.raises(TaskUnavailableError):
        parts.loader.serve(gone, time.monotonic(), found_current=True)
    assert TASK in parts.registry.problems


def test_what_is_known_of_a_version_is_enough_to_serve_it(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = parts.store.current(TASK)
    whole = parts.loader.check(parts.store.load(version))
    reads = StoreReads(monkeypatch)
    served = parts.loader.serve(version, time.monotonic(), found_current=True, light=True)
    assert served.loaded == replace(whole.known, codec=served.loaded.codec)
    assert (len(reads.paths), reads.hashes) == (1, 0)
    assert parts.loader.masks.state(version.digest) == "cold"
    reads.clear()
    task = parts.loader.masks.load(served).result(30)
    assert (task.known, task.nbytes) == (served.loaded, whole.nbytes)
    assert len(reads.paths) == 1


def test_a_damaged_new_version_does_not_displace_a_cold_one(parts: Parts, base: Base) -> None:
    version = parts.store.current(TASK)
    served = parts.loader.serve(version, time.monotonic(), found_current=True, light=True)
    newer = parts.store.publish(bundle_of(base, TASK, seed=1))
    file = Path(str(parts.store)) / bundle_path(TASK, newer.digest)
    file.write_bytes(file.read_bytes()[:-1] + b"\xaa")
    with pytest.raises(TaskUnavailableError, match="version 2: DigestMismatchError"):
        parts.loader.serve(newer, time.monotonic(), found_current=True, light=True)
    assert parts.registry.get(TASK) is served


def test_masks_that_failed_wait_and_an_operator_does_not(parts: Parts) -> None:
    version = parts.store.current(TASK)
    served = parts.loader.serve(version, time.monotonic(), found_current=True, light=True)
    file = Path(str(parts.store)) / bundle_path(TASK, version.digest)
    contents = file.read_bytes()
    file.unlink()
    for _ in range(2):
        with pytest.raises(TaskUnavailableError, match="version 1: MissingBundleError"):
            parts.loader.masks.load(served).result(30)
    assert parts.registry.entry(TASK).problem == TaskProblem(
        1, "MissingBundleError: the store could not hand out this version"
    )
    assert not parts.loader.may_try(version)
    file.write_bytes(contents)
    with pytest.raises(TaskUnavailableError):  # it is too soon
        parts.loader.masks.load(served).result(30)
    parts.loader.serve(version, time.monotonic())
    assert parts.registry.entry(TASK).problem is None
    assert parts.loader.masks.state(version.digest) == "ready"


def test_a_bundle_that_was_read_wrongly_at_first_is_refused(parts: Parts) -> None:
    version = parts.store.current(TASK)
    served = parts.loader.serve(version, time.monotonic(), found_current=True, light=True)
    wrong = replace(served, loaded=replace(served.loaded, text=zlib.compress(b"something else")))
    with pytest.raises(TaskUnavailableError, match="RecordError"):
        parts.loader.masks.load(wrong).result(30)
