"""Fixtures shared by all packages' tests."""

from pathlib import Path

import pytest

from tests.tiny import tiny_base


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random BERT (3 blocks of width 32, pooler in the checkpoint)."""
    folder: Path = tmp_path_factory.mktemp("bases") / "tiny-bert"
    return tiny_base(folder, "bert")
