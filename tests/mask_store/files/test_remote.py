import time
from threading import Event
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from mask_store import StoreNotWritableError, StoreUnavailableError
from mask_store.files import RemoteFiles


class LibraryError(Exception):
    """Stands for what a library raises that reaches other machines, such as botocore: no OSError."""


CALLS = {
    "cat_file": lambda files: files.read("a", 9),
    "cat_ranges": lambda files: files.read_many(["a"], 9),
    "ls": lambda files: files.list(""),
    "modified": lambda files: files.age("a"),
    "pipe_file": lambda files: files.replace("a", b""),
    "rm": lambda files: files.remove("a"),
}


@pytest.fixture
def filesystem() -> Any:
    return fsspec.filesystem("memory", skip_instance_cache=True)


@pytest.fixture
def files(filesystem: Any) -> RemoteFiles:
    files = RemoteFiles(filesystem, f"/{uuid4().hex}", answer_seconds=0.05)
    files.replace("a", b"one")
    return files


def test_refusals(files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise PermissionError("Access Denied")

    for method in CALLS:
        monkeypatch.setattr(filesystem, method, fail)
    for write in ("pipe_file", "rm"):
        with pytest.raises(StoreNotWritableError, match=r"memory:///\w+: a: Access Denied"):
            CALLS[write](files)
    with pytest.raises(StoreUnavailableError, match="Access Denied"):
        files.read("a", 9)


@pytest.mark.parametrize(
    "error",
    [
        LibraryError("Could not connect\nto the endpoint"),
        RuntimeError("Could not connect to the endpoint"),
        ConnectionError("Could not connect to the endpoint"),
        TimeoutError("Could not connect to the endpoint"),
    ],
)
@pytest.mark.parametrize("method", CALLS)
def test_every_failure_of_a_library_becomes_the_stores(
    files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise error

    monkeypatch.setattr(filesystem, method, fail)
    with pytest.raises(StoreUnavailableError, match="Could not connect to the endpoint"):
        CALLS[method](files)


@pytest.mark.parametrize("method", CALLS)
def test_every_wait_ends(
    files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    hangs = Event()
    monkeypatch.setattr(filesystem, method, lambda *_, **__: hangs.wait(60))
    monkeypatch.setattr("mask_store.files.remote._REMOVE_SECONDS", 0.05)
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        CALLS[method](files)
    assert time.monotonic() - started < 30
    hangs.set()


def test_a_place_that_takes_no_files_is_not_writable(
    files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (NotImplementedError(), FileNotFoundError("The specified bucket does not exist")):

        def fail(*arguments: Any, error: Exception = error, **keywords: Any) -> None:
            raise error

        monkeypatch.setattr(filesystem, "pipe_file", fail)
        with pytest.raises(StoreNotWritableError, match=r"NotImplementedError|bucket does not exist"):
            files.create("a", b"")


def test_one_file_that_can_not_be_reached_hides_no_other(
    files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat_file = filesystem.cat_file

    def fail(path: str, *arguments: Any, **keywords: Any) -> bytes:
        if path.endswith("b"):
            raise LibraryError("SlowDown")
        return bytes(cat_file(path, *arguments, **keywords))

    files.replace("b", b"two")
    monkeypatch.setattr(filesystem, "cat_file", fail)
    first, second, third = files.read_many(["a", "b", "c"], 9)
    assert first == b"one"
    assert isinstance(second, StoreUnavailableError)
    assert isinstance(third, FileNotFoundError)
    with pytest.raises(StoreUnavailableError, match="SlowDown"):
        files.read_many(["b", "b"], 9)
