"""Timing of candidates that take turns, so that whatever disturbs the machine disturbs all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import median

import torch
from torch import Tensor

Stopwatch = Callable[[Callable[[], object]], tuple[float, float]]
"""Runs something and returns its wall and its CPU seconds."""

_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Times:
    """Wall and CPU time of the runs of one candidate.

    Attributes:
        wall: Seconds of each run.
        cpu: CPU seconds of each run, of all threads.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def best(self) -> float:
        """Wall seconds of the fastest run."""
        return min(self.wall)

    def ratios(self, bound: "Times") -> dict[str, float]:
        """Return ratios to another candidate: of fastest runs, of median runs, of median runs' CPU time."""
        return {
            "min": self.best / bound.best,
            "median": median(self.wall) / median(bound.wall),
            "cpu": median(self.cpu) / median(bound.cpu),
        }


def host_seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Time, as a `Stopwatch`, what is done when the call returns."""
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - cpu_start


def cuda_seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Time, as a `Stopwatch`, work on the present CUDA device, and the CPU's time for launching it.

    The device's caches hold nothing of use at the start, as in a model that is larger than they are. What
    fills them hides the time of the first launches.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _room().zero_()
    cpu_start = time.process_time()
    start.record()
    run()
    end.record()
    cpu = time.process_time() - cpu_start
    end.synchronize()
    return start.elapsed_time(end) / 1000, cpu


@cache
def _room() -> Tensor:
    return torch.empty(_CACHE_BYTES, dtype=torch.uint8, device="cuda")


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """Capture what has run before as a CUDA graph; without the launches it is the device's time alone."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def take_turns(
    candidates: Mapping[str, Callable[[], object]], runs: int, stopwatch: Stopwatch = host_seconds
) -> dict[str, Times]:
    """Run every candidate once to warm up, then all in turn, `runs` times."""
    for run in candidates.values():
        run()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            taken[name].append(stopwatch(run))
    return {name: Times(*map(tuple, zip(*each, strict=True))) for name, each in taken.items()}
