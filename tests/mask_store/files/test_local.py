import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mask_store import (
    NotAFileError,
    StoreBusyError,
    StoreFullError,
    StoreNotWritableError,
    StoreUnavailableError,
)
from mask_store.files import STALE_SECONDS, LocalFiles, local
from tests.support.counting import StoreReads


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
        assert files.read("a", 100) == bytes(range(100))

    def test_synced_before_it_is_named_and_named_before_it_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def noted(name: str) -> Callable[..., Any]:
            original = getattr(os, name)

            def call(*arguments: Any, **keywords: Any) -> Any:
                synced = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else None
                calls.append("sync folder" if synced == str(tmp_path) else name)
                return original(*arguments, **keywords)

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
            files.read("a", 9)
        assert files.list("") == []

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        files = LocalFiles(tmp_path)
        files.replace("a", b"old")

        def refuse(*arguments: Any, **keywords: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(StoreNotWritableError, match=os.strerror(number)):
            files.replace("a", b"new")
        assert files.read("a", 9) == b"old"
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

    def test_sweep_is_stopped_by_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a", "b"):
            (tmp_path / ".tmp" / name).mkdir(parents=True)
            os.utime(tmp_path / ".tmp" / name, (0, 0))
        remove = os.rmdir

        def refuse(name: str, **keywords: Any) -> None:
            if name == "a":
                raise PermissionError(errno.EACCES, "Permission denied")
            remove(name, **keywords)

        monkeypatch.setattr(os, "rmdir", refuse)
        LocalFiles(tmp_path).sweep()
        assert leftovers(tmp_path) == ["a"]

    def test_on_a_system_without_handles_of_folders_it_can_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = LocalFiles(tmp_path)
        files.replace("a/b", b"one")
        monkeypatch.setattr(local, "_HANDLES", False)
        assert files.read("a/b", 2) == b"on"
        assert (files.list("a"), files.list("none")) == (["b"], [])
        with pytest.raises(FileNotFoundError):
            files.read("a/c", 2)

    def test_a_folder_that_cannot_be_synced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sync = os.fsync

        def refuse(handle: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{handle}"):
                raise OSError(errno.EINVAL, "Invalid argument")
            sync(handle)

        monkeypatch.setattr(os, "fsync", refuse)
        files = LocalFiles(tmp_path)
        files.replace("a/b", b"one")
        assert files.read("a/b", 9) == b"one"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the store, with what must stay."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "deep").write_bytes(b"precious")
    (folder / "file").write_bytes(b"precious")
    return folder


class TestLinks:
    """Whoever can write to a store can put links into it."""

    def test_links_are_removed_and_not_followed(self, tmp_path: Path, outside: Path) -> None:
        files = LocalFiles(tmp_path / "store")
        files.replace("x/y/z", b"")
        for path in ("x/link", "x/y/link", "link"):
            (tmp_path / "store" / path).symlink_to(outside)
        (tmp_path / "store/x/file").symlink_to(outside / "file")
        files.remove("x")
        files.remove("link")
        assert files.list("") == [".tmp"]
        assert sorted(path.name for path in outside.rglob("*")) == ["deep", "file", "sub"]

    @pytest.mark.parametrize(
        "call",
        [
            lambda files: files.read("link/file", 9),
            lambda files: files.read("link", 9),
            lambda files: files.read("file", 9),
            lambda files: files.list("link"),
            lambda files: files.list("link/sub"),
            lambda files: files.replace("link/new", b""),
            lambda files: files.create("link/sub/new", b""),
            lambda files: files.remove("link/sub/deep"),
            lambda files: files.remove("link/file"),
            lambda files: files.age("link/file"),
        ],
    )
    def test_nothing_goes_through_them(
        self, tmp_path: Path, outside: Path, call: Callable[[LocalFiles], Any]
    ) -> None:
        files = LocalFiles(tmp_path / "store")
        files.replace("a", b"")
        (tmp_path / "store/link").symlink_to(outside)
        (tmp_path / "store/file").symlink_to(outside / "file")
        with pytest.raises(NotAFileError, match="found a symbolic link"):
            call(files)
        assert sorted(path.name for path in outside.rglob("*")) == ["deep", "file", "sub"]
        assert files.list(".tmp") == []

    @pytest.mark.parametrize("write", ["replace", "create"])
    def test_scratch(self, tmp_path: Path, outside: Path, write: str) -> None:
        files = LocalFiles(tmp_path / "store")
        (tmp_path / "store").mkdir()
        (tmp_path / "store/.tmp").symlink_to(outside)
        os.utime(outside / "file", (0, 0))
        files.sweep()
        with pytest.raises(NotAFileError):
            getattr(files, write)("a", b"")
        assert sorted(path.name for path in outside.rglob("*")) == ["deep", "file", "sub"]

    def test_old_links_in_scratch_are_swept_and_not_followed(self, tmp_path: Path, outside: Path) -> None:
        files = LocalFiles(tmp_path / "store")
        files.replace("a", b"")
        link = tmp_path / "store/.tmp/link"
        link.symlink_to(outside)
        os.utime(link, (0, 0), follow_symlinks=False)
        files.sweep()
        assert leftovers(tmp_path / "store") == []
        assert (outside / "sub/deep").exists()

    def test_a_link_is_replaced_and_what_it_points_to_stays(self, tmp_path: Path, outside: Path) -> None:
        files = LocalFiles(tmp_path / "store")
        files.replace("a", b"")
        (tmp_path / "store/b").symlink_to(outside / "file")
        files.replace("b", b"new")
        assert files.read("b", 9) == b"new"
        assert (outside / "file").read_bytes() == b"precious"

    def test_the_store_itself_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "store").symlink_to(tmp_path / "real")
        LocalFiles(tmp_path / "store").replace("a/b", b"one")
        assert (tmp_path / "real/a/b").read_bytes() == b"one"

    def test_the_lock(self, tmp_path: Path, outside: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store/lock").symlink_to(outside / "new")
        with pytest.raises(NotAFileError), LocalFiles(tmp_path / "store").lock():
            pass
        assert not (outside / "new").exists()

    def test_folders_without_end(self, tmp_path: Path) -> None:
        deep = tmp_path.joinpath("x", *["y"] * 200)
        deep.mkdir(parents=True)
        with pytest.raises(StoreUnavailableError, match="folders inside each other"):
            LocalFiles(tmp_path).remove("x")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))


