"""HTTP protocol of one connection: uvicorn's, with a limit for each step that it leaves without one.

A request has a first byte, a head, a body and a reply. The head has limits of time and size here; time and
size of a body belong to `server.http.body`, which can tell the client. A reply that the client does not read,
and the rest of a body that nobody wants, are waited for only so long. When there are too many connections,
the one that is missed least makes room.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.connections.limits import ConnectionLimits
from server.errors import (
    HeadTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    ServerError,
    ServerFullError,
    UrlTooLongError,
)

logger = logging.getLogger(__name__)

_MOST_URL_BYTES = 8192
_MOST_HEADERS = 256
_MOST_PIPELINED = 64
_FRAME_BYTES = 16  # most bytes of framing for one byte of a chunked body
_PIECE = 64 << 10  # bytes that are parsed at once
_STALL_SECONDS = 30.0  # that a client may leave a reply unread
_LINGER_SECONDS = 10.0  # that the rest of a body is read after the reply, so that the reply is not lost
_LINGER_BYTES = 256 << 20
_HALF_CLOSED_SECONDS = 1.0  # that a client which closed its half is answered; most have left for good
_LAST_SECONDS = 2.0  # that a body may take when the server goes down
_PROBES = (b"/health", b"/health/live", b"/health/ready")  # also below /v2 and the path of a proxy


class Connection(HttpToolsProtocol):
    """One connection of a client.

    It relies on the callbacks of uvicorn's class and on its `cycle`, `pipeline`, `flow` and `connections`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        """Prepare for a connection, as uvicorn does, with limits."""
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self.url = b""
        self._since = self.loop.time()
        self._in_head, self._begun = True, False
        self._head_bytes = self._frame_bytes = 0
        self._kept, self._upgrades = True, False
        self._over_limit = False
        self._deaf = self._lingering = self._closing = False
        self._refusal: ServerError | None = None
        self._input_timer: asyncio.TimerHandle | None = None
        self._output_timer: asyncio.TimerHandle | None = None

    # ---- a connection begins and ends

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; make room if there are too many connections."""
        super().connection_made(transport)
        self._reply_transport = _ReplyTransport(transport, self._end_reply)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if len(self.connections) > self._limits.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._limit_input(None)
        self._limit_output(None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer what was asked before the client closed its half, if that is a matter of a moment."""
        cycle = self.cycle
        if self._lingering or cycle is None or cycle.response_complete or cycle.more_body:
            return None
        cycle.keep_alive = False
        self._limit_input(_HALF_CLOSED_SECONDS, self.transport.abort)
        return True

    def shutdown(self) -> None:
        """Close when what was asked is answered; a body that is not there yet has little time left."""
        self._kept = False
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._close()
            return
        cycle.keep_alive = False
        if cycle.more_body:
            self._limit_input(_LAST_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nothing is asked on."""
        self._close()

    # ---- number of connections

    @property
    def spare(self) -> tuple[int, float] | None:
        """How much it is missed, and since when it waits; None if it is being answered.

        First to go are connections whose first request is not there, then those kept for a next one, then
        those whose body is not there.
        """
        cycle = self.cycle
        if cycle is None or self._lingering:
            return 0, self._since
        if cycle.response_complete:
            return (0 if self._begun else 1), self._since
        return (2, self._since) if cycle.more_body else None

    def _make_room(self) -> None:
        """Close the connection that is missed least; without one, this one is for probes only."""
        others = [other for other in cast("set[Connection]", self.connections) if other is not self]
        spare = [(rank, other) for other in others if (rank := other.spare) is not None]
        if spare:
            least = min(spare, key=lambda entry: entry[0])[1]
            self.connections.discard(least)
            least.transport.abort()
        elif len(self.connections) > self._limits.most + self._limits.reserve:
            self.connections.discard(self)
            self.transport.abort()
        else:
            self._over_limit = True

    # ---- input

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as limits allow."""
        left = memoryview(data)
        while left and not (self._deaf or self._closing or self.transport.is_closing()):
            most = self._limits.head_bytes - self._head_bytes if self._in_head else _PIECE
            piece, left = left[:most], left[most:]
            if again := self._feed(piece):
                left = memoryview(again + left)
        if left and self._lingering:
            self._head_bytes += len(left)
            if self._head_bytes > _LINGER_BYTES:
                self.transport.abort()

    def _feed(self, piece: memoryview) -> bytes:
        """Parse a piece; returns what has to be parsed once more."""
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(piece)
        else:
            self._frame_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            self._refuse(self._refusal or MalformedRequestError())
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade() + piece[upgrade.args[0] :]
        else:
            self._check_progress()
        return b""

    def _check_progress(self) -> None:
        """See to it that what has begun comes to an end."""
        if self._head_bytes >= self._limits.head_bytes:
            self._refuse(UrlTooLongError() if len(self.url) > _MOST_URL_BYTES else HeadTooLargeError())
        elif self._frame_bytes > self._limits.head_bytes:
            self._refuse(MalformedRequestError("the body has more framing than content"))
        elif (self._begun or self._head_bytes) and self._input_timer is None:
            self._limit_input(self._limits.head_seconds, self._head_is_late)

    def _without_upgrade(self) -> bytes:
        """Return the head without its wish for another protocol, for which the parser would drop the body."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._upgrades, self._head_bytes = False, 0
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _head_is_late(self) -> None:
        self._refuse(RequestTimeoutError("the head of the request did not come in time"))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body in chunks is none."""
        if self._in_head:
            HttpToolsProtocol.on_header(self, name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer; until the body is there, the connection is to close after the reply."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrades = True
            return
        self._in_head = self._begun = False
        self._head_bytes = self._frame_bytes = 0
        if self._input_timer is not None:
            self._limit_input(None)
        self._refusal = self._why_refused()
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()
        self._since = self.loop.time()
        cycle = self.cycle
        self._kept, cycle.keep_alive = cycle.keep_alive and not self._over_limit, False
        cycle.transport = self._reply_transport  # type: ignore[assignment]

    def _why_refused(self) -> ServerError | None:
        if len(self.url) > _MOST_URL_BYTES:
            return UrlTooLongError(f"the URL is longer than {_MOST_URL_BYTES} bytes")
        if len(self.headers) > _MOST_HEADERS:
            return HeadTooLargeError(f"the request has more than {_MOST_HEADERS} headers")
        if len(self.pipeline) >= _MOST_PIPELINED:
            return ServerFullError("too many requests at once on one connection")
        if self._over_limit and not self.url.partition(b"?")[0].rstrip(b"/").endswith(_PROBES):
            return ServerFullError()
        return None

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._frame_bytes = max(0, self._frame_bytes - _FRAME_BYTES * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next head; the connection may be kept if the reply has not said otherwise."""
        if self._upgrades:
            return
        self._in_head = True
        self._head_bytes = self._frame_bytes = 0
        if self._input_timer is not None:
            self._limit_input(None)
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._kept
        super().on_message_complete()

    # ---- output

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._limit_output(_STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        self._limit_output(None)
        super().resume_writing()
        if self._closing:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, unless the connection ends."""
        if self._closing or self._lingering:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            return
        self._since = self.loop.time()
        super().on_response_complete()

    def _refuse(self, error: ServerError) -> None:
        """Answer without the application, as far as there is something to answer, and close."""
        logger.debug("a connection ends: %s", error)
        self._deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body or cycle.response_started:  # what was asked before is answered first
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(_reply(error, self.server_state.default_headers))
        self._linger()

    def _end_reply(self) -> None:
        """Close after a reply; first read the rest of the body, or the reply would be lost with a reset."""
        if self._in_head and not self._deaf:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        self._deaf = self._lingering = True
        self._head_bytes = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._limit_input(_LINGER_SECONDS, self.transport.abort)

    def _close(self) -> None:
        """Close once the client has read what was written."""
        if self.transport.is_closing() or self._closing:
            return
        if self.transport.get_write_buffer_size() == 0:
            self.transport.close()
            return
        self._closing = True
        self.transport.set_write_buffer_limits(
            high=0
        )  # calls pause_writing, and resume_writing when all is read

    # ---- time

    def _limit_input(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        if self._input_timer is not None:
            self._input_timer.cancel()
        self._input_timer = None if seconds is None or then is None else self.loop.call_later(seconds, then)

    def _limit_output(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        if self._output_timer is not None:
            self._output_timer.cancel()
        self._output_timer = None if seconds is None or then is None else self.loop.call_later(seconds, then)


class _ReplyTransport:
    """What uvicorn writes a reply to; closing it ends the reply, and the connection in its own time."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _reply(error: ServerError, headers: list[tuple[bytes, bytes]]) -> bytes:
    content = json.dumps(error.body).encode()
    status = HTTPStatus(error.status)
    own = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [b"%b: %b" % header for header in headers]
    lines += [f"{name}: {value}".encode() for name, value in (own | error.headers).items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content
