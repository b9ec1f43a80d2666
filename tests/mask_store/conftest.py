"""Places for stores, and disks that run full."""

import resource
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