SPECIAL: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": _socket,
    "a symbolic link": lambda path: path.symlink_to("/dev/zero"),
}


class TestSpecialFiles:
    @pytest.mark.parametrize("kind", SPECIAL)
    def test_are_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        SPECIAL[kind](Path("x"))
        files = LocalFiles(tmp_path)
        with pytest.raises(NotAFileError, match=f"x: expected a regular file, found {kind}"):
            files.read("x", 9)
        files.remove("x")
        assert files.list("") == []

    @pytest.mark.parametrize("kind", ["a pipe", "a socket"])
    def test_are_no_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        monkeypatch.chdir(tmp_path)
        SPECIAL[kind](Path("x"))
        for call in (lambda: LocalFiles(tmp_path).read("x/y", 9), lambda: LocalFiles(tmp_path).list("x")):
            with pytest.raises(NotAFileError, match=f"expected a folder 'x', found {kind}"):
                call()

    def test_are_no_locks(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "lock")
        with pytest.raises(NotAFileError, match="found a pipe"), LocalFiles(tmp_path).lock():
            pass

    def test_devices_are_not_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        files = LocalFiles(Path("/dev"))
        with pytest.raises(NotAFileError, match="found a device"):
            files.read("null", 9)

    def test_of_a_huge_file_only_so_much_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch()
        os.truncate(tmp_path / "x", 100 << 30)
        assert LocalFiles(tmp_path).read("x", 4) == bytes(4)


def _raise(number: int) -> Callable[..., None]:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


