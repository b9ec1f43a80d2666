"""A server on a store with a task of every kind; modules that need other settings make their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from tests.support.serving import serving


@pytest.fixture(scope="module")
def client(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place) as client:
        yield client
