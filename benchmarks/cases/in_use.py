"""Tasks in use: throughput as more tasks share the traffic, and whether it falls once masks leave the caches.

Every run is another draw of the rows' tasks, all equally likely; so with enough tasks in use a batch's masks
are never in the processor's caches.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from statistics import median

import torch

from benchmarks.measure.timing import take_turns
from benchmarks.peers.candidates import Candidates, Exports
from benchmarks.peers.columns import KERNEL, Precision, fastest_dense
from lab.random_tasks import Workload, deal_rows, random_tasks
from lab.tables import markdown_table

ROWS, TOKENS, ZEROS = 16, 32, 0.05


def measure(
    exports: Exports, precision: Precision, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """Measure tokens per second of our way and of the bounds, for each number of tasks in use.

    Args:
        exports: Holds the base, and the engines' models.
        precision: Of all candidates.
        arguments: Of `mixed_batch`: numbers of tasks in use, dense engines, threads (the most of them) and
            runs, which are draws of the rows' tasks too.
    """
    runs, threads = arguments.runs, max(arguments.threads)
    torch.set_num_threads(threads)
    tasks = random_tasks(exports.base, max(arguments.in_use, default=0), ZEROS)
    candidates = Candidates(exports, precision, [KERNEL, *arguments.dense], 0.0, threads)
    for count in arguments.in_use:
        counts = [deal_rows("uniform", count, ROWS, seed) for seed in range(runs + 1)]
        workloads = [Workload.of_counts(exports.base, tasks[:count], drawn, TOKENS) for drawn in counts]
        first, errors = candidates.ready(workloads[0]).checked(exports.exact_logits(workloads[0]))
        draws = [first, *(candidates.ready(workload) for workload in workloads[1:])]
        times = take_turns({name: _in_turn([draw.runs[name] for draw in draws]) for name in first.runs}, runs)
        speeds = {
            name: {"max": ROWS * TOKENS / one.best, "median": ROWS * TOKENS / median(one.wall)}
            for name, one in times.items()
        }
        dense = fastest_dense({name: one.best for name, one in times.items()})
        yield {
            **{"precision": precision, "tasks": count, "rows": ROWS, "tokens": TOKENS, "zeros": ZEROS},
            "threads": threads,
            "errors": errors,
            "skipped": dict(first.skipped),
            "tokens_per_second": speeds,
            "dense": dense,
            "relative_throughput": {
                name: {how: speed[how] / speeds[dense][how] for how in speed}
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
    """Write throughput over the fastest dense model's as Markdown: of fastest runs, medians in brackets."""
    first = results[0]["relative_throughput"]
    assert isinstance(first, dict)
    rows = []
    for result in results:
        relative = result["relative_throughput"]
        assert isinstance(relative, dict)
        cells = [f"{one['max']:.2f} ({one['median']:.2f})" for one in relative.values()]
        rows.append([str(result["tasks"]), str(result["dense"]), *cells])
    head = ["tasks in use", "fastest dense", *(f"throughput: {name}" for name in first)]
    return markdown_table(head, rows)