class TestWithoutHardLinks:
    """As SMB, Azure Files, gcsfuse and other file systems in user space answer."""

    @pytest.fixture(params=[errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
    def files(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> LocalFiles:
        monkeypatch.setattr(os, "link", _raise(request.param))
        return LocalFiles(tmp_path)

    def test_create(self, files: LocalFiles, tmp_path: Path) -> None:
        files.create("a/b", b"one")
        with pytest.raises(FileExistsError):
            files.create("a/b", b"two")
        assert files.read("a/b", 9) == b"one"
        assert leftovers(tmp_path) == []

    def test_one_of_many_succeeds_and_nobody_sees_half(
        self, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bytes | None] = []
        replace = os.replace

        def slow(*arguments: Any, **keywords: Any) -> None:
            with pytest.raises(FileExistsError):  # another writer comes between looking and renaming
                files.create("a", b"another")
            with pytest.raises(FileNotFoundError):
                files.read("a", 9)
            replace(*arguments, **keywords)
            seen.append(files.read("a", 9))

        monkeypatch.setattr(os, "replace", slow)
        files.create("a", b"whole")
        assert seen == [b"whole"]

    def test_a_claim_of_a_killed_process_is_swept(self, files: LocalFiles, tmp_path: Path) -> None:
        files.replace("b", b"")
        claim = tmp_path / ".tmp/a.claim"
        claim.touch()
        with pytest.raises(FileExistsError):
            files.create("a", b"one")
        os.utime(claim, (0, 0))
        files.sweep()
        files.create("a", b"one")
        assert files.read("a", 9) == b"one"


HOLDER = """
import fcntl, sys
with open(sys.argv[1]) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.readline()
"""


class TestLock:
    def test_the_wait_for_who_only_reads_the_store_ends(self, tmp_path: Path) -> None:
        (tmp_path / "lock").touch()
        files = LocalFiles(tmp_path, lock_seconds=0.1)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StoreBusyError, match="another process"), files.lock():
                pass
            holder.communicate("done\n")
        with files.lock() as held:
            assert held

    def test_threads_wait_for_each_other(self, tmp_path: Path) -> None:
        files = LocalFiles(tmp_path, lock_seconds=0.1)
        with files.lock(), pytest.raises(StoreBusyError), files.lock():
            pass

    @pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
    def test_where_there_are_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        monkeypatch.setattr("fcntl.flock", _raise(number))
        with LocalFiles(tmp_path).lock() as held:
            assert not held


class TestReadMatching:
    @staticmethod
    def _age(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let what is there be old."""
        later = time.time() + 10
        monkeypatch.setattr(time, "time", lambda: later)

    def test_what_did_not_change_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = LocalFiles(tmp_path)
        for name in ("a", "b"):
            files.replace(f"x/{name}/p", name.encode())
        (tmp_path / "x" / "empty").mkdir()
        self._age(tmp_path, monkeypatch)
        reads = StoreReads(monkeypatch)
        for _ in range(3):
            found = files.read_matching(["x/*/p"], 9)
            assert (found["x/a/p"], found["x/b/p"]) == (b"a", b"b")
            assert isinstance(found["x/empty/p"], FileNotFoundError)
        assert reads.paths.count("x/a/p") == reads.paths.count("x/b/p") == 1
        files.replace("x/a/p", b"z")
        files.remove("x/b")
        found = files.read_matching(["x/*/p"], 9)
        assert (found["x/a/p"], set(found)) == (b"z", {"x/a/p", "x/empty/p"})

    def test_what_is_young_is_read_again(self, tmp_path: Path) -> None:
        files = LocalFiles(tmp_path)
        files.replace("x/a/p", b"1")
        assert files.read_matching(["x/*/p"], 9)["x/a/p"] == b"1"
        (tmp_path / "x" / "a" / "p").write_bytes(b"2")
        assert files.read_matching(["x/*/p"], 9)["x/a/p"] == b"2"

    def test_one_that_can_not_be_read_hides_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = LocalFiles(tmp_path)
        for name in ("a", "b"):
            files.replace(f"x/{name}/p", b"1")
        self._age(tmp_path, monkeypatch)
        files.read_matching(["x/*/p"], 9)
        (tmp_path / "x" / "b" / "p").unlink()
        (tmp_path / "x" / "b" / "p").symlink_to(tmp_path / "x" / "a" / "p")
        found = files.read_matching(["x/*/p"], 9)
        assert (found["x/a/p"], type(found["x/b/p"])) == (b"1", NotAFileError)
