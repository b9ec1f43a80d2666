"""Timing of candidates that take turns, so that whatever disturbs the machine disturbs all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


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
        """This candidate relative to another: fastest runs, median runs, CPU time of the median run."""
        return {
            "min": self.best / bound.best,
            "median": median(self.wall) / median(bound.wall),
            "cpu": median(self.cpu) / median(bound.cpu),
        }


def take_turns(candidates: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Times]:
    """Runs every candidate once to warm up, then all in turn, `runs` times."""
    for run in candidates.values():
        run()
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in candidates}
