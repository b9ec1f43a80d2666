"""The protocol on real sockets, with an application of a few lines and short limits."""

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any, cast

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.connections import Connection, ConnectionLimits, protocol
from tests.support.serving import wait_until

HEAD = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
GET = HEAD + b"\r\n"
CLOSING = HEAD + b"connection: close\r\n\r\n"


class App:
    """Answers with the length of the body; /early without reading it, /slow after a while."""

    def __init__(self) -> None:
        self.left = 0
        self.trailers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.url.path == "/slow":
            await asyncio.sleep(0.3)
        if request.url.path == "/never":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            return
        if request.url.path == "/big":
            await Response(b"x" * (32 << 20))(scope, receive, send)
            return
        body = b""
        if request.url.path != "/early":
            try:
                body = await request.body()
            except ClientDisconnect:
                self.left += 1
                return
        self.trailers += "x-trailer" in request.headers
        await Response(str(len(body)), 413 if request.url.path == "/early" else 200)(scope, receive, send)


class Server:
    def __init__(self, port: int, app: App, uvicorn_server: uvicorn.Server) -> None:
        self.port, self.app, self.uvicorn_server = port, app, uvicorn_server

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(sent)
        return connection

    def ask(self, sent: bytes, *, half_close: bool = False) -> bytes:
        """All that comes back until the server closes."""
        with self.connect() as connection:
            with suppress(OSError):  # closed already
                connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return rest(connection)

    @property
    def connections(self) -> int:
        return len(self.uvicorn_server.server_state.connections)


def rest(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    return received


def post(path: str, headers: bytes, body: bytes = b"") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n".encode() + headers + b"\r\n\r\n" + body


def statuses(replies: bytes) -> list[int]:
    return [int(line.split()[0]) for line in replies.split(b"HTTP/1.1 ")[1:]]


@contextmanager
def serving(*, keep_alive: float = 20.0, **changes: Any) -> Iterator[Server]:
    limits = ConnectionLimits(
        **{"head_seconds": 20.0, "head_bytes": 4096, "most": 50, "reserve": 2} | changes
    )
    app = App()
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(Connection, limits=limits)),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=cast(int, keep_alive),
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Server(listener.getsockname()[1], app, server)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_a_connection_is_kept_for_the_next_request(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for path, body in (("/", b"abc"), ("/slow", b""), ("/", b"x" * 300_000)):
        connection.request("POST", path, body)
        assert connection.getresponse().read() == str(len(body)).encode()
    connection.close()


def test_an_idle_connection_is_closed_in_its_time() -> None:
    with serving(keep_alive=0.2) as server:
        with server.connect() as silent:
            assert rest(silent) == b""
        assert statuses(server.ask(GET)) == [200]


def test_a_head_that_trickles_is_given_up() -> None:
    with serving(head_seconds=0.3) as server:
        for begin in (b"G", b"\r\n", HEAD):
            with server.connect(begin) as connection:
                assert statuses(rest(connection)) == [408]
        with server.connect(GET) as connection:
            assert statuses(connection.recv(1000)) == [200]
            connection.sendall(HEAD)  # the same holds for the next request
            assert statuses(rest(connection)) == [408]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"x: " + b"y" * 4096, 431),
        (HEAD + b"x: " + b"y" * 5000 + b"\r\n\r\n", 431),
        (HEAD + b"x: y\r\n" * 400 + b"\r\n", 431),
        (HEAD + b"x: " + b"y" * (4090 - len(HEAD)) + b"\r\n\r\n", 431),
        (b"\r\n" * 3000, 431),
        (b"GET /" + b"a" * 10_000, 431),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (post("/", b"transfer-encoding: chunked", b"zz\r\n"), 400),
        (post("/", b"content-length: -1"), 400),
        (post("/", b"content-length: 1\r\ntransfer-encoding: chunked"), 400),
        (post("/", b"transfer-encoding: chunked", b"1;" + b"e" * 10_000), 400),
        (post("/", b"transfer-encoding: chunked", b"1\r\na\r\n0\r\n" + b"x-trailer: b\r\n" * 1000), 400),
    ],
)
def test_what_is_no_request_is_told_so(server: Server, sent: bytes, status: int) -> None:
    reply = server.ask(sent)
    assert statuses(reply) == [status]
    assert b'"error_type": "Validation"' in reply
    assert b"connection: close" in reply


