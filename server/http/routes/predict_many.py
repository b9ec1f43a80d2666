"""Predict many: rows of many tasks in one body, as JSON or line by line; or one input for many tasks.

A row is a body of POST /predict/{task} with the key `task`. A row that can't be answered says why in its
place and touches no other. Rows are computed concurrently, so that they share batches. They wait for room in
the queue in turn with those of other bodies: a body may have many more rows than may wait. A body with the
key `tasks` has no rows: see `server.http.routes.fan_out`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from server.engine.pending import Timings
from server.engine.room import Reservation
from server.errors import (
    EmptyBatchError,
    InvalidBodyError,
    MalformedBodyError,
    ServerError,
)
from server.http.auth import require_client
from server.http.body import (
    accepted_ndjson,
    check_values,
    is_ndjson,
    read_text,
    stream_text,
    unless_left,
)
from server.http.dependencies import PRECISION, ServiceDep, StickyKey, served_task, sticky_key
from server.http.error_mapping import invalid_body, part_error
from server.http.kinds.kind import ReplyFormat
from server.http.middleware import context_of
from server.http.openapi import PREDICT_MANY_REPLY, PREDICT_MANY_REQUEST_BODY, errors
from server.http.parsing import parse_json, parse_request
from server.http.rendering import render
from server.http.routes.fan_out import answer_tasks
from server.http.schemas import PredictManyBody
from server.predictor import PredictRequest, rows_of
from server.service import Service
from server.tasks.registry import ServedTask
from server.tenants.caller import Caller
from server.tenants.quota import Hold, Quota

router = APIRouter(tags=["predict"], dependencies=[Depends(require_client)])

MOST_ROWS = 50_000
_BATCHES_IN_FLIGHT = 4
_ROWS_AT_ONCE = 100  # read in a thread at a time, a few milliseconds


@dataclass(frozen=True)
class RowRequest:
    """What a row asks of which version."""

    served: ServedTask
    wanted: PredictRequest
    reply: ReplyFormat

    @property
    def rows(self) -> int:
        """Rows that it takes of a batch, at least."""
        return rows_of(self.served, self.wanted)


@dataclass(frozen=True)
class Row:
    """One row of a body.

    Attributes:
        index: Its place in the body.
        task: The task that it names, if it names one.
        request: What is to be computed, or why nothing can be.
    """

    index: int
    task: str | None
    request: RowRequest | ServerError


@dataclass(frozen=True)
class RowReply:
    """The reply to one row, ready for JSON."""

    index: int
    content: dict[str, Any]


@router.post(
    "/predict",
    summary="Predict with many tasks",
    openapi_extra={"requestBody": PREDICT_MANY_REQUEST_BODY},
    responses={200: PREDICT_MANY_REPLY, **errors(400, 401, 404, 408, 413, 415, 422, 429, 503, 504)},
)
async def predict_many(request: Request, service: ServiceDep, _key: StickyKey = None) -> Response:
    """Answer rows of any tasks, or one body for several tasks.

    A row is a body of POST /predict/{task} with the key `task`. A row that can't be answered has `error` and
    `error_type` instead of `predictions`, and touches no other. With `Accept: application/x-ndjson` every
    result is sent as soon as it is there, on a line of its own, with the `index` of its row. With that
    content type the body has one row per line.

    With the key `tasks` (names, "*" for every task in service, or "group:NAME") the body is one of
    POST /predict/{task} that each of the tasks answers: the results are theirs, in their order.
    """
    context = context_of(request)
    context.headers[PRECISION] = service.precision
    context.caller.quota.check()
    if is_ndjson(request.headers.get("content-type", "")):
        rows = await _read_lines(request, service, context.caller)
    else:
        body = await read_text(request)
        given = await service.predictor.run_by_size(len(body), lambda: parse_json(body))
        if isinstance(given, dict) and "tasks" in given:
            return await answer_tasks(request, given, len(body), service)
        if isinstance(given, dict) and "task" in given:
            raise InvalidBodyError(_TASK_IN_BODY)
        reading = _read_json(given, len(body), service, context.caller, sticky_key(request))
        rows = await unless_left(request, reading)
    if not rows:
        raise EmptyBatchError
    asked = [row.request for row in rows if isinstance(row.request, RowRequest)]
    context.caller.quota.charge(sum(one.rows for one in asked))
    context.rows = sum(one.wanted.rows for one in asked)
    replies = answer_rows(rows, service, context.request_id, context.caller.quota)
    if media_type := accepted_ndjson(request.headers.get("accept", "")):
        return StreamingResponse(_lines(replies), media_type=media_type)
    content = await run_in_threadpool(
        to_json, [reply.content for reply in await unless_left(request, _all(replies))]
    )
    return Response(content, media_type="application/json")


_TASK_IN_BODY = (
    'the key "task" belongs to a row: {"inputs": [{"task": "sentiment", "inputs": "..."}]}. One input goes '
    'to POST /predict/<task>, or to several tasks with the key "tasks"'
)


async def _read_lines(request: Request, service: Service, caller: Caller) -> list[Row]:
    rows: list[Row] = []
    async for lines in _lines_of(stream_text(request)):
        size = sum(map(len, lines))
        rows += await _read_in_turns(lines, size, service, caller, len(rows), sticky_key(request))
    return rows


async def _read_json(
    given: object, size: int, service: Service, caller: Caller, key: str | None
) -> list[Row]:
    """Read the rows piece by piece, so that no more is read once the client has left."""
    try:
        items = PredictManyBody.model_validate(given).inputs
    except ValidationError as error:
        raise invalid_body(error) from None
    return await _read_in_turns(items, size, service, caller, 0, key)


async def _read_in_turns(
    items: Sequence[object], size: int, service: Service, caller: Caller, start: int, key: str | None
) -> list[Row]:
    """Read rows of a body of `size` bytes piece by piece; see `read_rows`."""
    rows: list[Row] = []
    for first in range(0, len(items), _ROWS_AT_ONCE):
        piece = items[first : first + _ROWS_AT_ONCE]
        read = partial(read_rows, piece, service, caller, start=start + first, key=key)
        rows += await service.predictor.run_by_size(size, read)
    return rows


async def _lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the complete lines of each chunk that ends some, without empty ones."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line for line in lines if line.strip()]
    if rest.strip():
        yield [rest]


async def _lines(answers: AsyncGenerator[RowReply]) -> AsyncIterator[bytes]:
    async with aclosing(answers) as replies:
        async for reply in replies:
            yield to_json({"index": reply.index, **reply.content}) + b"\n"


async def _all(answers: AsyncGenerator[RowReply]) -> list[RowReply]:
    """Return the replies in the order of the rows."""
    async with aclosing(answers) as replies:
        return sorted([reply async for reply in replies], key=lambda reply: reply.index)


def read_rows(
    items: Iterable[object], service: Service, caller: Caller, *, start: int = 0, key: str | None = None
) -> list[Row]:
    """Read the rows of a body; those that are not right become rows that say why.

    Args:
        items: The rows as parsed JSON, or as lines (bytes) of it.
        service: What is to answer them.
        caller: Who asks.
        start: Place of the first of them in the body.
        key: By which the client wants to meet the same versions again; None for none.

    Raises:
        InvalidBodyError: The body has more rows than any may have.
    """
    rows = []
    for index, item in enumerate(items, start):
        if index >= MOST_ROWS:
            raise InvalidBodyError(f"the body has more than {MOST_ROWS} rows; send several")
        rows.append(_read_row(index, item, service, caller, key))
    return rows


async def answer_rows(
    rows: Sequence[Row], service: Service, request_id: str, quota: Quota
) -> AsyncGenerator[RowReply]:
    """Compute the rows; closing or cancelling the generator drops those that are not computed yet.

    Args:
        rows: The rows of one body.
        service: What computes them.
        request_id: For the log.
        quota: That of who asks, charged already; rows wait until they may be in flight.

    Yields:
        Every row's reply as soon as it is there, in no order.
    """
    body = _RowsInFlight(service, request_id, quota)
    body.start(body.feed(rows))
    try:
        for _ in rows:
            reply = await body.replies.get()
            body.unread.release()
            yield reply
    finally:
        body.cancel()


class _RowsInFlight:
    """The rows of one body: admitted one after another, answered in any order.

    Attributes:
        replies: Those that are there and not read yet.
        unread: How many rows more may be admitted before a reply is read.
    """

    def __init__(self, service: Service, request_id: str, quota: Quota) -> None:
        self.replies: asyncio.Queue[RowReply] = asyncio.Queue()
        self.unread = asyncio.Semaphore(_BATCHES_IN_FLIGHT * service.settings.max_batch_rows)
        self._service = service
        self._request_id = request_id
        self._quota = quota
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something until it is done or `cancel` is called."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Drop what is not computed yet."""
        for task in self._running:
            task.cancel()

    async def feed(self, rows: Sequence[Row]) -> None:
        """Admit row after row; bodies take turns."""
        for row in rows:
            await self.unread.acquire()
            await self._admit(row)
            await asyncio.sleep(0)

    async def _admit(self, row: Row) -> None:
        request = row.request
        try:
            if isinstance(request, ServerError):
                raise request
            held, place = await self._take_place(request)
        except Exception as error:
            self.replies.put_nowait(_failed(row, error))
            return

        def give_back(_: object) -> None:
            place.release()
            held.release()

        answering = self.start(self._answer(row, request, place))
        answering.add_done_callback(give_back)  # a task may be cancelled before it begins

    async def _take_place(self, request: RowRequest) -> tuple[Hold, Reservation]:
        """Wait until a row may be in flight, and for its place in the queue."""
        held = await self._quota.hold(request.rows)
        try:
            return held, await self._service.predictor.wait_for_room(request.served, request.wanted)
        except BaseException:
            held.release()
            raise

    async def _answer(self, row: Row, request: RowRequest, place: Reservation) -> None:
        reply = await _answer_row(row, request, self._service, self._request_id, place)
        self.replies.put_nowait(reply)


