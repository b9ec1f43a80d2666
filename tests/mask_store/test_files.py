import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mask_store import StoreFullError, StoreNotWritableError, StoreUnavailableError
from mask_store.files import STALE_SECONDS, Files, LocalFiles, RemoteFiles


@pytest.fixture
def files(place: str) -> Files:
    if "://" in place:
        return RemoteFiles(*fsspec.core.url_to_fs(place))
    return LocalFiles(Path(place))


class TestFiles:
    def test_replace_and_read(self, files: Files) -> None:
        files.replace("a/b", b"one")
        files.replace("a/b", b"two")
        assert files.read("a/b") == b"two"

    def test_read_of_nothing(self, files: Files) -> None:
        with pytest.raises(FileNotFoundError):
            files.read("a/b")

    def test_create_never_replaces(self, files: Files) -> None:
        files.create("a/b", b"one")
        with pytest.raises(FileExistsError):
            files.create("a/b", b"two")
        assert files.read("a/b") == b"one"

    def test_read_many(self, files: Files) -> None:
        files.replace("a", b"one")
        first, second = files.read_many(["a", "none"])
        assert first == b"one"
        assert isinstance(second, FileNotFoundError)
        assert files.read_many([]) == []

    def test_list(self, files: Files) -> None:
        for path in ("x/b", "x/a", "x/c/d"):
            files.replace(path, b"")
        assert files.list("x") == ["a", "b", "c"]
        assert files.list("none") == []

    def test_remove(self, files: Files) -> None:
        for path in ("x/b", "x/c/d", "y"):
            files.replace(path, b"")
        files.remove("x")
        files.remove("y")
        files.remove("none")
        assert files.list("x") == []
        with pytest.raises(FileNotFoundError):
            files.read("x/c/d")
        with pytest.raises(FileNotFoundError):
            files.read("y")


def leftovers(root: Path) -> list[str]:
    return os.listdir(root / ".tmp") if (root / ".tmp").exists() else []


class TestLocalFiles:
    def test_leaves_no_temporary_files(self, tmp_path: Path) -> None:
        files = LocalFiles(tmp_path)
        files.replace("a", b"")
        files.create("b", b"")
        with pytest.raises(FileExistsError):
            files.create("b", b"")
        assert leftovers(tmp_path) == []

    def test_files_can_be_read_as_the_umask_allows(self, tmp_path: Path) -> None:
        previous = os.umask(0o027)
        try:
            LocalFiles(tmp_path).replace("a", b"")
        finally:
            os.umask(previous)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("write", ["replace", "create"])
    def test_full_disk(self, tmp_path: Path, write: str, full_disk: Callable[[int], Any]) -> None:
        files = LocalFiles(tmp_path)
        with full_disk(1000), pytest.raises(StoreFullError, match="full"):
            getattr(files, write)("a", b"x" * 2000)
        assert files.list("") == [".tmp"]
        assert leftovers(tmp_path) == []

    def test_written_whole_even_if_the_system_takes_a_part_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
        files = LocalFiles(tmp_path)
        files.replace("a", bytes(range(100)))
        assert files.read("a") == bytes(range(100))

    def test_synced_before_it_is_named_and_named_before_it_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def noted(name: str) -> Callable[..., Any]:
            original = getattr(os, name)

            def call(*arguments: Any) -> Any:
                synced = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else None
                calls.append("sync folder" if synced == str(tmp_path) else name)
                return original(*arguments)

            return call

        files = LocalFiles(tmp_path)
        files.replace("a", b"1")
        for name in ("write", "fsync", "replace", "link"):
            monkeypatch.setattr(os, name, noted(name))
        files.replace("a", b"2")
        files.create("b", b"3")
        assert calls == [
            *("write", "fsync", "replace", "sync folder"),
            *("write", "fsync", "link", "sync folder"),
        ]

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        files = LocalFiles(tmp_path / "file" / "store")
        with pytest.raises(StoreNotWritableError, match="can't be written to"):
            files.replace("a", b"")
        with pytest.raises(FileNotFoundError):
            files.read("a")
        assert files.list("") == []

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        files = LocalFiles(tmp_path)
        files.replace("a", b"old")

        def refuse(*arguments: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(StoreNotWritableError, match=os.strerror(number)):
            files.replace("a", b"new")
        assert files.read("a") == b"old"
        assert leftovers(tmp_path) == []

    def test_sweep_takes_only_what_is_old(self, tmp_path: Path) -> None:
        files = LocalFiles(tmp_path)
        files.sweep()
        (tmp_path / ".tmp").mkdir()
        for name in ("old", "new"):
            (tmp_path / ".tmp" / name).touch()
        long_ago = time.time() - STALE_SECONDS - 1
        os.utime(tmp_path / ".tmp" / "old", (long_ago, long_ago))
        files.sweep()
        assert leftovers(tmp_path) == ["new"]


class TestRemoteFiles:
    def test_errors_are_translated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        filesystem = fsspec.filesystem("memory")
        files = RemoteFiles(filesystem, "/errors")

        def fail(*arguments: Any, **keywords: Any) -> None:
            raise PermissionError("Access Denied")

        for method in ("pipe_file", "cat_file"):
            monkeypatch.setattr(filesystem, method, fail)
        with pytest.raises(StoreNotWritableError, match=r"memory:///errors: a: Access Denied"):
            files.replace("a", b"")
        with pytest.raises(StoreUnavailableError, match="Access Denied"):
            files.read("a")
        (result,) = files.read_many(["a"])
        assert isinstance(result, StoreUnavailableError | FileNotFoundError)
