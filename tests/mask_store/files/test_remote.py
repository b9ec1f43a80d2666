import errno
import gc
import time
from contextlib import suppress
from threading import Event
from typing import Any, ClassVar
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

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


def test_an_empty_object_has_no_range(
    files: RemoteFiles, filesystem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.EINVAL, "The requested range is not satisfiable")

    monkeypatch.setattr(filesystem, "cat_file", fail)
    assert files.read("a", 9) == b""
    assert files.read_many(["a", "b"], 9) == [b"", b""]


class ObjectStore(MemoryFileSystem):  # type: ignore[misc]
    """Lists what lies below a path with marks, as S3 does, and counts what it is asked for."""

    protocol = ("s3", "s3a")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def find(self, path: str, **keywords: Any) -> Any:
        self.calls.append("find")
        found = super().find(path, **keywords)
        if not keywords.get("detail"):
            return found
        return {name: info | {"ETag": hash(self.store[name].getvalue())} for name, info in found.items()}

    def ls(self, path: str, detail: bool = True, **keywords: Any) -> Any:
        self.calls.append("ls")
        return super().ls(path, detail, **keywords)

    def cat_file(self, path: str, *arguments: Any, **keywords: Any) -> bytes:
        self.calls.append("cat_file")
        return bytes(super().cat_file(path, *arguments, **keywords))


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = ObjectStore()
    files = RemoteFiles(filesystem, f"/{uuid4().hex}")

    def look() -> tuple[dict[str, Any], list[str]]:
        filesystem.calls.clear()
        found = files.read_matching(["x/*/p", "y/*"], 9)
        return found, [call for call in filesystem.calls if call != "ls" or "find" not in filesystem.calls]

    assert look() == ({}, ["find"])
    for path in ("x/a/p", "x/b/p", "x/b/versions/p", "x/c/other", "x/p", "y/q", "z/x/a/p"):
        files.replace(path, path.encode())
    as_written = {"x/a/p": b"x/a/p", "x/b/p": b"x/b/p", "y/q": b"y/q"}
    assert look() == (as_written, ["find", "cat_file", "cat_file", "cat_file"])
    assert look() == (as_written, ["find"])
    files.replace("x/a/p", b"new")
    assert look() == (as_written | {"x/a/p": b"new"}, ["find", "cat_file"])
    files.remove("x/b")
    assert look() == ({"x/a/p": b"new", "y/q": b"y/q"}, ["find"])
    files.replace("x/b/p", b"x/b/p")
    assert look() == (as_written | {"x/a/p": b"new"}, ["find", "cat_file"])
    monkeypatch.setattr("mask_store.files.remote._LISTED_AT_ONCE", 3)
    look()
    assert look() == (as_written | {"x/a/p": b"new"}, ["find"])  # few objects beside those that are wanted
    monkeypatch.setattr("mask_store.files.remote._OBJECTS_A_FILE", 1)
    look()
    found, calls = look()
    read = {path: data for path, data in found.items() if isinstance(data, bytes)}
    assert read == as_written | {"x/a/p": b"new"}
    assert calls[:2] == ["ls", "ls"]


def test_what_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = ObjectStore()
    files = RemoteFiles(filesystem, f"/{uuid4().hex}")
    for name in "ab":
        files.replace(f"x/{name}/p", b"one")

    def fail(path: str, *arguments: Any, **keywords: Any) -> bytes:
        if path.endswith("a/p"):
            raise LibraryError("SlowDown")
        return b"one"

    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "cat_file", fail)
        assert isinstance(files.read_matching(["x/*/p"], 9)["x/a/p"], StoreUnavailableError)
    assert files.read_matching(["x/*/p"], 9) == {"x/a/p": b"one", "x/b/p": b"one"}


def test_a_hub_that_can_not_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    filesystem, root = fsspec.core.url_to_fs("hf://datasets/nobody/masks", skip_instance_cache=True)
    with pytest.raises(StoreUnavailableError, match=r"hf://datasets/nobody/masks: .*offline mode"):
        RemoteFiles(filesystem, root).read("store.json", 100)


def test_an_error_of_the_store_is_freed_without_the_collector() -> None:
    def missing() -> bytes:
        raise FileNotFoundError

    def ask() -> None:
        for _ in range(20):
            with suppress(FileNotFoundError):
                RemoteFiles._within(5, missing)

    ask()
    gc.collect()
    gc.disable()
    try:
        ask()
        assert gc.collect() < 20
    finally:
        gc.enable()
