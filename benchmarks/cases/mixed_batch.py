"""Mixed batch: rows of many tasks in one batch, ours against dense models, copies, adapters, naive masking.

All candidates of a precision compute the same rows in turn; each one's time is divided by that of ONE dense
model on the whole batch, in the fastest engine of that precision. What computes our masks or the dense model
is checked against float64 before anything is timed. A second table shows how the throughput changes as more
and more tasks are in use.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from statistics import median

import torch

from benchmarks.cases import figure, in_use
from benchmarks.errors import BenchmarkError
from benchmarks.measure.timing import Times, take_turns
from benchmarks.peers.candidates import Candidates, Exact, Exports
from benchmarks.peers.columns import (
    COLUMNS,
    DENSE,
    KERNEL,
    PEERS,
    PRECISIONS,
    REFERENCE,
    TORCH,
    Precision,
    columns,
    fastest_dense,
    packages,
)
from benchmarks.peers.openvino_model import need_silently
from lab.machine import processor_line
from lab.random_models import add_model_arguments, describe_model, make_base
from lab.random_tasks import RandomTask, Workload, deal_rows, random_tasks
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
    candidates: Candidates, workload: Workload, exact: Exact, threads: int, runs: int
) -> dict[str, object]:
    """Measure errors, seconds and ratios of one batch."""
    torch.set_num_threads(threads)
    ready, errors = candidates.ready(workload).checked(exact)
    times = take_turns(ready.runs, runs)
    dense = fastest_dense({name: one.best for name, one in times.items()})
    return {
        "precision": ready.precision,
        "threads": threads,
        "tasks_in_batch": len(workload.tasks),
        "errors": errors,
        "seconds": {name: {"min": one.best, "median": median(one.wall)} for name, one in times.items()},
        "dense": dense,
        "ratios": _ratios(times, dense),
        "ratios_to_torch_fp32": _ratios(times, REFERENCE if REFERENCE in times else TORCH),
        "ratios_to_kernel": _ratios(times, KERNEL) if KERNEL in times else {},
        "skipped": dict(ready.skipped),
    }


def _ratios(times: Mapping[str, Times], bound: str) -> dict[str, dict[str, float]]:
    return {name: one.ratios(times[bound]) for name, one in times.items()}


def measure_settings(exports: Exports, arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Measure all rows of the tables; those of one share of zeros have the same tasks."""
    base = exports.base
    ordered = sorted(arguments.batches, key=lambda setting: setting.zeros)
    for zeros, group in groupby(ordered, key=lambda setting: setting.zeros):
        settings = list(group)
        tasks = random_tasks(base, max(setting.tasks for setting in settings), zeros)
        workloads = [_workload(base, tasks, setting) for setting in settings]
        exact = [exports.exact_logits(workload) for workload in workloads]
        for precision, threads in product(arguments.precision, arguments.threads):
            wanted = arguments.dense + arguments.peers
            candidates = Candidates(exports, precision, wanted, arguments.gigabytes, threads)
            for setting, workload, logits in zip(settings, workloads, exact, strict=True):
                yield asdict(setting) | measure(candidates, workload, logits, threads, arguments.runs)


def _workload(base: Base, tasks: list[RandomTask], setting: Setting) -> Workload:
    counts = deal_rows(setting.assignment, setting.tasks, setting.tasks)
    return Workload.of_counts(base, tasks[: setting.tasks], counts, setting.tokens)


def table(results: Sequence[Mapping[str, object]], names: Sequence[str]) -> str:
    """Write the ratios to the dense model as Markdown: of the fastest runs, of the medians in brackets."""
    setting = ["threads", "zeros", "batch", "rows to tasks", "fastest dense", "its time over torch fp32"]
    rows = []
    for result in results:
        batch, dense = f"{result['tasks']}x{result['tokens']}", str(result["dense"])
        over_torch = {"ratios": result["ratios_to_torch_fp32"], "skipped": {}}
        cells = str(result["threads"]), str(result["zeros"]), batch, str(result["assignment"]), dense
        rows.append([*cells, *ratio_cells(over_torch, [dense]), *ratio_cells(result, names)])
    return markdown_table([*setting, *names], rows)


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
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["fp32"],
        help="a table for each; all candidates of a table compute in its precision",
    )
    parser.add_argument(
        "--dense",
        nargs="+",
        choices=DENSE,
        default=list(DENSE),
        help="engines of the one dense model; ratios are over the fastest",
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="what to compare with")
    parser.add_argument(
        "--in-use", type=int, nargs="*", default=[1, 4, 16, 64], help="tasks in use for the second table"
    )
    parser.add_argument("--gigabytes", type=float, default=6.0, help="what all copies together may take")


def main(arguments: argparse.Namespace) -> int:
    """Check and measure all settings, print the tables, write the JSON; return the exit code."""
    precisions = arguments.precision = list(dict.fromkeys(arguments.precision))
    for package in ["matplotlib"] * bool(arguments.figure) + _packages(precisions, arguments):
        need_silently(package)
    available()  # compiles the kernels
    before = torch.get_num_threads()
    base = make_base(arguments)
    with torch.inference_mode():
        exports = Exports(base, random_tasks(base, 1, 0.0)[0])
        results = list(measure_settings(exports, arguments))
        curve = [point for precision in precisions for point in in_use.measure(exports, precision, arguments)]
    torch.set_num_threads(before)
    model = describe_model(base, arguments)
    print(f"{model['name']}: {model['weights']}. On {processor_line()}.")
    for precision in precisions:
        _print_tables(precision, results, curve, arguments)
    texts = {name: column.text for name, column in COLUMNS.items()}
    contents = {"model": model, "columns": texts, "results": results, "tasks_in_use": curve}
    report = write_report(arguments, "mixed_batch", **contents)
    if arguments.figure:
        figure.draw([report], arguments.figure)
    return 0


def _packages(precisions: Sequence[Precision], arguments: argparse.Namespace) -> list[str]:
    """Return the packages that all precisions need.

    Raises:
        BenchmarkError: A precision has no dense model among `--dense`.
    """
    for precision in precisions:
        if not {*columns(precision, arguments.dense)} & {*DENSE}:
            raise BenchmarkError(f"no dense model in {precision} by {', '.join(arguments.dense)}")
    wanted = arguments.dense + arguments.peers
    return [package for precision in precisions for package in packages(precision, wanted)]


def _print_tables(
    precision: Precision,
    results: Sequence[Mapping[str, object]],
    curve: Sequence[Mapping[str, object]],
    arguments: argparse.Namespace,
) -> None:
    names = columns(precision, arguments.dense + arguments.peers)
    print(f"\n{precision}: times over that of one dense model, the fastest engine's.\n")
    print(table([result for result in results if result["precision"] == precision], names))
    print("\n" + "\n".join(f"- {name}: {COLUMNS[name].text}" for name in names))
    points = [point for point in curve if point["precision"] == precision]
    if points:
        print("\n" + in_use.table(points))
