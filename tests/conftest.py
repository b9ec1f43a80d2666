"""Fixtures shared by all packages' tests."""

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Tiny models gain nothing from more threads and lose much where other processes want the cores. Set before
# torch is imported; servers and commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from masking import Base

# Until all tests are found there are more and more objects and next to no garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Take libraries and tests out of the garbage collector's sight: a second for each collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random BERT (3 blocks of width 32, pooler in the checkpoint)."""
    from tests.support.models import tiny_base  # noqa: PLC0415 (torch, which pytest-xdist's first process needs not)

    folder: Path = tmp_path_factory.mktemp("bases") / "tiny-bert"
    return tiny_base(folder, "bert")


@pytest.fixture(scope="session")
def base(tiny_bert: str) -> "Base":
    """The tiny BERT, loaded; nobody changes it."""
    from masking import load_base  # noqa: PLC0415 (torch)

    return load_base(tiny_bert)
