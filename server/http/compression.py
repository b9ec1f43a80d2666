"""Compression middleware: gzip for long replies to clients that take it.

Replies that are sent in pieces pass as they are: a line of NDJSON must not wait for the next one.
"""

import gzip
import re
from collections.abc import Iterable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LEAST = 8 << 10  # bytes; a shorter reply costs more to compress than to send
_INLINE = 32 << 10  # bytes that are compressed on the event loop, in less than half a millisecond
_LEVEL = 1  # JSON becomes a tenth; higher levels take several times as long for a few per cent more
_TEXT = re.compile(r"text/|application/(json|javascript|x-ndjson)|image/svg")
_REFUSED = re.compile(r"q=0(\.0*)?")


def accepts_gzip(headers: Iterable[str]) -> bool:
    """Return whether the values of Accept-Encoding headers name gzip, and do not refuse it."""
    parts = [part.partition(";") for part in ",".join(headers).lower().split(",")]
    weights = {name.strip(): weight.replace(" ", "") for name, _, weight in parts}
    named = next((name for name in ("gzip", "x-gzip", "*") if name in weights), None)
    return named is not None and _REFUSED.fullmatch(weights[named]) is None


class CompressionMiddleware:
    """ASGI middleware: compresses whole replies of 8 KiB and more."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                head, start = start, None
                message = await _compressed(scope, head, message)
                await send(head)
            await send(message)

        await self._app(scope, receive, send_compressed)


async def _compressed(scope: Scope, start: Message, message: Message) -> Message:
    """Return the first message of a body, compressed if that is worth it; `start` gets the headers for it."""
    headers, body = MutableHeaders(scope=start), message.get("body", b"")
    whole = message["type"] == "http.response.body" and not message.get("more_body", False)
    if not whole or len(body) < _LEAST or not _TEXT.match(headers.get("content-type", "")):
        return message
    if "content-encoding" in headers:
        return message
    headers.add_vary_header("Accept-Encoding")
    if not accepts_gzip(Headers(scope=scope).getlist("accept-encoding")):
        return message
    if len(body) <= _INLINE:
        body = gzip.compress(body, _LEVEL)
    else:
        body = await run_in_threadpool(gzip.compress, body, _LEVEL)
    headers["content-encoding"], headers["content-length"] = "gzip", str(len(body))
    return {**message, "body": body}
