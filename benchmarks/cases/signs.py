"""Signs: batches of finetuned copies as one bit per weight, beside as many masks and one dense model.

All candidates compute the same rows in turn, in one precision. A sign task costs a second product in each
layer, and biases and LayerNorms of its own; the ratio over masks is what that takes.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.cases.mixed_batch import Setting
from benchmarks.measure.timing import take_turns
from benchmarks.peers import dense
from benchmarks.peers.dense import Run
from benchmarks.peers.ours import Ours, cpu_precision
from lab.machine import processor_line
from lab.random_models import add_model_arguments, describe_model, make_base
from lab.random_tasks import Workload, random_signs, random_tasks
from lab.tables import markdown_table, write_report
from masking import Base
from masking.kernels import Precision

DENSE, PLAIN, MASKS, SIGNS, MIXED = "torch", "unmasked_kernel", "masks", "signs", "half masks, half signs"
_ZEROS = 0.05


def candidates(ours: Ours, base: Base, setting: Setting, precision: Precision) -> Mapping[str, Run]:
    """Make the ways to compute a batch of one row for each task."""
    (task,) = random_tasks(base, 1, _ZEROS)
    tasks, counts = [task] * setting.tasks, [1] * setting.tasks
    workload = Workload.of_counts(base, tasks, counts, setting.tokens)
    masks = [task.bundle] * setting.tasks  # each is loaded into memory of its own
    signs = [random_signs(base, "signs", 0)] * setting.tasks
    half = setting.tasks // 2
    own = base if precision != "bf16" else dense.in_dtype(base, torch.bfloat16)
    plain = Workload.of_counts(own, tasks, counts, setting.tokens)
    return {
        DENSE: dense.dense(plain, task),
        PLAIN: ours.ready_without_masks(workload, task),
        MASKS: ours.ready_tasks(masks, workload),
        SIGNS: ours.ready_tasks(signs, workload),
        MIXED: ours.ready_tasks([*masks[:half], *signs[half:]], workload),
    }


def measure(base: Base, arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Measure every batch in every precision."""
    for precision in arguments.precision:
        ours = Ours(base, precision)
        for setting in arguments.batches:
            runs = candidates(ours, base, setting, precision)
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                times = take_turns(runs, arguments.runs)
                yield {
                    "precision": precision,
                    "threads": threads,
                    "tasks": setting.tasks,
                    "tokens": setting.tokens,
                    "seconds": {
                        name: {"min": one.best, "median": median(one.wall)} for name, one in times.items()
                    },
                    "ratios": {
                        over: {name: one.best / times[over].best for name, one in times.items()}
                        for over in (DENSE, MASKS)
                    },
                }


def table(results: Sequence[Mapping[str, object]]) -> str:
    """Write milliseconds, and the ratios of the fastest runs, as Markdown."""
    names = [DENSE, PLAIN, MASKS, SIGNS, MIXED]
    rows = []
    for result in results:
        ratios, seconds = result["ratios"], result["seconds"]
        assert isinstance(ratios, dict)
        assert isinstance(seconds, dict)
        cells = [str(result["precision"]), str(result["threads"]), f"{result['tasks']}x{result['tokens']}"]
        cells += [f"{1000 * seconds[name]['min']:.1f}" for name in names]
        rows.append([*cells, f"{ratios[MASKS][SIGNS]:.2f}", f"{ratios[DENSE][SIGNS]:.2f}"])
    head = ["precision", "threads", "batch", *(f"{name}, ms" for name in names)]
    return markdown_table([*head, "signs over masks", "signs over torch"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_model_arguments(parser)
    parser.add_argument("--runs", type=int, default=5, help="runs of each candidate")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--precision", nargs="+", type=cpu_precision, default=["fp32"], help="fp32, bf16, int8 or auto"
    )
    parser.add_argument(
        "--batches",
        type=Setting.parse,
        nargs="+",
        default=[Setting.parse("16x32")],
        metavar="TASKSxTOKENS",
        help="one row of TOKENS for each task",
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON; return the exit code."""
    before = torch.get_num_threads()
    base = make_base(arguments)
    with torch.inference_mode():
        results = list(measure(base, arguments))
    torch.set_num_threads(before)
    model = describe_model(base, arguments)
    print(f"{model['name']}: {model['weights']}. On {processor_line()}.\n")
    print(table(results))
    write_report(arguments, "signs", model=model, results=results)
    return 0
