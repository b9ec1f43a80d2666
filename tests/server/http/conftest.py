"""A store with a task of every kind, for each module that serves one."""

from pathlib import Path

import pytest

from masking import Base
from tests.support.serving import fill


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    return place
