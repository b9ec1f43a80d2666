"""Traffic for many tasks, and what the server tells of its memory meanwhile."""

import asyncio
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import median

import httpx
import numpy as np

from benchmarks.measure.load import Call, HttpClient, load
from lab.random_models import random_text

_TEXTS, _WORDS = 64, 12
_DRAWS = 4000  # of each client, again from the start after the last
_LOOK_SECONDS = 1.0
_COLD = b"\r\nx-mask-load-time:"
_CPU = "process_cpu_seconds_total"
_BATCHES, _BATCH_TASKS = "maskserve_batch_tasks_count", "maskserve_batch_tasks_sum"

Body = tuple[str, object]


@dataclass
class Traffic:
    """What clients saw, and what the server told.

    Attributes:
        seconds: How long it took.
        ready: Seconds of each request whose masks were in memory.
        cold: Of each that had to wait for them.
        errors: Answers that were none.
        most_bytes: Bytes of masks that were held at most.
        most_rss: Bytes of the process at most.
        counted: By name, how far the server's counters went on.
    """

    seconds: float = 0.0
    ready: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    most_bytes: float = 0.0
    most_rss: float = 0.0
    counted: dict[str, float] = field(default_factory=dict)

    def report(self) -> dict[str, object]:
        """Return it in numbers, ready for JSON."""
        hits, misses = (
            self.counted[f'maskserve_mask_lookups_total{{result="{r}"}}'] for r in ("hit", "miss")
        )
        return {
            "requests": len(self.ready) + len(self.cold),
            "errors": len(self.errors),
            "requests_per_second": (len(self.ready) + len(self.cold)) / self.seconds,
            "hit_rate": hits / max(1.0, hits + misses),
            "ready_ms": _percentiles(self.ready),
            "cold_ms": _percentiles(self.cold),
            "evictions": self.counted["maskserve_mask_evictions_total"],
            "most_mask_bytes": self.most_bytes,
            "most_process_bytes": self.most_rss,
        }


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {"p50": 1e3 * median(ordered), "p99": 1e3 * ordered[math.ceil(0.99 * len(ordered)) - 1]}


def told(url: str) -> dict[str, float]:
    """Return the server's metrics."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    found = (re.fullmatch(r"(\S+) (\S+)", line) for line in lines if not line.startswith("#"))
    return {one[1]: float(one[2]) for one in found if one}


def texts() -> Iterator[str]:
    """Yield random texts, the same ones over and over."""
    generator = np.random.default_rng(0)
    made = [random_text(_WORDS, generator) for _ in range(_TEXTS)]
    while True:
        yield from made


def bodies(tasks: Sequence[str]) -> list[Body]:
    """Return a request to each of these tasks."""
    return [(f"/predict/{task}", {"inputs": text}) for task, text in zip(tasks, texts(), strict=False)]


def zipf(names: Sequence[str], clients: int) -> list[list[Body]]:
    """Draw the requests of each client, with chances 1, 1/2, 1/3, ... of the tasks in a random order."""
    generator = np.random.default_rng(1)
    order, chances = generator.permutation(names), 1.0 / np.arange(1, len(names) + 1)
    return [
        bodies(generator.choice(order, _DRAWS, p=chances / chances.sum()).tolist()) for _ in range(clients)
    ]


def dealt(names: Sequence[str], clients: int) -> list[list[Body]]:
    """Deal the tasks to clients, each of which asks its own in turn."""
    order = np.random.default_rng(2).permutation(names).tolist()
    return [bodies(order[client::clients]) for client in range(clients)]


async def drive(url: str, by_client: Sequence[Sequence[Body]], seconds: float | None) -> Traffic:
    """Let each client send its requests, for a while or each of them once."""
    seen, before = Traffic(), await asyncio.to_thread(told, url)
    clients = [await HttpClient.connect(url, own) for own in by_client if own]
    end = time.perf_counter() + (math.inf if seconds is None else seconds)

    async def run(client: HttpClient, count: float) -> None:
        number = 0
        while number < count and (began := time.perf_counter()) < end:
            try:
                head = await client.post(number)
                (seen.cold if _COLD in head.lower() else seen.ready).append(time.perf_counter() - began)
            except ConnectionError as error:
                seen.errors.append(str(error))
            number += 1

    watching = asyncio.create_task(_watch(url, seen))
    started = time.perf_counter()
    counts = [math.inf if seconds is not None else len(own) for own in by_client if own]
    await asyncio.gather(*(run(client, count) for client, count in zip(clients, counts, strict=True)))
    seen.seconds = time.perf_counter() - started
    watching.cancel()
    for client in clients:
        await client.close()
    after = await asyncio.to_thread(_note, url, seen)
    seen.counted = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return seen


async def _watch(url: str, seen: Traffic) -> None:
    while True:
        await asyncio.to_thread(_note, url, seen)
        await asyncio.sleep(_LOOK_SECONDS)


def _note(url: str, seen: Traffic) -> dict[str, float]:
    now = told(url)
    seen.most_bytes = max(seen.most_bytes, now["maskserve_mask_bytes"])
    seen.most_rss = max(seen.most_rss, now["process_resident_memory_bytes"])
    return now


@dataclass(frozen=True)
class Rate:
    """One measurement of one way to choose tasks.

    Attributes:
        per_second: Requests per second.
        cpu_ms: Processor time of the server for a request, in milliseconds: other work on the machine
            changes it little.
        batch_tasks: Tasks in a batch, on average.
    """

    per_second: float
    cpu_ms: float
    batch_tasks: float


async def rates(
    url: str, ways: Sequence[Sequence[Sequence[Body]]], seconds: float, rounds: int
) -> list[list[Rate]]:
    """Measure several ways to choose tasks, in turn, after a shorter round that is not counted.

    Args:
        url: The server's.
        ways: For each way, the requests of each client, again from the start after the last.
        seconds: Length of each measurement.
        rounds: How often each is measured.

    Returns:
        The measurements of each way.
    """
    for way in ways:
        await _rate(url, way, min(1.0, seconds))
    turns = [[await _rate(url, way, seconds) for way in ways] for _ in range(rounds)]
    return [list(way) for way in zip(*turns, strict=True)]


async def _rate(url: str, by_client: Sequence[Sequence[Body]], seconds: float) -> Rate:
    clients = [await HttpClient.connect(url, own) for own in by_client]
    before = await asyncio.to_thread(told, url)
    found = await load([_one_after_another(client) for client in clients], seconds)
    after = await asyncio.to_thread(told, url)
    for client in clients:
        await client.close()
    counted = {name: after[name] - before[name] for name in (_CPU, _BATCHES, _BATCH_TASKS)}
    return Rate(
        found.rate,
        1e3 * counted[_CPU] / len(found.latencies),
        counted[_BATCH_TASKS] / counted[_BATCHES],
    )


def _one_after_another(client: HttpClient) -> Call:
    """Return what sends all requests of a client in turn, whatever number it is called with."""
    numbers = count()

    async def send(_: int) -> None:
        await client.post(next(numbers))

    return send


def drawn(names: Sequence[str], clients: int) -> list[list[Body]]:
    """Draw the requests of each client with equal chances of the tasks."""
    generator = np.random.default_rng(3)
    return [bodies(generator.choice(names, _DRAWS).tolist()) for _ in range(clients)]
