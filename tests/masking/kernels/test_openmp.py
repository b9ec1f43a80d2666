import ctypes
import threading

import pytest
import torch

from masking.kernels.cpu import openmp as module

CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def test_pool_without_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_torch_parallel", lambda: None)
    seen: list[int | None] = []
    both = threading.Barrier(2, timeout=30)

    def piece(argument: int | None) -> None:
        both.wait()
        seen.append(argument)

    callback = CALLBACK(piece)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    module.runner(address)(7, 2)
    assert seen == [7, 7]


def test_one_thread_runs_here(threads: int) -> None:
    seen: list[int] = []

    def piece(argument: int | None) -> None:
        seen.append(threading.get_ident())

    callback = CALLBACK(piece)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    module.runner(address)(0, 1)
    assert seen == [threading.get_ident()]
    assert torch.get_num_threads() == threads
