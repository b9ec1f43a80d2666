"""Ten times the load: refusals are quick, what is accepted is answered soon, and the server stays alive."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from masking import load_base
from tests.support.models import tiny_base
from tests.support.serving import RunningServer, running

SECONDS = 10.0
CLIENTS = 16
TIMES = 10
TEXT = "the movie was good and she lost the card and works help please " * 8

pytestmark = pytest.mark.slow


@dataclass
class Outcome:
    """Seconds from request to reply, by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def note(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def count(self, status: int) -> int:
        return len(self.seconds.get(status, ()))

    def percentile(self, status: int, share: float) -> float:
        return float(np.percentile(self.seconds[status], share))


class Client:
    """As little of an HTTP client as will do: it shares the machine with the server."""

    def __init__(self, url: str, path: str = "/predict/sentiment", body: object = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{'POST' if content else 'GET'} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(content)}\r\n\r\n"
        self._request = head.encode() + content
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, outcome: Outcome) -> None:
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        reader, writer = connection
        started = time.perf_counter()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        outcome.note(int(head[9:12]), time.perf_counter() - started)
        self._idle.append(connection)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    folder = tiny_base(tmp_path / "base", hidden=384, blocks=6)
    options = ("--log-level", "warning") if False else ()
    with running(folder, load_base(folder), tmp_path, ["sentiment"], *options) as server:
        yield server


async def at_capacity(client: Client) -> float:
    """Rows per second with a few clients, each of which waits for its answer."""
    for seconds in (2.0, SECONDS / 2):  # the first time threads and memory are new
        outcome, end = Outcome(), time.perf_counter() + seconds

        async def one() -> None:
            while time.perf_counter() < end:  # noqa: B023
                await client.ask(outcome)  # noqa: B023

        await asyncio.gather(*(one() for _ in range(CLIENTS)))
    assert set(outcome.seconds) == {200}, {s: len(v) for s, v in outcome.seconds.items()}
    return outcome.count(200) / (SECONDS / 2)


async def at_rate(client: Client, rate: float) -> Outcome:
    """Requests that come whether the ones before are answered or not."""
    outcome, started, asked = Outcome(), time.perf_counter(), 0
    calls: set[asyncio.Task[None]] = set()
    while (now := time.perf_counter() - started) < SECONDS:
        for _ in range(int(now * rate) - asked):
            call = asyncio.create_task(client.ask(outcome))
            calls.add(call)
            call.add_done_callback(calls.discard)
            asked += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*calls)
    return outcome


async def probe(client: Client, outcome: Outcome) -> None:
    while True:
        await client.ask(outcome)
        await asyncio.sleep(0.02)


async def overload(url: str) -> tuple[float, Outcome, Outcome]:
    client, live = Client(url, body={"inputs": TEXT, "truncate": True}), Client(url, "/health/live")
    alive = Outcome()
    capacity = await at_capacity(client)
    probing = asyncio.create_task(probe(live, alive))
    outcome = await at_rate(client, TIMES * capacity)
    probing.cancel()
    client.close()
    live.close()
    return capacity, outcome, alive


def test_ten_times_the_load(server: RunningServer, record_property: object) -> None:
    capacity, outcome, alive = asyncio.run(overload(server.url))
    accepted, refused = outcome.count(200), outcome.count(429)
    print(
        f"\ncapacity {capacity:.0f} rows/s; {accepted + refused} requests in {SECONDS:.0f} s; "
        f"429: p50 {outcome.percentile(429, 50) * 1000:.1f} ms, p99 {outcome.percentile(429, 99) * 1000:.1f} ms; "
        f"200: p50 {outcome.percentile(200, 50):.2f} s, p99 {outcome.percentile(200, 99):.2f} s; "
        f"goodput {accepted / SECONDS:.0f} rows/s; "
        f"live: p50 {alive.percentile(200, 50) * 1000:.1f} ms, most {max(alive.seconds[200]) * 1000:.0f} ms"
    )
    assert set(outcome.seconds) == {200, 429}
    assert outcome.percentile(200, 99) < 5
    assert outcome.percentile(429, 50) < 0.1
    assert max(alive.seconds[200]) < 1
    assert accepted / SECONDS > 0.6 * capacity
