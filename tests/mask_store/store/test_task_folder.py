"""Crashes: every instant at which a publish, a rollback or a deletion can stop."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mask_store import (
    MaskStore,
    MaskStoreError,
    StoreFullError,
    StoreNotWritableError,
    UnknownTaskError,
)
from mask_store.files import Files
from tests.support.bundles import version_bundle
from tests.support.killed_publish import KILLED

# The lock, and three files in three new folders; calls that open what is there need no space.
CALLS_OF_A_FIRST_PUBLISH = {"open": 4, "write": 3, "fsync": 9, "replace": 2, "link": 1, "mkdir": 3}
WRITES = ("replace", "create", "remove")


class CrashError(BaseException):
    """The process stops here."""


class FailingFiles:
    """Files whose n-th write fails, before or after it took effect."""

    def __init__(self, files: Files, number: int, *, after: bool, error: BaseException) -> None:
        self._files, self._left, self._after, self._error = files, number, after, error

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._files, name)
        return self._counted(method) if name in WRITES else method

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == -1 and not self._after:
                raise self._error
            result = method(*arguments)
            if self._left == -1:
                raise self._error
            return result

        return call

    def lock(self) -> AbstractContextManager[bool]:
        return self._files.lock()


def failing(store: MaskStore, number: int, after: bool, error: BaseException) -> MaskStore:
    return MaskStore(FailingFiles(store._files, number, after=after, error=error))


def crash_at_each_write(
    act: Callable[[MaskStore], Any], check: Callable[[MaskStore], None], place: str
) -> int:
    """Runs `act` on fresh stores with two versions, crashing at each write; how many writes there were."""
    for instant in range(100):
        store = MaskStore.open(f"{place}/{instant}", create=True)
        for seed in range(2):
            store.publish(version_bundle(seed=seed))
        try:
            act(failing(store, instant // 2, bool(instant % 2), CrashError()))
        except CrashError:
            check(store)
        else:
            return instant // 2
    raise AssertionError("the operation never ends")


def sound(store: MaskStore, task: str | None = None) -> bool:
    """Whether every version is whole; there may be a bundle that no version names yet, or any more."""
    return {problem.kind for problem in store.verify(task)} <= {"LeftoverError"}


def test_publish(place: str) -> None:
    def check(store: MaskStore) -> None:
        assert sound(store)
        numbers = [version.number for version in store.versions("demo")]
        assert numbers in ([1, 2], [1, 2, 3])
        assert store.current("demo").number in (2, numbers[-1])
        again = store.publish(version_bundle(seed=2))
        assert store.load("demo").digest == again.digest == version_bundle(seed=2).digest
        assert store.verify() == ()

    assert crash_at_each_write(lambda store: store.publish(version_bundle(seed=2)), check, place) == 3


def test_first_publish_of_a_task(place: str) -> None:
    def check(store: MaskStore) -> None:
        assert "new" not in store.tasks() or store.load("new").digest == version_bundle("new").digest
        store.publish(version_bundle("new"))
        assert store.tasks() == ("demo", "new")
        assert store.verify() == ()

    assert crash_at_each_write(lambda store: store.publish(version_bundle("new")), check, place) == 3


def test_interrupted_between_record_and_pointer(store: MaskStore) -> None:
    """As documented: the version is whole and listed, but not current; publishing again gives a new one."""
    store.publish(version_bundle(seed=0))
    with pytest.raises(CrashError):
        failing(store, 2, False, CrashError()).publish(version_bundle(seed=1))
    assert [version.number for version in store.versions("demo")] == [1, 2]
    assert store.current("demo").number == 1
    assert store.load("demo", 2).digest == version_bundle(seed=1).digest
    assert store.publish(version_bundle(seed=1)).number == 3
    assert store.rollback("demo").number == 1


def test_rollback(place: str) -> None:
    def check(store: MaskStore) -> None:
        assert store.verify() == ()
        assert store.current("demo").number in (1, 2)

    assert crash_at_each_write(lambda store: store.rollback("demo"), check, place) == 1


def test_delete_version(place: str) -> None:
    def check(store: MaskStore) -> None:
        assert sound(store)
        assert store.current("demo").number == 2
        store.delete("demo", 1)
        assert [version.number for version in store.versions("demo")] == [2]
        bundles = store._files.list("tasks/demo/bundles")
        assert bundles == [store.current("demo").digest.removeprefix("sha256:") + ".safetensors"]

    assert crash_at_each_write(lambda store: store.delete("demo", 1), check, place) == 2


def test_delete_task(place: str) -> None:
    def check(store: MaskStore) -> None:
        if store.tasks() == ("demo",):
            assert store.verify() == ()
        try:
            store.delete("demo")
        except UnknownTaskError:
            assert store._files.list("tasks/demo") == []
        assert store.tasks() == ()
        assert store.verify() == ()

    assert crash_at_each_write(lambda store: store.delete("demo"), check, place) == 5


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("error", [StoreFullError("full"), StoreNotWritableError("refused")])
def test_errors_reach_the_caller_and_nothing_is_lost(
    store: MaskStore, number: int, error: MaskStoreError
) -> None:
    first = store.publish(version_bundle(seed=0))
    with pytest.raises(type(error)):
        failing(store, number, False, error).publish(version_bundle(seed=1))
    assert store.current("demo") == first
    assert sound(store)
    assert store.publish(version_bundle(seed=1)).number == (3 if number == 2 else 2)


@pytest.mark.parametrize("call", CALLS_OF_A_FIRST_PUBLISH)
def test_full_disk_at_each_call_to_the_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = MaskStore.open(folder)
    first = store.publish(version_bundle("demo"))
    original, failed = getattr(os, call), 0
    for number in range(100):
        left = number

        def fail(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= call != "open" or bool(arguments[1] & os.O_CREAT)
            if left == -1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **keywords)

        monkeypatch.setattr(os, call, fail)
        try:
            store.publish(version_bundle(f"task-{number}"))
        except StoreFullError as error:
            failed += 1
            assert "No space left on device" in str(error)
        else:
            break
        finally:
            monkeypatch.setattr(os, call, original)
        assert store.current("demo") == first
        for task in store.tasks():
            assert sound(store, task)
        assert list((folder / ".tmp").iterdir()) == []
    assert failed == CALLS_OF_A_FIRST_PUBLISH[call]


def test_killed_at_each_call_to_the_system(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_publish", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert {result["status"] for result in results[:-1]} == {KILLED}
    assert results[-1]["status"] == 0
    assert len(results) > 40
    for result in results:
        store = MaskStore.open(tmp_path / result["store"])
        assert sound(store)
        store.clean()
        assert store.verify() == ()
        assert store.current("demo").number in (1, 2)
        assert store.load("demo", 1).digest == version_bundle(seed=0).digest
        store.publish(version_bundle(seed=1))
        assert store.load("demo").digest == version_bundle(seed=1).digest
    assert MaskStore.open(tmp_path / results[-1]["store"]).current("demo").number == 2
