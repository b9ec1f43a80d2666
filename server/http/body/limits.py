"""Limits of a body: size, time, values, and how much of all bodies waits for the rest.

They hold for every route, also for those that leave the reading to FastAPI. Nothing is read before the route
asks for it, so a route that asks for a key first costs nobody without a key any memory.
"""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTooLargeError, RequestTimeoutError, ServerFullError
from server.http.body.encodings import Decoder, decoder_of

SLOWEST = 64 << 10  # bytes per second that a body comes with, after the first seconds
_SCOPE_KEY = "maskserve.body"


@dataclass
class BodyLimits:
    """What holds for the bodies of one application.

    Attributes:
        size: Most bytes of one body, packed and unpacked.
        seconds: How long a body may take, and one second more for each `SLOWEST` bytes that came.
        waiting: Most bytes that are held of bodies whose rest is awaited, all together.
        values: Most values of one JSON text.
        held: How many are held now.
    """

    size: int
    seconds: float
    waiting: int
    values: int
    held: int = 0


class BodyMiddleware:
    """ASGI middleware: limits and decodes the body of every request."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        """Wrap `app`."""
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = scope[_SCOPE_KEY] = Body(scope, receive, self._limits)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.let_go()
            del scope[_SCOPE_KEY]  # it knows the scope, and such a cycle is work for the garbage collector


class Body:
    """The body of one request.

    Attributes:
        since_turn: Bytes that were read since other requests had their turn.
    """

    def __init__(self, scope: Scope, receive: Receive, limits: BodyLimits) -> None:
        """Prepare to read; `receive` is the server's own."""
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._size = limits.size
        self._decoder: Decoder | None = None
        self._deadline: float | None = None
        self._codings: list[str] = []
        self._came = self._gave = self._held = self.since_turn = 0
        self._more, self._late, self._streamed = True, False, False

    @property
    def most_values(self) -> int:
        """How many values it may have as JSON."""
        return self._limits.values

    def stream(self, size: int) -> None:
        """Let the body have another size, because the route does not hold it in memory."""
        self._size, self._streamed = size, True

    def let_go(self) -> None:
        """Count this body no longer among those that are held."""
        self._limits.held -= self._held
        self._held = 0

    async def receive(self) -> Message:
        """Return the next piece of the body, decoded; then what else the server has to say.

        Raises:
            BodyTooLargeError: The body is longer than allowed, packed or unpacked, or announces to be.
            UnsupportedEncodingError: Its Content-Encoding is not known.
            MalformedBodyError: It is not in its Content-Encoding.
            RequestTimeoutError: It does not come in time.
            ServerFullError: The rest of too many bodies is awaited.
        """
        if self._decoder is not None and self._decoder.has_more:
            return self._kept(self._decoded(b""))
        if not self._more:
            return await self._receive()
        if self._deadline is None:
            self._begin()
        message = await self._next()
        if message["type"] != "http.request":
            return message
        self._more = message.get("more_body", False)
        piece = message.get("body", b"")
        if piece and not self._came and self._codings:
            self._decoder = decoder_of(self._codings)
        self._came += len(piece)
        self._check(self._came)
        return self._kept(message if self._decoder is None else self._decoded(piece))

    def _begin(self) -> None:
        self._deadline = asyncio.get_running_loop().time() + self._limits.seconds
        for name, value in self._scope["headers"]:
            if name == b"content-encoding":
                self._codings.append(value.decode("latin-1"))
            elif name == b"content-length" and value.isdigit():
                self._check(int(value))

    async def _next(self) -> Message:
        """Return what comes next; like `asyncio.timeout`, in a fraction of its time."""
        assert self._deadline is not None
        task = asyncio.current_task()
        assert task is not None
        end = self._deadline + self._came / SLOWEST
        timer = asyncio.get_running_loop().call_at(end, self._give_up, task)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._late or task.uncancel() > 0:  # somebody else cancels it
                raise
            raise RequestTimeoutError(
                f"the body did not come in time: {self._came} bytes of it did"
            ) from None
        finally:
            timer.cancel()

    def _give_up(self, task: asyncio.Task[object]) -> None:
        self._late = True
        task.cancel()

    def _decoded(self, piece: bytes) -> Message:
        decoder = self._decoder
        assert decoder is not None
        unpacked = decoder.feed(piece)
        more = self._more or decoder.has_more
        if not more:
            decoder.check_end()
        self._gave += len(unpacked)
        self._check(self._gave)
        return {"type": "http.request", "body": unpacked, "more_body": more}

    def _kept(self, message: Message) -> Message:
        """Count a piece among what is held until the body is whole."""
        if not message.get("more_body", False):
            self.let_go()
        elif not self._streamed:
            size = len(message.get("body", b""))
            self._held += size
            self._limits.held += size
            if self._limits.held > self._limits.waiting:
                raise ServerFullError("too many bodies are on their way; try again")
        return message

    def _check(self, size: int) -> None:
        if size > self._size:
            raise BodyTooLargeError(f"the body is longer than {self._size} bytes")


def body_of(scope: Scope) -> Body:
    """Return the body that the middleware gave to this request."""
    body: Body = scope[_SCOPE_KEY]
    return body
