"""POST /predict: rows of many tasks in one body, as JSON or line by line."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from server.errors import EmptyBatchError, invalid_body
from server.http.body import stream_body
from server.http.bulk import Call, Result, Row, answer_rows, read_rows
from server.http.dependencies import ServiceDep, errors
from server.http.exchange import read_body, unless_left
from server.http.middleware import context_of
from server.http.schemas import BULK_REPLY, BULK_REQUEST_BODY, NDJSON, BulkBody
from server.service import Service

router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    summary="Predict with many tasks",
    openapi_extra={"requestBody": BULK_REQUEST_BODY},
    responses={200: BULK_REPLY, **errors(400, 401, 413, 422)},
)
async def predict_many(request: Request, service: ServiceDep) -> Response:
    """Answer rows of any tasks; a row is a body of POST /predict/{task} with the key `task`.

    A row that can't be answered has `error` and `error_type` in place of `predictions`, and touches no other.
    With `Accept: application/x-ndjson` every result is sent as soon as it is there, on a line of its own,
    with the `index` of its row. With that content type the body has one row per line.
    """
    rows = await _read(request, service)
    if not rows:
        raise EmptyBatchError
    context = context_of(request)
    context.rows = sum(row.weight for row in rows if isinstance(row.call, Call))
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(rows, service, context.request_id), media_type=NDJSON)
    results = await unless_left(request, _all(rows, service, context.request_id))
    content = await run_in_threadpool(to_json, [result.content for result in results])
    return Response(content, media_type="application/json")


async def _read(request: Request, service: Service) -> list[Row]:
    limit, registry = service.settings.max_body_bytes, service.registry
    rows: list[Row] = []
    if request.headers.get("content-type", "").startswith(NDJSON):
        async for lines in _lines_of(stream_body(request, limit)):
            start = len(rows)
            rows += await run_in_threadpool(lambda: read_rows(lines, registry, start=start))  # noqa: B023
        return rows
    body = await read_body(request, limit)
    return await run_in_threadpool(lambda: read_rows(_parse(body), registry))


def _parse(body: bytes) -> list[object]:
    try:
        return BulkBody.model_validate_json(body).inputs
    except ValidationError as error:
        raise invalid_body(error) from None


async def _lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The complete lines of each chunk that ends some, without empty ones."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line for line in lines if line.strip()]
    if rest.strip():
        yield [rest]


async def _lines(rows: Sequence[Row], service: Service, request_id: str) -> AsyncIterator[bytes]:
    async with aclosing(answer_rows(rows, service, request_id)) as results:
        async for result in results:
            yield to_json({"index": result.index, **result.content}) + b"\n"


async def _all(rows: Sequence[Row], service: Service, request_id: str) -> list[Result]:
    """The results in the order of the rows."""
    async with aclosing(answer_rows(rows, service, request_id)) as results:
        return sorted([result async for result in results], key=lambda result: result.index)
