"""Reading of a body by the routes, and work that is dropped when the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from server.errors import ClientGoneError
from server.http.body.encodings import utf8
from server.http.body.limits import body_of
from server.http.body.values import check_values
from server.http.error_mapping import invalid_body
from server.http.middleware import service_of

Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)

_SIGNATURE = 4  # bytes that tell how a text is encoded
_TURN = 1 << 19  # bytes that are read before others get their turn


async def read_body(request: Request) -> bytes:
    """Read the whole body as it is.

    Raises:
        ServerError: See `Body.receive`.
        ClientGoneError: The client left before its end.
    """
    pieces, more = [], True
    while more:
        piece, more = await _next_piece(request)
        pieces.append(piece)
    return b"".join(pieces)


async def read_text(request: Request) -> bytes:
    """Read the whole body as UTF-8 that can be decoded as JSON.

    Raises:
        BodyTooLargeError: It has too many values.
        UnsupportedEncodingError: It is UTF-16 or UTF-32.
        ServerError: As `read_body`.
    """
    text, most = utf8(await read_body(request)), body_of(request.scope).most_values
    await service_of(request).predictor.run_by_size(len(text), lambda: check_values(text, most))
    return text


async def read_json(request: Request, model: type[Model], *, default: Model | None = None) -> Model:
    """Read the whole body as JSON, whatever media type it has: `curl -d` says that it sends a form.

    Args:
        request: Whose body.
        model: What it has to be.
        default: What an empty body, or null, stands for; None where there must be one.

    Raises:
        MalformedBodyError: It is not JSON.
        InvalidBodyError: It is, but not of this model.
    """
    text = await read_text(request)
    if default is not None and text.strip() in (b"", b"null"):
        return default
    try:
        return await service_of(request).predictor.run_by_size(
            len(text), lambda: model.model_validate_json(text)
        )
    except ValidationError as error:
        raise invalid_body(error) from None


async def stream_body(request: Request, limit: int | None = None) -> AsyncIterator[bytes]:
    """Yield the body in chunks; give up as soon as it is too long, or does not come in time.

    Args:
        request: Whose body.
        limit: Most bytes that it may have, where the caller does not hold it in memory; None for the limit
            of all bodies.

    Raises:
        ServerError: See `Body.receive`.
        ClientGoneError: The client left before its end.
    """
    if limit is not None:
        body_of(request.scope).stream(limit)
    more = True
    while more:
        piece, more = await _next_piece(request)
        yield piece


async def stream_text(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in chunks of UTF-8, without a byte order mark.

    Raises:
        UnsupportedEncodingError: It is UTF-16 or UTF-32.
        ServerError: As `stream_body`.
    """
    begin: bytes | None = b""
    async for chunk in stream_body(request):
        if begin is None:
            yield chunk
        elif len(begin + chunk) >= _SIGNATURE:
            yield utf8(begin + chunk)
            begin = None
        else:
            begin += chunk
    if begin:
        yield utf8(begin)


async def _next_piece(request: Request) -> tuple[bytes, bool]:
    """Return the next piece of the body, and whether there are more; a long body gives way now and then."""
    body = body_of(request.scope)
    if body.since_turn > _TURN:
        body.since_turn = 0
        await service_of(request).predictor.give_way()
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    piece = message.get("body", b"")
    body.since_turn += len(piece)
    return piece, message.get("more_body", False)


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work unless the client leaves; then it is dropped.

    Args:
        request: Of which the whole body was read.
        work: What to do.

    Raises:
        ClientGoneError: The client closed the connection.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    leaving.add_done_callback(lambda _: working.cancel())
    try:
        return await working
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            raise ClientGoneError from None
        raise
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
