"""Serving under concurrent clients: HTTP against the engine alone, mixed batches against one batch per task.

Both are ratios of requests per second on the same mixed load: short texts, many tasks, every client with one
request at a time. The engine alone is called in this process; the server over HTTP is `python -m server` in a
process of its own, on the same store, with the same settings. Several precisions take turns.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure.load import Call, HttpClient, Load, load
from benchmarks.peers.ours import cpu_precision
from lab.machine import processor_line
from lab.random_tasks import random_bundle
from lab.server_process import server_command, start_server
from lab.tables import markdown_table, write_report
from mask_store import MaskStore
from masking import Base, MaskedEncoder, TaskBatch, load_base
from masking.inference import ResidentWeights
from masking.kernels import Precision
from masking.tasks.predictions import Floats
from server.build import build_service
from server.engine.pending import Timings
from server.http.parsing import parse_request
from server.service import Service
from server.settings import Settings

HTTP, ENGINE, PER_TASK = "HTTP", "engine", "engine, one batch per task"
ZEROS = 0.06
_FEWEST_WORDS, _MOST_WORDS, _TEXTS = 4, 16, 64
_WARM_SECONDS = 1.0
_QUEUE_SECONDS = 60.0  # nobody is refused where the machine is busy

Requests = Sequence[tuple[str, dict[str, str]]]


def bodies(base: Base, tasks: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return paths and bodies of a fixed mixed load: short random texts, tasks drawn at random."""
    generator = np.random.default_rng(0)
    words = sorted(word for word in base.tokenizer.get_vocab() if word.isascii() and word.isalpha())
    texts = (
        " ".join(generator.choice(words, generator.integers(_FEWEST_WORDS, _MOST_WORDS + 1)))
        for _ in range(_TEXTS * len(tasks))
    )
    return [(f"/predict/{generator.choice(tasks)}", {"inputs": text}) for text in texts]


@contextmanager
def engine_of(base: Base, settings: Settings, *, mixed: bool) -> Iterator[Service]:
    """Run a ready service in this process."""
    compute = None if mixed else _one_task_at_a_time(base, settings.precision)
    service = build_service(settings, base=base, compute=compute)
    service.start()
    try:
        while service.why_not_ready() is not None:
            time.sleep(0.01)
        yield service
    finally:
        service.close()


def _one_task_at_a_time(base: Base, precision: str) -> Callable[..., list[list[Floats]]]:
    encoder = MaskedEncoder(base, ResidentWeights.of(base, precision))

    def compute(batch: Sequence[TaskBatch]) -> list[list[Floats]]:
        return [encoder.logits([one])[0] for one in batch]

    return compute


@dataclass(frozen=True)
class Served:
    """What is measured of one precision.

    Attributes:
        url: Of the server in a process of its own.
        engines: Services in this process, by the way they compute.
    """

    url: str
    engines: Mapping[str, Service]


@contextmanager
def serve(base: Base, precision: Precision, common: Mapping[str, object], folder: Path) -> Iterator[Served]:
    """Run the server and both engines in a precision, with settings that all precisions have in common."""
    given = {**common, "device": "cpu", "precision": precision, "queue_seconds": _QUEUE_SECONDS}
    options = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]
    command = server_command("--port", 0, "--log-level", "info", *options)
    settings = Settings.model_validate(given)
    with (
        start_server(command, folder / f"log-{precision}") as server,
        engine_of(base, settings, mixed=True) as mixed,
        engine_of(base, settings, mixed=False) as per_task,
    ):
        yield Served(server.url, {ENGINE: mixed, PER_TASK: per_task})


def direct(service: Service, requests: Requests) -> Call:
    """Return a client that calls the engine with requests that were read before."""
    ready = []
    for path, body in requests:
        served = service.registry.get(path.rpartition("/")[2])
        ready.append((served, parse_request(body, served.loaded, service.limits)[0]))

    async def call(number: int) -> None:
        await service.predictor.predict(*ready[number % len(ready)], "benchmark", Timings())

    return call


