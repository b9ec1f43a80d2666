"""Resident bytes per added task, measured in a fresh process, and the counted bytes of its tensors.

The process loads the encoder and one task and answers with it; then it loads more tasks and answers with
each. What its resident memory grew by is divided by their number: masks, heads, manifests, and all else that
stays.
Linux with glibc only: resident memory is read from /proc, once freed memory was given back to the system.
"""

import argparse
import ctypes
import gc
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.errors import BenchmarkError
from benchmarks.peers.adapters import RANK, adapter_bytes
from benchmarks.peers.ours import Ours, counted_bytes, cpu_precision
from lab.random_models import add_model_arguments, describe_model, make_base
from lab.random_tasks import features_of, random_bundle, random_ids
from lab.tables import markdown_table, write_report
from mask_store import MaskStore
from masking import Base, LoadedTask, load_task

ZEROS, TOKENS = 0.05, 32
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident bytes of this process, once what it has freed is given back.

    Raises:
        BenchmarkError: The system does not provide it.
    """
    if not _STATM.exists():
        raise BenchmarkError(f"resident memory is read from {_STATM}, which this system does not have")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load_tasks(arguments: argparse.Namespace, place: str, count: int) -> dict[str, float]:
    """Load and use `count` more tasks of a store than the first; to be called in a fresh process.

    Args:
        arguments: They name the encoder.
        place: The store, of more than `count` tasks.
        count: Tasks to load.

    Returns:
        Resident bytes before and after, and per task the resident and the counted bytes; resident and counted
        bytes of the base's layers in the precision, which are none in fp32.
    """
    base, store = make_base(arguments), MaskStore.open(place)
    cpu_precision("auto")  # imports what asks the processor, which takes memory, too
    small = resident_bytes()
    ours, features = Ours(base, arguments.precision), features_of(random_ids(base, 1, TOKENS))
    narrow = resident_bytes() - small
    names = store.tasks()

    def load(name: str) -> LoadedTask:
        task = load_task(store.load(name), base, ours.weights)
        ours.answer(task, features)
        return task

    tasks = [load(names[0])]
    before = resident_bytes()
    tasks += [load(name) for name in names[1 : count + 1]]
    after = resident_bytes()
    return {
        "tasks": count,
        "resident_before": before,
        "resident_after": after,
        "resident_per_task": (after - before) / count,
        "counted_per_task": sum(map(counted_bytes, tasks[1:])) / count,
        "resident_lines": narrow,
        "counted_lines": ours.weights.nbytes,
    }


def measure(arguments: argparse.Namespace, base: Base) -> list[dict[str, float]]:
    """Measure each number of tasks in a fresh process."""
    with TemporaryDirectory() as folder:
        store = MaskStore.open(folder, create=True)
        for index in range(max(arguments.tasks) + 1):
            store.publish(random_bundle(base, f"task{index}", ZEROS, index, compress=True))
        results = []
        for count in arguments.tasks:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                results.append(process.submit(load_tasks, arguments, folder, count).result())
    return results


def other_bytes(base: Base) -> dict[str, float]:
    """Return the bytes of a task's tensors by other methods."""
    return {
        "a finetuned copy": random_bundle(base, "copy", ZEROS, 0).manifest.finetuned_bytes,
        f"a LoRA adapter of rank {RANK} on the same layers": adapter_bytes(base),
    }


def table(results: Sequence[Mapping[str, float]], others: Mapping[str, float]) -> str:
    """Write megabytes (10^6 bytes) per task as Markdown."""
    rows = [
        [
            f"ours, {result['tasks']} more tasks",
            f"{result['resident_per_task'] / 1e6:.2f}",
            f"{result['counted_per_task'] / 1e6:.2f}",
        ]
        for result in results
    ]
    rows += [[name, "", f"{size / 1e6:.2f}"] for name, size in others.items()]
    rows += [
        [
            "the base once more, for all tasks",
            f"{max(result['resident_lines'] for result in results) / 1e6:.2f}",
            f"{max(result['counted_lines'] for result in results) / 1e6:.2f}",
        ]
    ]
    return markdown_table(["per task", "resident MB", "counted MB"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_model_arguments(parser)
    parser.add_argument("--tasks", type=int, nargs="+", default=[8, 64], help="tasks to add to the first")
    parser.add_argument(
        "--precision", type=cpu_precision, default="fp32", help="what the base is held in, too"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure all numbers of tasks, print the table, write the JSON; return the exit code."""
    resident_bytes()
    base = make_base(arguments)
    results, others = measure(arguments, base), other_bytes(base)
    model = describe_model(base, arguments)
    print(f"{model['name']}, {arguments.precision}: {model['weights']}.\n")
    print(table(results, others))
    write_report(
        arguments, "memory", model=model, precision=arguments.precision, results=results, beside=others
    )
    return 0
