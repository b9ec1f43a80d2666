"""Tasks in use: throughput as more tasks share the traffic, and whether it falls once masks leave the caches.

Every run is another draw of the rows' tasks, all equally likely; so with enough tasks in use a batch's masks
are never in the processor's caches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from statistics import median

import torch

from benchmarks.measure.timing import take_turns
from benchmarks.peers import dense as peers
from benchmarks.peers.candidates import DENSE, KERNEL, Candidates
from lab.random_tasks import Workload, deal_rows, random_tasks
from lab.tables import markdown_table
from masking import Base

ROWS, TOKENS, ZEROS = 16, 32, 0.05


def measure(
    base: Base, exact_base: Base, in_use: Sequence[int], threads: int, runs: int
) -> Iterator[dict[str, object]]:
    """Measure tokens per second of our way and of the bounds, for each number of tasks in use.

    Args:
        base: The encoder.
        exact_base: The same in float64.
        in_use: Numbers of tasks in use.
        threads: Threads of torch and of the kernel.
        runs: Runs of each candidate, and draws of the rows' tasks.
    """
    torch.set_num_threads(threads)
    tasks = random_tasks(base, max(in_use, default=0), ZEROS)
    candidates = Candidates(base, [KERNEL], gigabytes=0.0)
    for count in in_use:
        counts = [deal_rows("uniform", count, ROWS, seed) for seed in range(runs + 1)]
        workloads = [Workload.of_counts(base, tasks[:count], drawn, TOKENS) for drawn in counts]
        draws = [candidates.ready(workload) for workload in workloads]
        errors = draws[0].largest_errors(peers.exact_logits(workloads[0], exact_base))
        times = take_turns(
            {name: _in_turn([draw.runs[name] for draw in draws]) for name in draws[0].runs}, runs
        )
        speeds = {
            name: {"max": ROWS * TOKENS / one.best, "median": ROWS * TOKENS / median(one.wall)}
            for name, one in times.items()
        }
        yield {
            **{"tasks": count, "rows": ROWS, "tokens": TOKENS, "zeros": ZEROS, "threads": threads},
            "errors": errors,
            "tokens_per_second": speeds,
            "relative_throughput": {
                name: {how: speed[how] / speeds[DENSE][how] for how in speed}
                for name, speed in speeds.items()
            },
        }


def _in_turn(runs: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """Return a function that runs the next one at each call."""
    following = cycle(runs)

    def run() -> None:
        next(following)()

    return run


def table(results: Sequence[Mapping[str, object]]) -> str:
    """Write throughput over the dense model's as Markdown: of the fastest runs, the medians in brackets."""
    first = results[0]["relative_throughput"]
    assert isinstance(first, dict)
    rows = []
    for result in results:
        relative = result["relative_throughput"]
        assert isinstance(relative, dict)
        rows.append(
            [str(result["tasks"]), *(f"{r['max']:.2f} ({r['median']:.2f})" for r in relative.values())]
        )
    return markdown_table(["tasks in use", *(f"throughput: {name}" for name in first)], rows)