async def load_http(url: str, requests: Requests, count: int, seconds: float) -> Load:
    """Measure clients that connect anew, since a server closes idle connections."""
    clients = [await HttpClient.connect(url, requests) for _ in range(count)]
    try:
        return await load(clients, seconds)
    finally:
        for client in clients:
            await client.close()


async def measure(
    served: Mapping[Precision, Served], requests: Requests, arguments: argparse.Namespace
) -> dict[Precision, dict[str, dict[str, list[Load]]]]:
    """Measure all ways of all precisions in turn, `rounds` times: with one client, then with many.

    Returns:
        By precision, number of clients and way.
    """
    calls = {
        (precision, name): direct(service, requests)
        for precision, one in served.items()
        for name, service in one.engines.items()
    }

    async def run(precision: Precision, name: str, count: int, seconds: float) -> Load:
        if name == HTTP:
            return await load_http(served[precision].url, requests, count, seconds)
        return await load([calls[precision, name]] * count, seconds)

    results: dict[Precision, dict[str, dict[str, list[Load]]]] = {precision: {} for precision in served}
    ways = [(precision, name) for precision, one in served.items() for name in (HTTP, *one.engines)]
    for count in (1, arguments.clients):
        for precision, name in ways:
            results[precision].setdefault(str(count), {})[name] = []
            await run(precision, name, count, min(_WARM_SECONDS, arguments.seconds))
        for _ in range(arguments.rounds):
            for precision, name in ways:
                loads = results[precision][str(count)][name]
                loads.append(await run(precision, name, count, arguments.seconds))
    return results


def summarise(loads: Mapping[str, Sequence[Load]]) -> dict[str, dict[str, float]]:
    """Return median requests per second and milliseconds of each way, and its rate over the engine's."""
    rates = {name: median(one.rate for one in ways) for name, ways in loads.items()}
    return {
        name: {
            "rate": rates[name],
            "p50_ms": 1e3 * median(one.p50 for one in ways),
            "rate_over_engine": rates[name] / rates[ENGINE],
        }
        for name, ways in loads.items()
    }


def table(results: Mapping[Precision, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> str:
    """Write everything as Markdown; the first precision is what the others are compared with."""
    first = next(iter(results))
    rows = [
        [
            *(precision, count, name),
            f"{one['rate_over_engine']:.2f}",
            f"{one['rate'] / results[first][count][name]['rate']:.2f}",
            *(f"{one['rate']:.0f}", f"{one['p50_ms']:.2f}"),
        ]
        for precision, counts in results.items()
        for count, ways in counts.items()
        for name, one in ways.items()
    ]
    titles = ["precision", "clients", "way", "rate over the engine's", f"rate over {first}"]
    return markdown_table([*titles, "requests/s", "p50 ms"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--base", required=True, help="folder or hub id of the encoder")
    parser.add_argument("--tasks", type=int, default=16, help="tasks in the mix")
    parser.add_argument("--clients", type=int, default=32, help="concurrent clients")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each server")
    parser.add_argument(
        "--precision", nargs="+", type=cpu_precision, default=["fp32"], help="precisions in turn (fp32)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each way, in turn")


def main(arguments: argparse.Namespace) -> int:
    """Measure everything, print the table, write the JSON; return the exit code."""
    base = load_base(arguments.base)
    tasks = [f"task-{number}" for number in range(arguments.tasks)]
    with TemporaryDirectory() as place, ExitStack() as running:
        folder = Path(place)
        store = MaskStore.open(folder / "store", create=True)
        for number, task in enumerate(tasks):
            store.publish(random_bundle(base, task, ZEROS, number))
        common = {"base": arguments.base, "store": str(folder / "store"), "threads": arguments.threads}
        served = {one: running.enter_context(serve(base, one, common, folder)) for one in arguments.precision}
        loads = asyncio.run(measure(served, bodies(base, tasks), arguments))
    results = {
        precision: {count: summarise(ways) for count, ways in counts.items()}
        for precision, counts in loads.items()
    }
    print(f"{processor_line()}; {arguments.threads} compute threads.\n")
    print(table(results))
    contents = {"model": Path(base.info.name).name, "tasks": arguments.tasks, "threads": arguments.threads}
    write_report(arguments, "serving", **contents, results=results)
    return 0