def _read_row(index: int, item: object, service: Service, caller: Caller, key: str | None) -> Row:
    name = None
    try:
        content = _from_line(item, service.settings.max_body_values) if isinstance(item, bytes) else item
        if not isinstance(content, dict):
            raise InvalidBodyError("a row is an object with the key `task`")
        body = dict(content)
        name = body.pop("task", None)
        if not isinstance(name, str):
            name = None
            raise InvalidBodyError("the row has no `task`, the name of the task that is to answer it")
        served = served_task(service, caller, name, key=key)
        return Row(index, name, RowRequest(served, *parse_request(body, served.loaded, service.limits)))
    except Exception as error:
        return Row(index, name, part_error(error))


def _from_line(line: bytes, most_values: int) -> object:
    check_values(line, most_values)
    try:
        return from_json(line)
    except ValueError as error:
        raise MalformedBodyError(f"the row is not JSON: {error}") from None


async def _answer_row(
    row: Row, request: RowRequest, service: Service, request_id: str, place: Reservation
) -> RowReply:
    served, wanted = request.served, request.wanted
    try:
        predictions = await service.predictor.predict(served, wanted, request_id, Timings(), place=place)
        shown = await run_in_threadpool(render, served.loaded, wanted.inputs, predictions, request.reply)
    except Exception as error:
        return _failed(row, error)
    identity = {"task": served.name, "version": served.version, "digest": served.digest}
    return RowReply(row.index, {**identity, "predictions": shown})


def _failed(row: Row, error: Exception) -> RowReply:
    return RowReply(row.index, {"task": row.task, **part_error(error).body})
