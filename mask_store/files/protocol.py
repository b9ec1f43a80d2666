"""Files protocol: what a store asks of the place where it lies, and which errors it gets from there.

`LocalFiles` is a folder of this machine, `RemoteFiles` whatever fsspec reaches (S3 and the like). Both
promise: a file is seen whole or not at all, `create` never replaces, what a call has written when it returns
survives a crash, and no call reads more than it was told to.

Of all failures only FileNotFoundError and FileExistsError pass through, for the caller knows what they mean;
every other one becomes a StoreError.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from mask_store.errors import (
    MaskStoreError,
    NotAFileError,
    StoreError,
    StoreFullError,
    StoreNotWritableError,
    StoreUnavailableError,
)

STALE_SECONDS = 3600
"""What nobody has written to for so long, nobody is writing any more."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOTSUP}
_REFUSALS = (PermissionError, FileNotFoundError, NotImplementedError)


class Files(Protocol):
    """Files by relative path, with "/" between folders."""

    def read(self, path: str, most: int) -> bytes:
        """Return the file's bytes, or the first `most` of a longer one; or raise FileNotFoundError."""

    def read_many(self, paths: Sequence[str], most: int) -> list[bytes | Exception]:
        """Return the bytes of many files, or for each what `read` would have raised.

        Raises:
            StoreUnavailableError: If not one of them could be reached: that is no trouble of theirs.
        """

    def read_matching(self, patterns: Sequence[str], most: int) -> dict[str, bytes | Exception]:
        """Return by path what `read_many` would for all files at some patterns.

        Args:
            patterns: Paths in which one part is "*", which stands for every name in the folder before it.
            most: As of `read`.
        """

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if the folder does not exist."""

    def age(self, path: str) -> float:
        """Return for how many seconds nobody has written to a file, or raise FileNotFoundError."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a file; readers see the old one or the whole new one."""

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not exist yet, or FileExistsError: one of many callers succeeds."""

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it, if there is one."""

    def lock(self) -> AbstractContextManager[bool]:
        """Hold back other writers; gives False where the place can't do that."""

    def sweep(self) -> None:
        """Remove what crashed writers left behind, once it is old."""


def listed(names_in: Callable[[str], Sequence[str]], patterns: Sequence[str]) -> list[str]:
    """Return the paths where files at some patterns may be, as of `Files.read_matching`.

    Args:
        names_in: Lists a folder.
        patterns: See there.
    """
    parts = [pattern.partition("/*") for pattern in patterns]
    return [f"{folder}/{name}{rest}" for folder, _, rest in parts for name in names_in(folder)]


def each(
    read: Callable[[str], bytes], paths: Sequence[str], *, more: bool = False
) -> list[bytes | Exception]:
    """Do what `Files.read_many` does, one after the other; `more` files beside these could be reached."""
    results = [_result(read, path) for path in paths]
    unreachable = [result for result in results if isinstance(result, StoreUnavailableError)]
    if unreachable and len(unreachable) == len(results) and not more:
        raise unreachable[0]
    return results


def _result(read: Callable[[str], bytes], path: str) -> bytes | Exception:
    try:
        return read(path)
    except (FileNotFoundError, MaskStoreError) as error:
        return error


@contextmanager
def translated(
    place: object, path: str, *, write: bool = False, failures: type[Exception] = OSError
) -> Iterator[None]:
    """Turn failures of the place into the store's errors, except the two that callers handle.

    What is to be read below a regular file does not exist; what is to be written there is refused.

    Args:
        place: Named in messages.
        path: What was to be read or written there.
        write: Whether it was to be written.
        failures: What to translate: libraries that reach other machines raise errors of their own kinds.
    """
    try:
        yield
    except (StoreError, FileExistsError):
        raise
    except failures as error:
        number = error.errno if isinstance(error, OSError) else None
        if not write and isinstance(error, FileNotFoundError):
            raise
        if not write and isinstance(error, NotADirectoryError):
            raise FileNotFoundError(number, error.strerror, path) from error
        if number == errno.ELOOP:
            raise NotAFileError(f"{path}: expected a file or a folder, found a symbolic link") from error
        kind: type[StoreError]
        if write and number in _FULL:
            kind, what = StoreFullError, "no space left in the store, free some and try again"
        elif write and (number in _NOT_WRITABLE or isinstance(error, _REFUSALS)):
            kind, what = StoreNotWritableError, "the store can't be written to"
        else:
            kind, what = StoreUnavailableError, "the store can't be used"
        raise kind(f"{what}: {place}: {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what a library says, on one line."""
    said = error.strerror if isinstance(error, OSError) else None
    return " ".join(str(said or error).split()) or type(error).__name__
