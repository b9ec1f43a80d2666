"""Request bodies, read no further than their limit."""

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from server.errors import BodyTooLargeError, ClientGoneError


async def stream_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in chunks, given up as soon as it is too long.

    Raises:
        BodyTooLargeError: It is longer than `limit` bytes, or announces to be.
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
