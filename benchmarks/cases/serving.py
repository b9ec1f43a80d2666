"""Serving under concurrent clients: HTTP against the engine alone, mixed batches against one batch per task.

Both are ratios of requests per second on the same mixed load: short texts, many tasks, every client with one
request at a time. The engine alone is called in this process; the server over HTTP is `python -m server` in a
process of its own, on the same store, with the same settings.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure.load import Call, HttpClient, Load, load
from lab.random_tasks import random_bundle
from lab.server_process import server_command, start_server
from lab.tables import markdown_table, write_report
from mask_store import MaskStore
from masking import Base, MaskedEncoder, TaskBatch, load_base
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
    service = build_service(settings, base=base, compute=None if mixed else _one_task_at_a_time(base))
    service.start()
    try:
        while service.why_not_ready() is not None:
            time.sleep(0.01)
        yield service
    finally:
        service.close()


def _one_task_at_a_time(base: Base) -> Callable[..., list[list[Floats]]]:
    encoder = MaskedEncoder(base)

    def compute(batch: Sequence[TaskBatch]) -> list[list[Floats]]:
        return [encoder.logits([one])[0] for one in batch]

    return compute


def direct(service: Service, requests: Requests) -> Call:
    """Return a client that calls the engine with requests that were read before."""
    ready = []
    for path, body in requests:
        served = service.registry.get(path.rpartition("/")[2])
        ready.append((served, parse_request(body, served.loaded)[0]))

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
    url: str,
    services: Mapping[str, Service],
    requests: Requests,
    arguments: argparse.Namespace,
) -> dict[str, dict[str, list[Load]]]:
    """Measure all ways in turn, `rounds` times: with one client, then with many."""
    calls = {name: direct(one, requests) for name, one in services.items()}

    async def run(name: str, count: int, seconds: float) -> Load:
        if name == HTTP:
            return await load_http(url, requests, count, seconds)
        return await load([calls[name]] * count, seconds)

    results: dict[str, dict[str, list[Load]]] = {}
    for count in (1, arguments.clients):
        found: dict[str, list[Load]] = {HTTP: [], **{name: [] for name in calls}}
        for name in found:
            await run(name, count, min(_WARM_SECONDS, arguments.seconds))
        for _ in range(arguments.rounds):
            for name, loads in found.items():
                loads.append(await run(name, count, arguments.seconds))
        results[str(count)] = found
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


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Write everything as Markdown."""
    rows = [
        [count, name, f"{one['rate_over_engine']:.2f}", f"{one['rate']:.0f}", f"{one['p50_ms']:.2f}"]
        for count, ways in results.items()
        for name, one in ways.items()
    ]
    return markdown_table(["clients", "way", "rate over the engine's", "requests/s", "p50 ms"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--base", required=True, help="folder or hub id of the encoder")
    parser.add_argument("--tasks", type=int, default=16, help="tasks in the mix")
    parser.add_argument("--clients", type=int, default=32, help="concurrent clients")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each server")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each way, in turn")


def main(arguments: argparse.Namespace) -> int:
    """Measure everything, print the table, write the JSON; return the exit code."""
    base = load_base(arguments.base)
    tasks = [f"task-{number}" for number in range(arguments.tasks)]
    with TemporaryDirectory() as folder:
        place = Path(folder) / "store"
        store = MaskStore.open(place, create=True)
        for number, task in enumerate(tasks):
            store.publish(random_bundle(base, task, ZEROS, number))
        common = {"base": arguments.base, "store": str(place), "device": "cpu", "threads": arguments.threads}
        options = [word for key, value in common.items() for word in (f"--{key}", value)]
        command = server_command("--port", 0, "--log-level", "info", *options)
        settings = Settings(**common)
        with (
            start_server(command, Path(folder) / "log") as server,
            engine_of(base, settings, mixed=True) as mixed,
            engine_of(base, settings, mixed=False) as per_task,
        ):
            services = {ENGINE: mixed, PER_TASK: per_task}
            loads = asyncio.run(measure(server.url, services, bodies(base, tasks), arguments))
    results = {count: summarise(ways) for count, ways in loads.items()}
    print(table(results))
    contents = {"model": Path(base.info.name).name, "tasks": arguments.tasks, "threads": arguments.threads}
    write_report(arguments, "serving", **contents, results=results)
    return 0
