"""Residency, its runs: a store, a server with little memory for masks, and one with enough."""

import argparse
import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.cases.residency.store import make_store
from benchmarks.cases.residency.traffic import Rate, Traffic, dealt, drawn, drive, rates, told, zipf
from benchmarks.errors import BenchmarkError
from benchmarks.peers.ours import cpu_precision
from lab.machine import processor_line
from lab.random_models import SHAPES, save_random_base
from lab.random_tasks import random_bundle
from lab.server_process import server_command, start_server
from lab.tables import markdown_table, write_report
from mask_store import human_bytes
from masking import Base, load_base, load_task
from masking.inference import ResidentWeights

ZIPF, SWEEP = "Zipf", "each task once"
DRAWN, DEALT = "drawn", "dealt"
_FEW = 16
_COLUMNS = {"batch_tasks": 1, "per_second": 0, "cpu_ms": 2}
_ZEROS = 0.05
_START_SECONDS = _FILL_SECONDS = 600.0
_QUEUE_SECONDS = 60.0  # nobody is refused where the machine is busy


@contextmanager
def serve(
    folder: Path, store: str, arguments: argparse.Namespace, *options: object
) -> Iterator[tuple[str, float]]:
    """Run a server on a store; gives its address, and the seconds from its start until it was ready."""
    command = server_command(
        *("--base", folder / "base", "--store", folder / store, "--port", 0, "--device", "cpu"),
        *("--precision", arguments.precision, "--threads", arguments.threads),
        *("--queue-seconds", _QUEUE_SECONDS, "--log-level", "info", *options),
    )
    started = time.monotonic()
    with start_server(command, folder / f"log-{store}", seconds=_START_SECONDS) as server:
        yield server.url, time.monotonic() - started


def measure_cold(folder: Path, base: Base, arguments: argparse.Namespace) -> dict[str, object]:
    """Let clients ask many more tasks than fit into memory."""
    names = [f"task-{number:05d}" for number in range(arguments.tasks)]
    make_store(folder / "many", base, names, arguments.sets)
    task = load_task(
        random_bundle(base, "any", _ZEROS, 0), base, ResidentWeights.of(base, arguments.precision)
    )
    budget = task.nbytes * arguments.ready
    with serve(folder, "many", arguments, "--mask-memory", budget) as (url, seconds):
        at_start = told(url)
        seen = {ZIPF: asyncio.run(drive(url, zipf(names, arguments.clients), arguments.seconds))}
        if arguments.sweep:
            seen[SWEEP] = asyncio.run(drive(url, dealt(names, arguments.clients), None))
    for way, one in seen.items():
        _check(way, one, budget)
    return {
        "tasks": len(names),
        "mask_memory_bytes": budget,
        "ready_seconds": seconds,
        "ready_at_start": at_start["maskserve_ready_tasks"],
        "process_bytes_at_start": at_start["process_resident_memory_bytes"],
        "traffic": {way: one.report() for way, one in seen.items()},
    }


def _check(way: str, seen: Traffic, budget: int) -> None:
    if seen.errors:
        raise BenchmarkError(f"{way}: {len(seen.errors)} requests were not answered: {seen.errors[0]}")
    if seen.most_bytes > budget:
        raise BenchmarkError(f"{way}: {seen.most_bytes:.0f} bytes of masks were held, not {budget}")


