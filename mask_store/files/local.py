"""Local files: a store in a folder of this machine, durable by fsync of files and folders.

Whoever can write to the folder may have put anything there, so below it nothing is followed and nothing but
folders and regular files is opened: each step goes from the handle of one folder to the next, and refuses
symbolic links, pipes and devices. The folder itself may be a link.
"""

import errno
import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mask_store.errors import NotAFileError, StoreBusyError, StoreError, StoreNotWritableError
from mask_store.files.protocol import STALE_SECONDS, each, listed, translated

try:
    import fcntl
except ImportError:  # Windows; what only reads a store, or writes to an object store, runs there
    fcntl = None  # type: ignore[assignment]

LOCK_SECONDS = 60.0

_LOCK_PAUSE_SECONDS = 0.02
_SETTLED_SECONDS = 2.0
"""Two writes may have the same time, by the clock of a file system, if they are closer than this."""
_DEEPEST = 32
"""Folders inside each other that are removed; a store has four."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_HANDLES = os.open in os.supports_dir_fd
"""Whether files can be reached from the handle of a folder; not on Windows, where links need privileges."""
_INSIDE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_Mark = tuple[int, int, int, int]


class LocalFiles:
    """Files in a folder of this machine."""

    def __init__(self, root: Path, *, scratch: str = ".tmp", lock_seconds: float = LOCK_SECONDS) -> None:
        """Use files below `root`, which need not exist yet.

        Args:
            root: The folder.
            scratch: Folder in it where each file is written before it is renamed.
            lock_seconds: How long to wait for other writers.
        """
        self._root, self._scratch, self._lock_seconds = root, scratch, lock_seconds
        self._known: dict[str, tuple[_Mark | None, bytes | Exception]] = {}

    def __str__(self) -> str:
        """Return the folder."""
        return str(self._root)

    def read(self, path: str, most: int) -> bytes:
        """See `Files`."""
        with translated(self, path):
            if not _HANDLES:
                with (self._root / path).open("rb") as file:
                    return file.read(most)
            with self._parent(path) as (folder, name):
                return _read(folder, name, path, most)

    def read_many(self, paths: Sequence[str], most: int) -> list[bytes | Exception]:
        """See `Files`."""
        return each(lambda path: self.read(path, most), paths)

    def read_matching(self, patterns: Sequence[str], most: int) -> dict[str, bytes | Exception]:
        """See `Files`; a file that is the same one as the last time, and was old then, is not read again."""
        paths, before, now = listed(self.list, patterns), self._known, time.time()
        marks = {path: self._mark(path, now) for path in paths}
        known = {
            path: before[path]
            for path, mark in marks.items()
            if mark and before.get(path, (None,))[0] == mark
        }
        others = [path for path in paths if path not in known]
        read = each(lambda path: self.read(path, most), others, more=bool(known))
        found = {path: (marks[path], data) for path, data in zip(others, read, strict=True)}
        self._known = known | {path: kept for path, kept in found.items() if isinstance(kept[1], bytes)}
        return {path: (known.get(path) or found[path])[1] for path in paths}

    def _mark(self, path: str, now: float) -> _Mark | None:
        """Return what changes with each write of a file; None if one was just now, or it can't be told."""
        with suppress(OSError):
            status = os.stat(f"{self._root}/{path}", follow_symlinks=False)
            if now - status.st_ctime > _SETTLED_SECONDS:
                return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return None

    def list(self, folder: str) -> list[str]:
        """See `Files`."""
        with translated(self, folder), suppress(FileNotFoundError, NotADirectoryError):
            if not _HANDLES:
                return sorted(os.listdir(self._root / folder))
            with self._parent(f"{folder}/.") as (handle, _):
                return sorted(os.listdir(handle))
        return []

    def age(self, path: str) -> float:
        """See `Files`."""
        with translated(self, path), self._parent(path) as (folder, name):
            return time.time() - _status(folder, name).st_mtime

    def replace(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with (
            translated(self, path, write=True),
            self._parent(path, make=True) as (folder, name),
            self._temporary(data) as (scratch, temporary),
        ):
            os.replace(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
            _sync(folder)

    def create(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with (
            translated(self, path, write=True),
            self._parent(path, make=True) as (folder, name),
            self._temporary(data) as (scratch, temporary),
        ):
            try:
                os.link(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                claim = f"{path.replace('/', '_')}.claim"
                _rename_to_free_name(scratch, temporary, folder, name, claim)
            _sync(folder)

    def remove(self, path: str) -> None:
        """See `Files`; a link is removed, and what it points to stays."""
        with (
            translated(self, path, write=True),
            suppress(FileNotFoundError),
            self._parent(path) as (folder, name),
        ):
            _remove(folder, name)
            _sync(folder)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold a lock on the folder; the system frees it when the process ends, however it ends.

        Raises:
            StoreBusyError: If others hold it for too long.
            StoreNotWritableError: If this system has no such locks.
        """
        if fcntl is None:
            raise StoreNotWritableError(
                f"the store can't be written to: {self}: this system has no file locks (fcntl); "
                "write to it from Linux or macOS, or use an object store"
            )
        with translated(self, "lock", write=True), self._parent("lock") as (folder, name):
            handle = os.open(name, os.O_RDWR | os.O_CREAT | _INSIDE, 0o666, dir_fd=folder)
        try:
            with translated(self, "lock"):
                _check_regular(os.fstat(handle), "lock")
                held = _locked(handle, self._lock_seconds)
            yield held
        finally:
            os.close(handle)

    def sweep(self) -> None:
        """See `Files`; what can't be removed stays, for it is in nobody's way."""
        with suppress(StoreError):
            for name in self.list(self._scratch):
                path = f"{self._scratch}/{name}"
                with suppress(StoreError, FileNotFoundError):
                    if self.age(path) > STALE_SECONDS:
                        self.remove(path)

    @contextmanager
    def _temporary(self, data: bytes) -> Iterator[tuple[int, str]]:
        """Write a synced file that holds `data`: its folder's handle and its name inside the context."""
        with self._parent(f"{self._scratch}/{uuid.uuid4().hex}.tmp", make=True) as (folder, name):
            try:
                _write(folder, name, data)
                yield folder, name
            finally:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that a path lies in, without following links: its handle, and the last name.

        With `make`, folders that are missing are made, each known to its parent on disk before the next.
        """
        if make:
            _make_root(self._root)
        handle = os.open(self._root, _FOLDER)
        try:
            *folders, name = filter(None, path.split("/"))
            for folder in folders:
                inner = _enter(handle, folder, path, make=make)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)


def _enter(parent: int, name: str, path: str, *, make: bool = False) -> int:
    """Open a folder in a folder."""
    try:
        return os.open(name, _FOLDER | _INSIDE, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        _sync(parent)
        return _enter(parent, name, path)
    except NotADirectoryError:
        status = _status(parent, name)
        if stat.S_ISREG(status.st_mode):
            raise
        raise NotAFileError(f"{path}: expected a folder {name!r}, found {_kind(status)}") from None


def _make_root(folder: Path) -> None:
    if not folder.is_dir():
        _make_root(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        handle = os.open(folder.parent, _FOLDER)
        try:
            _sync(handle)
        finally:
            os.close(handle)


def _status(folder: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")


def _check_regular(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(f"{path}: expected a regular file, found {_kind(status)}")


def _read(folder: int, name: str, path: str, most: int) -> bytes:
    """Read a regular file; looked at before it is opened, for opening a device may do something."""
    _check_regular(_status(folder, name), path)
    handle = os.open(name, os.O_RDONLY | _INSIDE, dir_fd=folder)
    try:
        status = os.fstat(handle)
        _check_regular(status, path)
        left, parts = min(most, status.st_size), []
        while left and (part := os.read(handle, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def _write(folder: int, name: str, data: bytes) -> None:
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _INSIDE, 0o666, dir_fd=folder)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename_to_free_name(scratch: int, temporary: str, folder: int, name: str, claim: str) -> None:
    """Name a file where there are no hard links: of all writers only who has the claim looks and renames.

    A claim that a killed process left makes the name look taken until it is swept.
    """
    os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _INSIDE, 0o666, dir_fd=scratch))
    try:
        with suppress(FileNotFoundError):
            _status(folder, name)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.replace(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
    finally:
        os.unlink(claim, dir_fd=scratch)


def _remove(folder: int, name: str, depth: int = 0) -> None:
    """Remove anything; only real folders are entered."""
    if depth > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"more than {_DEEPEST} folders inside each other")
    if not stat.S_ISDIR(_status(folder, name).st_mode):
        os.unlink(name, dir_fd=folder)
        return
    inner = _enter(folder, name, name)
    try:
        for entry in os.listdir(inner):
            with suppress(FileNotFoundError):
                _remove(inner, entry, depth + 1)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def _locked(handle: int, seconds: float) -> bool:
    """Take the lock of an open file; False where the file system has none."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise StoreBusyError(
                    f"the store is locked: another process has written to it, or held its lock, for "
                    f"{seconds:.0f} s; try again"
                ) from None
            time.sleep(_LOCK_PAUSE_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        else:
            return True


def _sync(folder: int) -> None:
    """Make names in a folder survive a crash, where the file system can do that."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
