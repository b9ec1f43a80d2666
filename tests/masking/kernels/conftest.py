"""Layers and masks for the tests of `masking.kernels`."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from masking.kernels import available

needs_kernels = pytest.mark.skipif(not available(), reason="numba is not installed")


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """All of which come to every product, however small it is."""
    monkeypatch.setattr("masking.kernels.cpu.launch._WORK_OF_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@contextmanager
def noted_threads(monkeypatch: pytest.MonkeyPatch, launcher: ModuleType) -> Iterator[list[int]]:
    """Give torch two threads, and note how many of them come to each call of a launcher."""
    used, runner = list[int](), launcher._runner()

    def noted(job: int, threads: int) -> None:
        used.append(threads)
        runner(job, threads)

    monkeypatch.setattr(launcher, "_runner", lambda: noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield used
    finally:
        torch.set_num_threads(before)
