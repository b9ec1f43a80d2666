"""Remote files: a store in any place that fsspec reaches.

Its libraries raise errors of their own kinds and wait as long as they like. Here every failure becomes a
StoreError, and every wait ends.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from mask_store.background import in_background
from mask_store.files.protocol import each, listed, translated

_ANSWER_SECONDS = 20.0
"""How long one call may take, beside the time for its bytes."""
_BYTES_PER_SECOND = 1 << 20
_REMOVE_SECONDS = 300.0

_OBJECT_STORES = {"s3", "gs", "abfs"}
"""Where one request lists all that lies below a path, with marks (ETags) that change with each write."""
_LISTED_AT_ONCE = 1000
"""Objects that one such request lists; for more it takes several."""
_OBJECTS_A_FILE = 20
"""Where there are more objects for each file that is wanted, reading these is less work than listing all."""

_Result = TypeVar("_Result")


class RemoteFiles:
    """Files of an fsspec file system whose writes replace a whole object at once, as object stores do.

    There is no lock: `create` still lets one writer succeed, but whose `replace` comes last is open.
    """

    def __init__(self, filesystem: Any, root: str, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        """Use the files of `filesystem` below `root`; a call that takes longer than allowed is given up."""
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._answer_seconds = answer_seconds
        self._lists_marks = not _OBJECT_STORES.isdisjoint(_protocols(filesystem))
        self._known: dict[str, tuple[str | None, bytes | Exception]] = {}

    def __str__(self) -> str:
        """Return the address."""
        return str(self._filesystem.unstrip_protocol(self._root))

    def read(self, path: str, most: int) -> bytes:
        """See `Files`."""
        with translated(self, path, failures=Exception):
            seconds = self._answer_seconds + most / _BYTES_PER_SECOND
            try:
                return self._within(
                    seconds, lambda: bytes(self._filesystem.cat_file(self._path(path), start=0, end=most))
                )
            except OSError as error:
                return _unless_empty(error)

    def read_many(self, paths: Sequence[str], most: int) -> list[bytes | Exception]:
        """See `Files`; one request for each file, at once where the file system can do that."""
        if not paths:
            return []
        with translated(self, "many files", failures=Exception):
            found = self._within(
                self._answer_seconds + len(paths) * most / _BYTES_PER_SECOND,
                lambda: self._filesystem.cat_ranges(
                    [self._path(path) for path in paths], 0, most, on_error="return"
                ),
            )
        by_path = dict(zip(paths, found, strict=True))
        return each(lambda path: self._value(path, by_path[path]), paths)

    def read_matching(self, patterns: Sequence[str], most: int) -> dict[str, bytes | Exception]:
        """See `Files`; what a listing shows to be as it was the last time is not read again."""
        marks = self._marks(patterns)
        known = {path: self._known[path] for path, mark in marks.items() if self._is_known(path, mark)}
        others = [path for path in marks if path not in known]
        read = self.read_many(others, most)
        known |= {path: (marks[path], data) for path, data in zip(others, read, strict=True)}
        self._known = known
        return {path: known[path][1] for path in marks}

    def list(self, folder: str) -> list[str]:
        """See `Files`."""
        with translated(self, folder, failures=Exception), suppress(FileNotFoundError, NotADirectoryError):
            self._filesystem.invalidate_cache()
            paths = self._within(
                self._answer_seconds, lambda: self._filesystem.ls(self._path(folder), detail=False)
            )
            return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return []

    def age(self, path: str) -> float:
        """See `Files`."""
        with translated(self, path, failures=Exception):
            written: datetime = self._within(
                self._answer_seconds, lambda: self._filesystem.modified(self._path(path))
            )
            return time.time() - written.timestamp()

    def replace(self, path: str, data: bytes) -> None:
        """See `Files`."""
        self._write(path, data)

    def create(self, path: str, data: bytes) -> None:
        """See `Files`."""
        self._write(path, data, mode="create")

    def remove(self, path: str) -> None:
        """See `Files`."""
        with translated(self, path, write=True, failures=Exception), suppress(FileNotFoundError):
            self._within(_REMOVE_SECONDS, lambda: self._filesystem.rm(self._path(path), recursive=True))

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold nobody back: object stores have no locks."""
        yield False

    def sweep(self) -> None:
        """Do nothing: writers leave no temporary files here."""

    def _marks(self, patterns: Sequence[str]) -> dict[str, str | None]:
        """Return the paths of files at some patterns, each with its mark; None where that is not told."""
        if self._lists_marks:
            with translated(self, "all files", failures=Exception), suppress(FileNotFoundError):
                found = self._within(
                    self._answer_seconds, lambda: self._filesystem.find(self._root, detail=True)
                )
                inside = {path.removeprefix(f"{self._root}/"): info for path, info in found.items()}
                marks = {
                    path: info.get("ETag") or info.get("etag")
                    for path, info in sorted(inside.items())
                    if any(_matches(path, pattern) for pattern in patterns)
                }
                self._lists_marks = len(found) <= max(_LISTED_AT_ONCE, _OBJECTS_A_FILE * len(marks))
                return marks
        return dict.fromkeys(listed(self.list, patterns))

    def _is_known(self, path: str, mark: str | None) -> bool:
        known = self._known.get(path)
        return mark is not None and known is not None and known[0] == mark and isinstance(known[1], bytes)

    def _write(self, path: str, data: bytes, **how: str) -> None:
        with translated(self, path, write=True, failures=Exception):
            seconds = self._answer_seconds + len(data) / _BYTES_PER_SECOND
            self._within(seconds, lambda: self._filesystem.pipe_file(self._path(path), data, **how))

    def _value(self, path: str, found: bytes | Exception) -> bytes:
        with translated(self, path, failures=Exception):
            if isinstance(found, Exception):
                return _unless_empty(found)
            return bytes(found)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    @staticmethod
    def _within(seconds: float, call: Callable[[], _Result]) -> _Result:
        """Return what a call returns; one that hangs is left behind."""
        result = in_background(call, "store-call")
        try:
            return result.result(seconds)
        except TimeoutError:
            if result.done():  # the library's own
                raise
            raise TimeoutError(f"no answer within {seconds:.0f} s") from None
        finally:
            del result  # as in `in_background`: an error knows this frame


def _matches(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def _protocols(filesystem: Any) -> Sequence[str]:
    protocol = filesystem.protocol
    return [protocol] if isinstance(protocol, str) else protocol


def _unless_empty(error: Exception) -> bytes:
    """Raise an error, unless it is how a server says that an object has not even a first byte (HTTP 416)."""
    if isinstance(error, OSError) and "range is not satisfiable" in str(error):
        return b""
    raise error
