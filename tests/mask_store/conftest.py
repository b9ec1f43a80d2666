"""Places for stores, and disks that run full."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from mask_store import MaskStore


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
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Inside the context no file that the store writes grows beyond so many bytes.

    A limit of the operating system would be one of the whole process, with every thread that writes anywhere.
    """

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        real = os.write

        def write(handle: int, data: bytes) -> int:
            room = size - os.fstat(handle).st_size
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, data[:room])

        with monkeypatch.context() as patch:
            patch.setattr("mask_store.files.local.os.write", write)
            yield

    return limited
