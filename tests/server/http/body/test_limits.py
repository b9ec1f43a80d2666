import asyncio
import gzip
from collections.abc import Iterable, Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from server.errors import BodyTooLargeError, RequestTimeoutError, ServerError, ServerFullError
from server.http.body import BodyLimits, BodyMiddleware, read_body, stream_body

Headers = Sequence[tuple[bytes, bytes]]


async def never_sends(_: Message) -> None:
    raise AssertionError


def scope_of(headers: Headers = ()) -> Scope:
    return {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}


def receive_of(pieces: Iterable[bytes], *, ends: bool = True) -> Receive:
    waiting = list(pieces)

    async def receive() -> Message:
        if not waiting:
            assert not ends
            await asyncio.sleep(3600)
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting) or not ends}

    return receive


def read(
    pieces: Iterable[bytes], limits: BodyLimits, headers: Headers = (), *, ends: bool = True, stream: int = 0
) -> bytes:
    """What a route reads of such a body."""
    found = []

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        request = Request(scope, receive)
        if stream:
            found.extend([chunk async for chunk in stream_body(request, stream)])
        else:
            found.append(await read_body(request))

    asyncio.run(BodyMiddleware(app, limits)(scope_of(headers), receive_of(pieces, ends=ends), never_sends))
    assert limits.held == 0
    return b"".join(found)


def limits(size: int = 100, *, seconds: float = 60.0, waiting: int = 1000) -> BodyLimits:
    return BodyLimits(size, seconds, waiting, values=100)


def test_a_body_may_be_as_long_as_the_limit() -> None:
    assert read([b"a" * 60, b"b" * 40], limits()) == b"a" * 60 + b"b" * 40


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [
        ([b"a" * 101], ()),
        ([b"a" * 60, b"b" * 41], ()),
        ([b""], [(b"content-length", b"101")]),
        ([gzip.compress(bytes(101))], [(b"content-encoding", b"gzip")]),
        ([gzip.compress(bytes(10_000_000))[:90], b""], [(b"content-encoding", b"gzip")]),
        ([b"a" * 101], [(b"content-encoding", b"gzip")]),
    ],
)
def test_a_longer_one_is_refused(pieces: list[bytes], headers: Headers) -> None:
    with pytest.raises(BodyTooLargeError, match="longer than 100 bytes"):
        read(pieces, limits(), headers)


def test_a_route_that_keeps_nothing_may_take_more() -> None:
    pieces = [b"a" * 60] * 50
    assert read(pieces, limits(waiting=100), stream=3000) == b"a" * 3000
    with pytest.raises(BodyTooLargeError):
        read(pieces, limits(), stream=2999)


def test_a_body_that_does_not_come_is_given_up() -> None:
    with pytest.raises(RequestTimeoutError, match="3 bytes of it did"):
        read([b"abc"], limits(seconds=0.01), ends=False)


def test_bodies_whose_rest_is_awaited_have_a_limit_together() -> None:
    shared = limits(waiting=100)
    shared.held = 50
    errors: list[ServerError] = []

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        with pytest.raises(ServerFullError) as caught:
            await read_body(Request(scope, receive))
        errors.append(caught.value)

    asyncio.run(BodyMiddleware(app, shared)(scope_of(), receive_of([b"a" * 60, b"b"]), never_sends))
    assert errors[0].status == 503
    assert shared.held == 50
    assert read([b"a" * 60], limits(waiting=50)) == b"a" * 60  # a body that comes whole waits for nothing
