"""OpenMP: one C function run on torch's own threads.

A second pool next to torch's would compete with it: OpenMP threads that have finished keep a core busy for a
while, waiting for more. So the kernels run on the pool that torch uses, with as many threads as torch does,
through the OpenMP library that torch has loaded. Where that is not GNU OpenMP (or torch has none), a plain
pool of Python threads does it; the kernels hold no interpreter lock.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

Runner = Callable[[int, int], None]
"""Takes an address to pass on and a number of threads; returns when all are done."""


def runner(function: int) -> Runner:
    """Make a runner of the C function void(void *) at address `function`."""
    parallel = _torch_parallel()
    one = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    if parallel is None:
        return _pool_runner(one)

    def run(argument: int, threads: int) -> None:
        if threads == 1:
            one(argument)
        else:
            parallel(function, argument, threads, 0)

    return run


@cache
def _torch_parallel() -> Callable[[int, int, int, int], None] | None:
    """Find GOMP_parallel of the OpenMP library that torch runs on; None if there is none."""
    try:
        library = ctypes.CDLL(None)  # torch loads its dependencies for all to see
        parallel, most_threads = library.GOMP_parallel, library.omp_get_max_threads
    except (OSError, AttributeError, TypeError):
        return None
    wanted = torch.get_num_threads()  # first: it may be what sets this thread's number
    if most_threads() != wanted:
        return None  # another library's
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    found: Callable[[int, int, int, int], None] = parallel
    return found


def _pool_runner(one: Callable[[int], None]) -> Runner:
    pools: dict[int, ThreadPoolExecutor] = {}

    def run(argument: int, threads: int) -> None:
        if threads == 1:
            one(argument)
            return
        pool = pools.setdefault(threads, ThreadPoolExecutor(threads - 1, "masked-compute"))
        others = [pool.submit(one, argument) for _ in range(threads - 1)]
        one(argument)
        for other in others:
            other.result()

    return run