def test_long_urls_are_told_apart() -> None:
    with serving(head_bytes=20_000) as server:
        assert statuses(server.ask(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")) == [414]
        assert statuses(server.ask(b"GET /" + b"a" * 30_000)) == [414]
        assert statuses(server.ask(HEAD + b"x: y\r\n" * 300 + b"\r\n")) == [431]


def test_a_head_may_be_as_long_as_the_limit(server: Server) -> None:
    filled = CLOSING[:-2] + b"x: " + b"y" * (4096 - len(CLOSING) - 5) + b"\r\n\r\n"
    assert len(filled) == 4096
    assert statuses(server.ask(filled)) == [200]
    assert statuses(server.ask(post("/", b"content-length: 9000", b"x" * 9000) + CLOSING)) == [200, 200]


def test_chunks_of_one_byte_are_a_body_and_trailers_are_no_headers(server: Server) -> None:
    chunks = b"1\r\na\r\n" * 5000 + b"0\r\nx-trailer: 1\r\n\r\n"
    reply = server.ask(post("/", b"connection: close\r\ntransfer-encoding: chunked", chunks))
    assert reply.endswith(b"5000")
    assert server.app.trailers == 0


def test_a_client_that_closes_its_half_is_answered(server: Server) -> None:
    for sent, count in ((GET, 1), (GET * 3, 3), (post("/slow", b"content-length: 3", b"abc"), 1)):
        assert statuses(server.ask(sent, half_close=True)) == [200] * count
    assert server.ask(HEAD, half_close=True) == b""
    assert server.ask(post("/", b"content-length: 3", b"ab"), half_close=True) == b""


def test_a_client_that_left_is_told_to_the_application(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_HALF_CLOSED_SECONDS", 0.1)
    before = server.app.left
    server.connect(post("/never", b"content-length: 0")).close()
    wait_until(lambda: server.app.left == before + 1)


def test_a_reply_before_the_body_is_not_lost(server: Server) -> None:
    body = b"x" * (8 << 20)
    for headers in (
        b"content-length: %d" % len(body),
        b"connection: close\r\ncontent-length: %d" % len(body),
    ):
        reply = server.ask(post("/early", headers, body))
        assert statuses(reply) == [413]
        assert reply.count(b"connection: close") == 1
    small = post("/early", b"content-length: 3", b"abc")  # came whole, so the connection is kept
    assert statuses(server.ask(small + CLOSING)) == [413, 200]


def test_the_rest_of_a_body_is_read_for_so_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_LINGER_SECONDS", 0.2)
    with server.connect(post("/early", b"content-length: 1000", b"x")) as connection:
        assert statuses(rest(connection)) == [413]
        wait_until(lambda: server.connections == 0)
    monkeypatch.setattr(protocol, "_LINGER_SECONDS", 20.0)
    monkeypatch.setattr(protocol, "_LINGER_BYTES", 1000)
    with server.connect(post("/early", b"content-length: 1000000", b"x" * 1001)) as connection:
        assert statuses(rest(connection)) == [413]
        with suppress(OSError):
            connection.sendall(b"x" * 10_000)
        wait_until(lambda: server.connections == 0)


def test_a_reply_that_is_not_read_is_waited_for_so_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_STALL_SECONDS", 0.2)
    with server.connect(HEAD.replace(b"/health/live", b"/big") + b"connection: close\r\n\r\n"):
        wait_until(lambda: server.connections == 1)
        wait_until(lambda: server.connections == 0)


def test_requests_on_one_connection_have_a_limit(server: Server) -> None:
    replies = statuses(server.ask(GET * 1000))
    assert set(replies) == {200}
    assert len(replies) < 100


def test_garbage_after_a_request_does_not_spoil_its_reply(server: Server) -> None:
    assert statuses(server.ask(GET + b"\x00garbage")) == [200]


def test_an_upgrade_to_a_protocol_that_is_not_spoken_is_answered(server: Server) -> None:
    upgrade = (
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\ncontent-length: 3"
    )
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(post("/", upgrade, b"abc"))
            assert connection.recv(1000).endswith(b"3")


def test_silent_and_half_requests_make_room_for_others() -> None:
    begun = (b"", b"G", HEAD, post("/", b"content-length: 10", b"x"), GET)
    with serving(most=10) as server, ExitStack() as opened:
        for begin in begun:
            for _ in range(30):
                opened.enter_context(server.connect(begin))
            for _ in range(3):
                assert statuses(server.ask(CLOSING)) == [200]
            assert server.connections <= 12


def test_a_full_server_answers_probes_and_tells_the_others() -> None:
    with serving(most=4) as server, ExitStack() as opened:
        for _ in range(4):
            opened.enter_context(server.connect(post("/never", b"content-length: 0")))
        wait_until(lambda: server.connections == 4)
        time.sleep(0.1)
        for path in (b"/health/live", b"/v2/health/ready", b"/masks/health/live/?a=b"):
            assert statuses(server.ask(HEAD.replace(b"/health/live", path) + b"\r\n")) == [200]
        refused = server.ask(post("/", b"content-length: 1", b"a"))
        assert statuses(refused) == [503]
        assert b"retry-after: 1" in refused
        assert server.app.left == 0


def test_half_requests_do_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_LAST_SECONDS", 0.2)
    with ExitStack() as opened:
        with serving() as server:
            for begin in (b"", HEAD, GET, post("/", b"content-length: 10", b"x")) * 5:
                opened.enter_context(server.connect(begin))
            slow = opened.enter_context(server.connect(post("/slow", b"content-length: 0")))
            wait_until(lambda: server.connections == 21)
            time.sleep(0.1)
            begun = time.monotonic()
        assert time.monotonic() - begun < 4  # of the 5 seconds that uvicorn would wait
        assert statuses(rest(slow)) == [200]
