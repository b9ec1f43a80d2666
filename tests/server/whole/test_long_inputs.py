"""Short requests while long texts, large bodies and uploads are worked on: each of them gets its turn."""

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from urllib.parse import urlsplit

import numpy as np
import pytest

from masking import load_base
from tests.support.serving import RunningServer, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ADMIN = {"authorization": "Bearer the-admin-key"}
SECONDS = 6.0
MEGABYTE = 1_000_000
FLOOR = 0.015  # seconds; below it a busy machine's own noise decides
SHORT = ("POST", "/predict/names", b'{"tokens": ["anna", "works", "in", "paris"]}')
LIVE = ("GET", "/health/live", b"")
Request = tuple[str, str, bytes]


def _json(**body: object) -> bytes:
    return json.dumps(body).encode()


WORK: dict[str, tuple[Request, set[int]]] = {
    "2 MB text, refused": (("POST", "/predict/sentiment", _json(inputs="a " * MEGABYTE)), {422}),
    "2 MB text, cut": (("POST", "/predict/sentiment", _json(inputs="a " * MEGABYTE, truncate=True)), {200}),
    "2 MB of white space": (("POST", "/predict/sentiment", _json(inputs=" " * 2 * MEGABYTE + "a")), {422}),
    "2 MB pair": (
        ("POST", "/predict/paraphrase", _json(inputs=["the " * 250_000, "a " * 500_000], truncate=True)),
        {200},
    ),
    "2,000 choices of 1 KB": (
        ("POST", "/predict/endings", _json(context="a", choices=["the " * 250] * 2000, truncate=True)),
        {422},
    ),
    "250 texts of 8 KB": (("POST", "/predict/sentiment", _json(inputs=[["movie " * 1300]] * 250)), {422}),
    "10 MB JSON": (("POST", "/predict/sentiment", _json(inputs="a " * 5 * MEGABYTE, truncate=True)), {200}),
    "100 MB upload": (("PUT", "/tasks/sentiment", b"\1" * 100 * MEGABYTE), {422}),
}


@pytest.fixture(scope="module")
def server(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = ("--max-body-bytes", "16MiB", "--max-bundle-bytes", "128MiB", "--admin-key", "the-admin-key")
    tasks = ("sentiment", "paraphrase", "names", "endings")
    with running(
        tiny_bert, load_base(tiny_bert), tmp_path_factory.mktemp("long"), tasks, *options
    ) as started:
        yield started


def _connect(server: RunningServer) -> http.client.HTTPConnection:
    where = urlsplit(server.url)
    return http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)


def _ask(connection: http.client.HTTPConnection, request: Request) -> int:
    method, path, body = request
    connection.request(method, path, body, ADMIN | {"content-type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    return reply.status


def _times(server: RunningServer, request: Request, ended: Event) -> list[float]:
    """Seconds of one request after another until the end."""
    times = []
    with closing(_connect(server)) as connection:
        while not ended.wait(0.005):
            started = time.monotonic()
            assert _ask(connection, request) == 200
            times.append(time.monotonic() - started)
    return times


def _measure(server: RunningServer, work: Request | None) -> tuple[float, float, set[int], int]:
    """99 % of short requests take no longer than this, of liveness alike; statuses and number of the work."""
    ended, statuses = Event(), []
    with ThreadPoolExecutor(2) as pool:
        short, live = (pool.submit(_times, server, request, ended) for request in (SHORT, LIVE))
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end:
                if work is None:
                    time.sleep(0.1)
                    continue
                with closing(_connect(server)) as connection:
                    statuses.append(_ask(connection, work))
        finally:
            ended.set()
        return _p99(short.result()), _p99(live.result()), set(statuses), len(statuses)


def _p99(times: Sequence[float]) -> float:
    return float(np.quantile(times, 0.99))


@pytest.mark.parametrize("name", WORK)
def test_short_requests_get_their_turn(server: RunningServer, name: str) -> None:
    work, expected = WORK[name]
    alone, alone_live, _, _ = _measure(server, None)
    short, live, statuses, count = _measure(server, work)
    print(
        f"\n{name}: {count} in {SECONDS:.0f} s, {statuses}; p99 of short requests {alone * 1e3:.1f} -> "
        f"{short * 1e3:.1f} ms, of liveness {alone_live * 1e3:.1f} -> {live * 1e3:.1f} ms"
    )
    assert statuses <= expected
    assert short < 3 * max(alone, FLOOR)
    assert live < max(0.1, 3 * alone_live)
