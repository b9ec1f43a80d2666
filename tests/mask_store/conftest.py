"""Places for stores, disks that run full, and counters of what a store reads and hashes."""

import hashlib
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mask_store import MaskStore
from mask_store.files import LocalFiles, RemoteFiles


class StoreReads:
    """Counts from here on, until the test ends.

    Attributes:
        paths: Every file that was read of any store, relative to the store, in order.
        hashes: How often a SHA-256 was begun, by anyone.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace what reads and what hashes by what counts as well."""
        self.paths: list[str] = []
        self.hashes = 0
        for kind in (LocalFiles, RemoteFiles):
            monkeypatch.setattr(kind, "read", self._counting_read(kind.read))
        monkeypatch.setattr(RemoteFiles, "read_many", self._counting_read_many(RemoteFiles.read_many))
        monkeypatch.setattr(hashlib, "sha256", self._counting_hash(hashlib.sha256))

    def clear(self) -> None:
        """Begin at nothing again."""
        self.paths.clear()
        self.hashes = 0

    def _counting_read(self, read: Any) -> Any:
        def counted(files: Any, path: str) -> bytes:
            self.paths.append(path)
            return bytes(read(files, path))

        return counted

    def _counting_read_many(self, read_many: Any) -> Any:
        def counted(files: Any, paths: Sequence[str]) -> Any:
            self.paths += paths
            return read_many(files, paths)

        return counted

    def _counting_hash(self, sha256: Any) -> Any:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.hashes += 1
            return sha256(*arguments, **keywords)

        return counted


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be made: a local folder, and an object store that fsspec reaches."""
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid4().hex}/store"


@pytest.fixture
def store(place: str) -> MaskStore:
    return MaskStore.open(place, create=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store in a local folder."""
    MaskStore.open(tmp_path / "store", create=True)
    return tmp_path / "store"


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Inside the context the operating system lets no file of this process grow beyond so many bytes."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
