"""What every predicting route does around the service: the body, the leaving client, the counts, the headers.

Knows HTTP but no body's shape; a prediction is computed for the routes in this one place.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from server.errors import ClientGoneError
from server.http.body import stream_body
from server.http.middleware import context_of
from server.http.parsing import Request as TaskRequest
from server.service import Answer, Service
from server.tasks.registry import ServedTask

Result = TypeVar("Result")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; see `stream_body`."""
    return b"".join([chunk async for chunk in stream_body(request, limit)])


async def answer_request(
    request: Request, service: Service, served: ServedTask, wanted: TaskRequest
) -> Answer:
    """Compute one request, unless the client leaves.

    Raises:
        ServerError: It can't be admitted, its batch failed, it took too long, or nobody waits for it.
        TaskInputError: An input is not one that the task can take.
    """
    found = await unless_left(request, answer(service, served, wanted, context_of(request).request_id))
    context_of(request).note_stages(wanted.rows, **_stages(found))
    return found


async def answer(service: Service, served: ServedTask, wanted: TaskRequest, request_id: str) -> Answer:
    """Compute one request and count it for the task; see `Service.compute`."""
    started = time.monotonic()
    try:
        found = await service.compute(served.loaded, wanted, request_id)
    except BaseException:  # a request that is dropped is cancelled
        served.statistics.count_failure(time.monotonic() - started)
        raise
    served.statistics.count_success(len(wanted.inputs), **_stages(found), total=time.monotonic() - started)
    return found


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


def note_times(service: Service, answer: Answer, started: float) -> dict[str, str]:
    """Tell the metrics how long each stage of a finished prediction took.

    Args:
        service: Whose metrics.
        answer: What was computed.
        started: When the request began, on the monotonic clock.

    Returns:
        The same for the client: tokens and whole milliseconds, in text-embeddings-inference's headers.
    """
    total = time.monotonic() - started
    service.metrics.time_prediction(**_stages(answer), total=total)
    return {
        "x-compute-tokens": str(answer.tokens),
        "x-total-time": _milliseconds(total),
        "x-tokenization-time": _milliseconds(answer.tokenize_seconds),
        "x-queue-time": _milliseconds(answer.outcome.queue_seconds),
        "x-inference-time": _milliseconds(answer.outcome.compute_seconds),
    }


def _stages(answer: Answer) -> dict[str, float]:
    return {
        "tokenize": answer.tokenize_seconds,
        "queue": answer.outcome.queue_seconds,
        "compute": answer.outcome.compute_seconds,
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