def measure_ready(folder: Path, base: Base, arguments: argparse.Namespace) -> dict[str, object]:
    """Compare traffic over many tasks, all of which are ready, with that over a few of them.

    Drawn: every client draws from all, so that few tasks come twice in a batch more often than many do, and a
    batch of many holds more tasks. Dealt: as many clients as there are few tasks, each with tasks of its own,
    so that a batch of either holds as many.
    """
    names = [f"task-{number:05d}" for number in range(arguments.all_ready)]
    make_store(folder / "ready", base, names, arguments.sets)
    with serve(folder, "ready", arguments) as (url, seconds):
        end = time.monotonic() + _FILL_SECONDS
        while told(url)["maskserve_ready_tasks"] < len(names):
            if time.monotonic() > end:
                raise BenchmarkError(f"not all of {len(names)} tasks are ready: is there memory for them?")
            time.sleep(0.2)
        few = names[:: max(1, len(names) // _FEW)][:_FEW]
        own = min(arguments.clients, len(few))
        ways = [drawn(few, arguments.clients), drawn(names, arguments.clients)]
        ways += [dealt(few, own), dealt(names, own)]
        found = asyncio.run(rates(url, ways, arguments.round_seconds, arguments.rounds))
    return {
        "tasks": len(names),
        "few": len(few),
        "ready_seconds": seconds,
        DRAWN: {"clients": arguments.clients, **_compared(*found[:2])},
        DEALT: {"clients": own, **_compared(*found[2:])},
    }


def _compared(few: Sequence[Rate], every: Sequence[Rate]) -> dict[str, object]:
    """Return medians of both, their ratios, and the ratio of each round."""
    middle = {
        what: [median(getattr(one, what) for one in way) for way in (few, every)]
        for what in ("per_second", "cpu_ms", "batch_tasks")
    }
    return {
        **middle,
        "ratio": middle["per_second"][1] / middle["per_second"][0],
        "ratios": [many.per_second / one.per_second for one, many in zip(few, every, strict=True)],
        "cpu_ratio": middle["cpu_ms"][1] / middle["cpu_ms"][0],
    }


def ready_table(result: Mapping[str, object]) -> str:
    """Write the comparison of all tasks with a few as Markdown."""
    rows = []
    for way in (DRAWN, DEALT):
        one = result[way]
        assert isinstance(one, dict)
        pairs = [" / ".join(f"{n:.{digits}f}" for n in one[what]) for what, digits in _COLUMNS.items()]
        spread = f"{one['ratio']:.2f} ({min(one['ratios']):.2f} to {max(one['ratios']):.2f})"
        rows.append([way, str(one["clients"]), *pairs, spread, f"{one['cpu_ratio']:.2f}"])
    head = ["tasks are", "clients", "tasks in a batch", "requests / s", "CPU ms of a request"]
    return markdown_table([*head, "ratio of the rates", "ratio of CPU"], rows)


def _first_line(result: Mapping[str, object]) -> str:
    memory = result["mask_memory_bytes"]
    assert isinstance(memory, int)
    return (
        f"{result['tasks']} tasks, {human_bytes(memory)} for masks: ready after "
        f"{result['ready_seconds']:.1f} s, with those of {result['ready_at_start']:.0f} in memory."
    )


def cold_table(result: Mapping[str, object]) -> str:
    """Write what clients saw as Markdown."""
    traffic, rows = result["traffic"], []
    assert isinstance(traffic, dict)
    for way, one in traffic.items():
        cells = [way, str(one["requests"]), str(one["errors"]), f"{one['hit_rate']:.1%}"]
        for state in ("ready_ms", "cold_ms"):
            times = one[state]
            cells.append("none" if times is None else f"{times['p50']:.1f} / {times['p99']:.1f}")
        cells += [human_bytes(int(one["most_mask_bytes"])), human_bytes(int(one["most_process_bytes"]))]
        rows.append(cells)
    head = ["traffic", "requests", "errors", "hit rate", "ready, p50 / p99 ms", "cold, p50 / p99 ms"]
    return markdown_table([*head, "masks held at most", "process at most"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--folder", type=Path, help="where encoder and stores are kept for the next run")
    parser.add_argument("--shape", choices=SHAPES, default="minilm", help="shape of the random encoder")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the store; 0: leave it out")
    parser.add_argument("--ready", type=int, default=500, help="how many of them fit into memory")
    parser.add_argument("--sets", type=int, default=100, help="sets of masks, each of which many tasks have")
    parser.add_argument("--clients", type=int, default=32, help="concurrent clients")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the Zipf traffic")
    parser.add_argument(
        "--sweep", action=argparse.BooleanOptionalAction, default=True, help="ask each task once, too"
    )
    parser.add_argument(
        "--all-ready", type=int, default=1000, help="tasks that are all ready; 0: leave it out"
    )
    parser.add_argument("--round-seconds", type=float, default=3.0, help="length of each of its measurements")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is made, in turn")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of the server")
    parser.add_argument("--precision", type=cpu_precision, default="fp32", help="fp32, bf16, int8 or auto")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print the figures, write the JSON; return the exit code."""
    with ExitStack() as opened:
        folder = arguments.folder or Path(opened.enter_context(TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "base").exists():
            save_random_base(arguments.shape, folder / "base")
        base = load_base(str(folder / "base"))
        print(f"{arguments.shape}, {arguments.precision}. On {processor_line()}.\n")
        cold = measure_cold(folder, base, arguments) if arguments.tasks else None
        if cold is not None:
            print(_first_line(cold) + "\n\n" + cold_table(cold), flush=True)
        ready = measure_ready(folder, base, arguments) if arguments.all_ready else None
    if ready is not None:
        print(f"\n{ready['few']} tasks / {ready['tasks']} tasks, all of them ready:\n\n{ready_table(ready)}")
    write_report(arguments, "residency", model=arguments.shape, cold=cold, ready=ready)
    return 0
