"""Swap: the time from publishing a version to its first answer, and the cost of changing between tasks.

Everything happens in this process, as in the server: the store is a local folder; a version is noticed, read,
checked and made ready, and answers the next request. The server looks at its store at intervals of its own
setting, which come on top.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from benchmarks.measure.timing import take_turns
from benchmarks.peers.ours import Ours, cpu_precision
from lab.random_models import add_model_arguments, describe_model, make_base
from lab.random_tasks import Workload, features_of, random_bundle, random_ids, random_tasks
from lab.tables import markdown_table, write_report
from mask_store import MaskBundle, MaskStore
from mask_store.store.records import bundle_path
from masking import Base, Features, LoadedTask, load_task
from masking.kernels import available

TASK, ZEROS = "swapped", 0.05
TOTAL = "published to first answer"
STAY, CHANGE = "one task", "two tasks in turn"
_BATCHES_PER_RUN = 4

T = TypeVar("T")


class Publisher:
    """Publishes new versions of a task and times the way to their first answer, as a whole and in parts."""

    def __init__(self, base: Base, ours: Ours, place: Path, features: list[Features]) -> None:
        """Create a store at `place`; `features` are the request."""
        self._base, self._place, self._features = base, place, features
        self._store, self._ours = MaskStore.open(place, create=True), ours

    def publish(self, version: int) -> dict[str, float]:
        """Measure the seconds of each step for one more version with random masks."""
        self._store.publish(random_bundle(self._base, TASK, ZEROS, version, compress=True))
        total, (first, loaded) = _timed(self._notice_and_answer)
        warm = min(self._answer(loaded) for _ in range(3))
        return {TOTAL: total, **self._preparation(), "first forward": first, "of which a warm one": warm}

    def _notice_and_answer(self) -> tuple[float, LoadedTask]:
        version = self._store.snapshot().current[TASK]
        loaded = load_task(self._store.load(version), self._base, self._ours.weights)
        return self._answer(loaded), loaded

    def _answer(self, loaded: LoadedTask) -> float:
        return _timed(lambda: self._ours.answer(loaded, self._features))[0]

    def _preparation(self) -> dict[str, float]:
        """Measure the steps before the forward, each once more by itself."""
        noticing, snapshot = _timed(self._store.snapshot)
        path = self._place / bundle_path(TASK, snapshot.current[TASK].digest)
        reading, data = _timed(path.read_bytes)
        checking, bundle = _timed(lambda: MaskBundle.from_bytes(data))
        readying, _ = _timed(lambda: load_task(bundle, self._base, self._ours.weights))
        return {
            "notice": noticing,
            "read": reading,
            "check": checking,
            "check against the base, decode and ready the masks": readying,
        }


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure_publish(base: Base, ours: Ours, tokens: int, runs: int) -> dict[str, dict[str, float]]:
    """Measure the median, best and worst seconds of each step over `runs` versions, after a warm-up."""
    with TemporaryDirectory() as folder:
        publisher = Publisher(base, ours, Path(folder) / "store", features_of(random_ids(base, 1, tokens)))
        taken = [publisher.publish(version) for version in range(runs + 1)][1:]
    steps = {step: [one[step] for one in taken] for step in taken[0]}
    return {
        step: {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
        for step, seconds in steps.items()
    }


def measure_changes(
    base: Base, ours: Ours, rows: Sequence[int], tokens: int, runs: int
) -> Iterator[dict[str, object]]:
    """Measure batches of two resident tasks in turn over batches of one, for each number of rows."""
    tasks = random_tasks(base, 2, ZEROS)
    for count in rows:
        first, second = (ours.ready(Workload.of_counts(base, [task], [count], tokens)) for task in tasks)
        half = _BATCHES_PER_RUN // 2
        times = take_turns(
            {STAY: _all_of([first, first] * half), CHANGE: _all_of([first, second] * half)}, runs
        )
        seconds = {name: one.best / _BATCHES_PER_RUN for name, one in times.items()}
        ratio = times[CHANGE].ratios(times[STAY])
        yield {"rows": count, "tokens": tokens, "seconds": seconds, "ratio": ratio}


def _all_of(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def publish_table(steps: Mapping[str, Mapping[str, float]]) -> str:
    """Write the milliseconds of each step as Markdown."""
    rows = [
        [step, *(f"{1e3 * one[how]:.1f}" for how in ("median", "min", "max"))] for step, one in steps.items()
    ]
    return markdown_table(["step", "median ms", "min", "max"], rows)


def changes_table(results: Sequence[Mapping[str, object]]) -> str:
    """Write the ratios of fastest and median runs as Markdown."""
    rows = []
    for result in results:
        ratio = result["ratio"]
        assert isinstance(ratio, dict)
        batch = f"{result['rows']}x{result['tokens']}"
        rows.append([batch, f"{ratio['min']:.3f}", f"{ratio['median']:.3f}"])
    return markdown_table(["rows x tokens", f"{CHANGE} / {STAY}: min", "median"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_model_arguments(parser)
    parser.add_argument("--runs", type=int, default=9, help="versions to publish, and runs of each candidate")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a row")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16], help="rows of the batches in turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--precision", type=cpu_precision, default="fp32", help="what is multiplied in (fp32)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure both, print the tables, write the JSON; return the exit code."""
    available()  # compiles the kernels
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    base = make_base(arguments)
    ours = Ours(base, arguments.precision)
    steps = measure_publish(base, ours, arguments.tokens, arguments.runs)
    changes = list(measure_changes(base, ours, arguments.rows, arguments.tokens, arguments.runs))
    torch.set_num_threads(before)
    model = describe_model(base, arguments)
    print(f"{model['name']}, {arguments.precision}: {model['weights']}.\n")
    print(publish_table(steps), changes_table(changes), sep="\n\n")
    facts = {"model": model, "precision": arguments.precision, "threads": arguments.threads}
    write_report(arguments, "swap", **facts, publish=steps, changes=changes)
    return 0
