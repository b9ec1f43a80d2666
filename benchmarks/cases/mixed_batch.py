"""Mixed batch: rows of many tasks in one batch, ours against a dense model, copies, LoRA and naive masking.

All candidates compute the same rows in turn; each one's time is divided by that of ONE dense model on the
whole batch. What computes our masks is checked against float64 before anything is timed. A second table shows
how the throughput changes as more and more tasks are in use.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

import torch

from benchmarks.cases import figure, in_use
from benchmarks.measure.timing import Times, take_turns
from benchmarks.peers.candidates import COLUMNS, DENSE, KERNEL, PEERS, Candidates, packages
from benchmarks.peers.dense import exact_logits, in_float64
from lab.extras import need
from lab.random_models import add_model_arguments, describe_model, make_base
from lab.random_tasks import Workload, deal_rows, random_tasks
from lab.tables import markdown_table, ratio_cells, write_report
from masking import Base
from masking.kernels import available

BATCHES = ("16x32", "16x32:0.07", "16x32:zipf", "64x8", "4x64", "1x32", "1x128")
_SETTING = re.compile(r"([1-9]\d*)x([1-9]\d*)(?::(even|uniform|zipf))?(?::(0(?:\.\d+)?|1))?")


@dataclass(frozen=True)
class Setting:
    """A batch: as many rows as there are tasks.

    Attributes:
        tasks: Tasks that rows may belong to, and rows.
        tokens: Tokens of each row.
        assignment: How rows are dealt to tasks; see `deal_rows`.
        zeros: Share of zeros of each mask.
    """

    tasks: int
    tokens: int
    assignment: str
    zeros: float

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """Read TASKSxTOKENS[:ASSIGNMENT][:ZEROS].

        Raises:
            argparse.ArgumentTypeError: It is not of that form.
        """
        match = _SETTING.fullmatch(text)
        if match is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not like 16x32, 16x32:zipf or 16x32:zipf:0.07")
        tasks, tokens, assignment, zeros = match.groups()
        return cls(int(tasks), int(tokens), assignment or "even", float(zeros or 0.05))


def measure(
    candidates: Candidates, workload: Workload, exact_base: Base, threads: Sequence[int], runs: int
) -> Iterator[dict[str, object]]:
    """Measure errors, seconds and ratios of one batch, for each number of threads."""
    ready = candidates.ready(workload)
    errors = ready.largest_errors(exact_logits(workload, exact_base))
    for count in threads:
        torch.set_num_threads(count)
        times = take_turns(ready.runs, runs)
        yield {
            "threads": count,
            "tasks_in_batch": len(workload.tasks),
            "errors": errors,
            "seconds": {name: {"min": one.best, "median": median(one.wall)} for name, one in times.items()},
            "ratios": _ratios(times, DENSE),
            "ratios_to_kernel": _ratios(times, KERNEL) if KERNEL in times else {},
            "skipped": dict(ready.skipped),
        }


def _ratios(times: Mapping[str, Times], bound: str) -> dict[str, dict[str, float]]:
    return {name: one.ratios(times[bound]) for name, one in times.items() if name != bound}


def measure_settings(
    base: Base, exact_base: Base, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """Measure all rows of the table; those of one share of zeros have the same tasks."""
    ordered = sorted(arguments.batches, key=lambda setting: setting.zeros)
    for zeros, group in groupby(ordered, key=lambda setting: setting.zeros):
        settings = list(group)
        tasks = random_tasks(base, max(setting.tasks for setting in settings), zeros)
        candidates = Candidates(base, arguments.peers, arguments.gigabytes)
        for setting in settings:
            counts = deal_rows(setting.assignment, setting.tasks, setting.tasks)
            workload = Workload.of_counts(base, tasks[: setting.tasks], counts, setting.tokens)
            for result in measure(candidates, workload, exact_base, arguments.threads, arguments.runs):
                yield {**asdict(setting), **result}


def table(results: Sequence[Mapping[str, object]]) -> str:
    """Write the ratios to the dense model as Markdown: of the fastest runs, of the medians in brackets."""
    setting = ["threads", "zeros", "batch", "rows to tasks"]
    rows = []
    for result in results:
        batch = f"{result['tasks']}x{result['tokens']}"
        cells = str(result["threads"]), str(result["zeros"]), batch, str(result["assignment"])
        rows.append([*cells, *ratio_cells(result, COLUMNS)])
    return markdown_table([*setting, *COLUMNS], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--figure", type=Path, help="PNG file to draw the results into")
    add_model_arguments(parser)
    parser.add_argument("--runs", type=int, default=5, help="runs of each candidate")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--batches",
        type=Setting.parse,
        nargs="+",
        default=[Setting.parse(batch) for batch in BATCHES],
        metavar="TASKSxTOKENS[:even|uniform|zipf][:ZEROS]",
        help="one row of TOKENS for each task, or as many rows dealt at random",
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="what to compare with")
    parser.add_argument(
        "--in-use", type=int, nargs="*", default=[1, 4, 16, 64], help="tasks in use for the second table"
    )
    parser.add_argument("--gigabytes", type=float, default=6.0, help="what the copies may take")


def main(arguments: argparse.Namespace) -> int:
    """Check and measure all settings, print both tables, write the JSON; return the exit code."""
    for package in ["matplotlib"] * bool(arguments.figure) + packages(arguments.peers):
        need(package)
    available()  # compiles the kernels
    before = torch.get_num_threads()
    base = make_base(arguments)
    with torch.inference_mode():
        exact_base = in_float64(base)
        results = list(measure_settings(base, exact_base, arguments))
        curve = list(
            in_use.measure(base, exact_base, arguments.in_use, max(arguments.threads), arguments.runs)
        )
    torch.set_num_threads(before)
    model = describe_model(base, arguments)
    print(f"{model['name']}: {model['weights']}. Times over that of one dense model.\n")
    print(table(results))
    print("\n" + "\n".join(f"- {name}: {text}" for name, text in COLUMNS.items()))
    if curve:
        print("\n" + in_use.table(curve))
    contents = {"model": model, "columns": COLUMNS, "results": results, "tasks_in_use": curve}
    report = write_report(arguments, "mixed_batch", **contents)
    if arguments.figure:
        figure.draw([report], arguments.figure)
    return 0
