"""What clients without a key, or without an end, can do to a whole server."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from masking import Base
from tests.support.serving import RunningServer, running

MIB = 1 << 20
ROUTES = (
    ("POST", "/tasks/x/pin"),
    ("POST", "/tasks/x/rollback"),
    ("PUT", "/tasks/sentiment"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/models/sentiment/infer"),
    ("POST", "/predict/sentiment"),
    ("POST", "/predict"),
    ("GET", "/health/live"),
)
HALVES = (
    b"",
    b"GET /health HTTP/1.1\r\n",
    b"POST /predict/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
)


def connect(server: RunningServer) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=30)


def pieces(count: int, *, chunked: bool) -> Iterator[bytes]:
    block = b"[" + b"1," * (MIB // 2 - 1) + b"1"
    return (b"%x\r\n%b\r\n" % (len(block), block) if chunked else block for _ in range(count))


def grown(server: RunningServer, method: str, path: str, *, chunked: bool) -> int:
    """Bytes of memory that a body of 256 MiB costs at most, and its reply is there."""
    httpx.get(f"{server.url}/health/live")
    process = psutil.Process(server.process.pid)
    before = peak = process.memory_info().rss
    length = "transfer-encoding: chunked" if chunked else f"content-length: {256 * MIB}"
    with connect(server) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode())
        with suppress(OSError):  # the rest of a body is not read for ever
            for piece in pieces(256, chunked=chunked):
                connection.sendall(piece)
                peak = max(peak, process.memory_info().rss)
        assert connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 401", b"HTTP/1.1 413")
    return int(peak - before)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [("--api-keys", "a-key"), ()])
def test_a_body_without_a_key_costs_no_memory(
    tiny_bert: str, base: Base, tmp_path: Path, keys: tuple[str, ...]
) -> None:
    options = ("--admin-key", "rumpelstilz", *keys)
    with running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server:
        for method, path in ROUTES:  # what the allocator keeps is no cost of a request
            grown(server, method, path, chunked=True)
        for chunked in (True, False):
            for method, path in ROUTES:
                assert grown(server, method, path, chunked=chunked) <= 2 * MIB + (64 << 10), path


@pytest.mark.slow
def test_half_requests_keep_neither_probes_nor_the_process(
    tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    with running(tiny_bert, base, tmp_path, ["sentiment"]) as server, ExitStack() as opened:
        for begin in HALVES * 60:
            connection = opened.enter_context(connect(server))
            connection.sendall(begin)
        assert httpx.get(f"{server.url}/health/live", timeout=30).status_code == 200
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert time.monotonic() - begun < 25  # of 30 that requests in flight would have


def test_silent_and_half_requests_leave_a_way_in(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    options = ("--max-connections", "20")
    with running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server, ExitStack() as opened:
        for begin in HALVES:
            for _ in range(60):
                connection = opened.enter_context(connect(server))
                with suppress(OSError):  # closed already, for another one
                    connection.sendall(begin)
            for path in ("/health/live", "/health/ready"):
                assert httpx.get(f"{server.url}{path}", timeout=30).status_code == 200
