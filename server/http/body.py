"""Request body: reading up to a limit, and dropping work whose client has left."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from server.errors import BodyTooLargeError, ClientGoneError

Result = TypeVar("Result")

_SMALL_BODY = 8192  # bytes; reading and answering less than this takes no longer than going to a thread


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body; see `stream_body`."""
    return b"".join([chunk async for chunk in stream_body(request, limit)])


async def stream_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body in chunks; give up as soon as it is too long.

    Args:
        request: Whose body.
        limit: Most bytes that it may have.

    Raises:
        BodyTooLargeError: It is longer than the limit, or announces to be.
        ClientGoneError: The client left before its end.
    """
    too_large = BodyTooLargeError(f"the body is longer than {limit} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            yield chunk
    except ClientDisconnect:
        raise ClientGoneError from None


async def run_by_size(size: int, work: Callable[[], Result]) -> Result:
    """Do the work that a body of `size` bytes makes: at once if it is small, else in a thread."""
    return work() if size <= _SMALL_BODY else await run_in_threadpool(work)


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
