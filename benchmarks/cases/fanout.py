"""Fan-out: one text for many tasks, against as many separate rows, and against as many requests over HTTP.

Below the first masked block one text is one row, whatever the number of tasks. The batch is computed in this
process, by the encoder alone; over HTTP the server runs in a process of its own, and the clients here.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.errors import BenchmarkError
from benchmarks.measure.load import HttpClient, Load, load
from benchmarks.measure.timing import take_turns
from benchmarks.peers.ours import cpu_precision
from lab.machine import processor_line
from lab.random_models import SHAPES, random_base, random_text, save_random_base
from lab.random_tasks import features_of, random_bundle, random_ids
from lab.server_process import server_command, start_server
from lab.tables import markdown_table, write_report
from mask_store import MaskStore
from masking import Base, MaskedEncoder, MaskSettings, TaskBatch, load_base, load_task
from masking.inference import ResidentWeights
from masking.kernels import Precision

SHARED, SEPARATE = "one text", "separate rows"
FAN_OUT, ROWS = "one body with tasks", "one body with rows"
IN_TURN, AT_ONCE = "a request per task, in turn", "a request per task, at once"
_ZEROS = 0.05
_TEXTS = 200
_SPECIAL_TOKENS = 2
_LARGEST_ERROR = {"fp32": 1e-5, "bf16": 1e-3, "int8": 1e-3}

Body = tuple[str, object]


def measure_batch(
    base: Base, precision: Precision, blocks: str, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """Compare one text for all tasks with as many texts, for each number of threads.

    Raises:
        BenchmarkError: A task answers otherwise in a batch than alone.
    """
    weights = ResidentWeights.of(base, precision)
    encoder, settings = MaskedEncoder(base, weights), MaskSettings(blocks=blocks)
    bundles = (random_bundle(base, f"task{n}", _ZEROS, n, settings=settings) for n in range(arguments.tasks))
    tasks = [load_task(bundle, base, weights) for bundle in bundles]
    texts = features_of(random_ids(base, arguments.tasks, arguments.tokens))
    shared = [TaskBatch(task, texts[:1]) for task in tasks]
    separate = [TaskBatch(task, [text]) for task, text in zip(tasks, texts, strict=True)]
    together = np.stack([logits[0] for logits in encoder.logits(shared)])
    alone = np.stack([encoder.logits([one])[0][0] for one in shared])
    error = float(np.abs(together - alone).max() / np.abs(alone).max())
    if error > _LARGEST_ERROR[precision]:
        raise BenchmarkError(f"{precision}, blocks {blocks}: logits differ by {error:.1e} of the largest")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        runs = {SHARED: lambda: encoder.logits(shared), SEPARATE: lambda: encoder.logits(separate)}
        times = take_turns(runs, arguments.runs)
        yield {
            "precision": precision,
            "blocks": blocks,
            "threads": threads,
            "error": error,
            "seconds": {name: {"min": one.best, "median": median(one.wall)} for name, one in times.items()},
            "ratios": times[SHARED].ratios(times[SEPARATE]),
        }


def batch_table(results: Sequence[Mapping[str, object]]) -> str:
    """Write the ratios of the fastest runs, of the medians in brackets, as Markdown."""
    rows = []
    for one in results:
        ratios, seconds = one["ratios"], one["seconds"]
        assert isinstance(ratios, dict) and isinstance(seconds, dict)
        cells = [str(one[name]) for name in ("precision", "blocks", "threads")]
        times = [f"{1000 * seconds[name]['min']:.1f}" for name in (SHARED, SEPARATE)]
        rows.append([*cells, f"{ratios['min']:.2f} ({ratios['median']:.2f})", *times, f"{one['error']:.0e}"])
    head = ["precision", "masked blocks", "threads", "one text over separate rows"]
    return markdown_table([*head, f"{SHARED}, ms", f"{SEPARATE}, ms", "error"], rows)


def bodies(tasks: Sequence[str], tokens: int) -> dict[str, list[list[Body]]]:
    """Return by way of asking the requests of each of some texts."""
    generator = np.random.default_rng(0)
    texts = [random_text(tokens - _SPECIAL_TOKENS, generator) for _ in range(_TEXTS)]
    each: list[list[Body]] = [[(f"/predict/{task}", {"inputs": text}) for task in tasks] for text in texts]
    return {
        FAN_OUT: [[("/predict", {"inputs": text, "tasks": list(tasks)})] for text in texts],
        ROWS: [[("/predict", {"inputs": [{"task": t, "inputs": text} for t in tasks]})] for text in texts],
        AT_ONCE: each,
        IN_TURN: each,
    }


class TextClient:
    """Asks all tasks about one text after another, in one way."""

    def __init__(self, way: str, clients: Sequence[HttpClient]) -> None:
        """Use `connect`."""
        self._clients, self._at_once = clients, way == AT_ONCE

    @classmethod
    async def connect(cls, url: str, way: str, texts: Sequence[Sequence[Body]]) -> "TextClient":
        """Open as many connections as requests of a text are sent at once."""
        if way != AT_ONCE:
            return cls(way, [await HttpClient.connect(url, [body for text in texts for body in text])])
        return cls(way, [await HttpClient.connect(url, by_task) for by_task in zip(*texts, strict=True)])

    async def ask(self, number: int, requests: int) -> None:
        """Ask about text `number`, which takes so many requests in turn."""
        if self._at_once:
            await asyncio.gather(*(client(number) for client in self._clients))
        else:
            for request in range(requests):
                await self._clients[0](number * requests + request)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()


async def measure_ways(
    url: str, ways: Mapping[str, Sequence[Sequence[Body]]], count: int, arguments: argparse.Namespace
) -> dict[str, list[Load]]:
    """Measure all ways in turn, with so many clients that each ask about one text after another."""
    loads: dict[str, list[Load]] = {way: [] for way in ways}
    for turn in range(arguments.rounds + 1):
        for way, texts in ways.items():
            clients = [await TextClient.connect(url, way, texts) for _ in range(count)]
            asks = [partial(client.ask, requests=len(texts[0])) for client in clients]
            one = await load(asks, arguments.seconds if turn else min(1.0, arguments.seconds))
            if turn:
                loads[way].append(one)
            for client in clients:
                await client.close()
    return loads


def measure_http(
    base: Base, precision: Precision, blocks: str, folder: Path, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """Measure a server on a store of its own, for each number of clients."""
    place = folder / f"{precision}-{blocks}"
    store, names = MaskStore.open(place / "store", create=True), [f"task{n}" for n in range(arguments.tasks)]
    for seed, name in enumerate(names):
        store.publish(random_bundle(base, name, _ZEROS, seed, settings=MaskSettings(blocks=blocks)))
    options = ("--threads", arguments.threads[0], "--precision", precision, "--queue-seconds", 60)
    given = ("--base", folder / "base", "--store", place / "store", "--port", 0, "--device", "cpu")
    with start_server(server_command(*given, *options, "--log-level", "info"), place / "log") as server:
        ways = bodies(names, arguments.tokens)
        for count in arguments.clients:
            loads = asyncio.run(measure_ways(server.url, ways, count, arguments))
            rates = {way: median(one.rate for one in each) for way, each in loads.items()}
            yield {
                "precision": precision,
                "blocks": blocks,
                "clients": count,
                "texts_per_second": rates,
                "p50_ms": {way: 1e3 * median(one.p50 for one in each) for way, each in loads.items()},
                "over": {way: rates[FAN_OUT] / rate for way, rate in rates.items()},
            }


def http_table(results: Sequence[Mapping[str, object]]) -> str:
    """Write texts per second, and how many times as many one body with tasks has, as Markdown."""
    rows = []
    for one in results:
        rates, over = one["texts_per_second"], one["over"]
        assert isinstance(rates, dict) and isinstance(over, dict)
        cells = [str(one[name]) for name in ("precision", "blocks", "clients")]
        others = [f"{rates[way]:.1f} ({over[way]:.2f})" for way in (ROWS, AT_ONCE, IN_TURN)]
        rows.append([*cells, f"{rates[FAN_OUT]:.1f}", *others])
    return markdown_table(["precision", "masked blocks", "clients", FAN_OUT, ROWS, AT_ONCE, IN_TURN], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--shape", choices=SHAPES, default="bert-base", help="shape of the random encoder")
    parser.add_argument("--tasks", type=int, default=16, help="tasks that are asked about a text")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a text")
    parser.add_argument("--blocks", nargs="+", default=["2-11", "8-11"], help="masked blocks of all tasks")
    parser.add_argument("--runs", type=int, default=9, help="runs of each batch")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1], help="compute threads; over HTTP the first number"
    )
    parser.add_argument(
        "--precision", nargs="+", type=cpu_precision, default=["fp32"], help="fp32, bf16, int8 or auto"
    )
    parser.add_argument(
        "--clients", type=int, nargs="*", default=[1, 8], help="clients over HTTP; none: leave it out"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement over HTTP")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way, in turn")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write the JSON; return the exit code."""
    before, base = torch.get_num_threads(), random_base(arguments.shape)
    settings = list(product(arguments.precision, arguments.blocks))
    batches = [one for setting in settings for one in measure_batch(base, *setting, arguments)]
    torch.set_num_threads(before)
    print(f"{base.info.name}, {arguments.tasks} tasks, {arguments.tokens} tokens. On {processor_line()}.\n")
    print(batch_table(batches))
    over_http: list[dict[str, object]] = []
    if arguments.clients:
        with TemporaryDirectory() as place:
            folder = Path(place)
            save_random_base(arguments.shape, folder / "base")
            saved = load_base(str(folder / "base"))
            for setting in settings:
                over_http += measure_http(saved, *setting, folder, arguments)
        print(f"\nTexts per second, all tasks answered (over it: {FAN_OUT}):\n")
        print(http_table(over_http))
    model = {"name": base.info.name, "tasks": arguments.tasks, "tokens": arguments.tokens}
    write_report(arguments, "fanout", model=model, batch=batches, http=over_http)
    return 0
