"""A store with a task of every kind, and a server on it; modules that need other settings make their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from tests.support.serving import fill, serving


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    return place


@pytest.fixture(scope="module")
def client(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place) as client:
        yield client
