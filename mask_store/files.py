"""Store files: the few operations that a store needs of the place where it lies.

`LocalFiles` is a folder of this machine, `RemoteFiles` whatever fsspec reaches (S3 and the like). Both
promise: a file is seen whole or not at all, `create` never replaces, and what a call has written when it
returns survives a crash.

Of all failures only FileNotFoundError and FileExistsError pass through, for the caller knows what they mean;
every other OSError becomes a StoreError.
"""

import errno
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from mask_store.errors import StoreError, StoreFullError, StoreNotWritableError, StoreUnavailableError

try:
    import fcntl
except ImportError:  # Windows; what only reads a store, or writes to an object store, runs there
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 3600
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOTSUP}


class Files(Protocol):
    """Files by relative path, with "/" between folders."""

    def read(self, path: str) -> bytes:
        """Return the file's bytes, or raise FileNotFoundError."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | Exception]:
        """Return the bytes of many files, or for each what `read` would have raised."""

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if the folder does not exist."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a file; readers see the old one or the whole new one."""

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not exist yet, or FileExistsError: one of many callers succeeds."""

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it, if there is one."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold back other writers, where the place can do that."""

    def sweep(self) -> None:
        """Remove what crashed writers left behind, once it is old."""


class LocalFiles:
    """Files in a folder of this machine, durable by fsync of files and folders."""

    def __init__(self, root: Path, *, scratch: str = ".tmp") -> None:
        """Use files below `root`, which need not exist yet; each is written in `scratch` and then renamed."""
        self._root, self._scratch = root, scratch

    def __str__(self) -> str:
        """Return the folder."""
        return str(self._root)

    def read(self, path: str) -> bytes:
        """See `Files`."""
        with _translated(self, path), (self._root / path).open("rb") as file:
            return file.read()

    def read_many(self, paths: Sequence[str]) -> list[bytes | Exception]:
        """See `Files`."""
        return [_result(self.read, path) for path in paths]

    def list(self, folder: str) -> list[str]:
        """See `Files`."""
        with _translated(self, folder), suppress(FileNotFoundError, NotADirectoryError):
            return sorted(os.listdir(self._root / folder))
        return []

    def replace(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with _translated(self, path, write=True), self._temporary(path, data) as temporary:
            os.replace(temporary, self._root / path)

    def create(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with _translated(self, path, write=True), self._temporary(path, data) as temporary:
            os.link(temporary, self._root / path)

    def remove(self, path: str) -> None:
        """See `Files`."""
        target = self._root / path
        with _translated(self, path, write=True), suppress(FileNotFoundError):
            if target.is_dir():
                for name in self.list(path):
                    self.remove(f"{path}/{name}")
                target.rmdir()
            else:
                target.unlink()
            _sync(target.parent)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a lock on the folder; the system frees it when the process ends, however it ends.

        Raises:
            StoreNotWritableError: If this system has no such locks.
        """
        if fcntl is None:
            raise StoreNotWritableError(
                f"the store can't be written to: {self}: this system has no file locks (fcntl); "
                "write to it from Linux or macOS, or use an object store"
            )
        with _translated(self, "lock", write=True):
            handle = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with _translated(self, "lock"):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def sweep(self) -> None:
        """See `Files`."""
        oldest = time.time() - STALE_SECONDS
        for name in self.list(self._scratch):
            path = f"{self._scratch}/{name}"
            with suppress(FileNotFoundError):
                if (self._root / path).stat().st_mtime < oldest:
                    self.remove(path)

    @contextmanager
    def _temporary(self, path: str, data: bytes) -> Iterator[Path]:
        """Write a synced file that holds `data`, to be renamed or linked to `path` inside the context."""
        folder = (self._root / path).parent
        _make_folder(folder)
        _make_folder(self._root / self._scratch)
        temporary = self._root / self._scratch / f"{uuid.uuid4().hex}.tmp"
        try:
            _write(temporary, data)
            yield temporary
            _sync(folder)
        finally:
            with suppress(OSError):
                temporary.unlink()


class RemoteFiles:
    """Files of an fsspec file system whose writes replace a whole object at once, as object stores do.

    There is no lock: `create` still lets one writer succeed, but whose `replace` comes last is open.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        """Use the files of `filesystem` below `root`."""
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def __str__(self) -> str:
        """Return the address."""
        return str(self._filesystem.unstrip_protocol(self._root))

    def read(self, path: str) -> bytes:
        """See `Files`."""
        with _translated(self, path):
            return bytes(self._filesystem.cat_file(self._path(path)))

    def read_many(self, paths: Sequence[str]) -> list[bytes | Exception]:
        """See `Files`; at once where the file system can do that."""
        if not paths:
            return []
        with _translated(self, "many files"):
            found = self._filesystem.cat([self._path(path) for path in paths], on_error="return")
        return [_result(lambda path: _value(self, path, found[self._path(path)]), path) for path in paths]

    def list(self, folder: str) -> list[str]:
        """See `Files`."""
        with _translated(self, folder), suppress(FileNotFoundError, NotADirectoryError):
            self._filesystem.invalidate_cache()
            paths = self._filesystem.ls(self._path(folder), detail=False)
            return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return []

    def replace(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with _translated(self, path, write=True):
            self._filesystem.pipe_file(self._path(path), data)

    def create(self, path: str, data: bytes) -> None:
        """See `Files`."""
        with _translated(self, path, write=True):
            self._filesystem.pipe_file(self._path(path), data, mode="create")

    def remove(self, path: str) -> None:
        """See `Files`."""
        with _translated(self, path, write=True), suppress(FileNotFoundError):
            self._filesystem.rm(self._path(path), recursive=True)

    def lock(self) -> AbstractContextManager[None]:
        """Do nothing: object stores have no locks."""
        return nullcontext()

    def sweep(self) -> None:
        """Do nothing: writers leave no temporary files here."""

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"


def _value(files: RemoteFiles, path: str, found: bytes | Exception) -> bytes:
    with _translated(files, path):
        if isinstance(found, Exception):
            raise found
        return bytes(found)


def _result(read: Any, path: str) -> bytes | Exception:
    try:
        return bytes(read(path))
    except (OSError, StoreError) as error:
        return error


@contextmanager
def _translated(files: object, path: str, *, write: bool = False) -> Iterator[None]:
    """Turn operating system errors into the store's, except the two that callers handle.

    What is to be read below a regular file does not exist; what is to be written there is refused.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        if isinstance(error, NotADirectoryError) and not write:
            raise FileNotFoundError(error.errno, error.strerror, path) from error
        reason = error.strerror or str(error) or type(error).__name__
        where = f"{files}: {path}"
        if write and error.errno in _FULL:
            raise StoreFullError(
                f"no space left in the store, free some and try again: {where}: {reason}"
            ) from error
        if write and (isinstance(error, PermissionError) or error.errno in _NOT_WRITABLE):
            raise StoreNotWritableError(f"the store can't be written to: {where}: {reason}") from error
        raise StoreUnavailableError(f"the store can't be used: {where}: {reason}") from error


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each known to its parent on disk before the next."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
