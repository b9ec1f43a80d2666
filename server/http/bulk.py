"""Rows of many tasks in one body: each read by itself, all computed together, each answered by itself.

A row is a body of POST /predict/{task} with the key `task`. A row that can't be answered says why in its
place and touches no other. Rows are admitted side by side, so that they share batches, but never more of them
than a few batches hold: a body may have many more rows than may wait. Knows no HTTP.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from server.errors import (
    DeadlineError,
    InvalidBodyError,
    MalformedBodyError,
    QueueFullError,
    ServerError,
    to_server_error,
)
from server.http.exchange import answer, note_times
from server.http.parsing import Request, parse_body, read_request
from server.http.rendering import render
from server.service import Answer, Service
from server.tasks.registry import ServedTask, TaskRegistry

logger = logging.getLogger(__name__)

MOST_ROWS = 50_000
_BATCHES_IN_FLIGHT = 4
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Call:
    """What a row asks of which version."""

    served: ServedTask
    wanted: Request


@dataclass(frozen=True)
class Row:
    """One row of a body.

    Attributes:
        index: Its place in the body.
        task: The task that it names, if it names one.
        call: What is to be computed, or why nothing can be.
    """

    index: int
    task: str | None
    call: Call | ServerError

    @property
    def weight(self) -> int:
        """Rows that it takes of a batch, at least; one if it is only to say why it takes none."""
        return self.call.wanted.rows if isinstance(self.call, Call) else 1


@dataclass(frozen=True)
class Result:
    """The answer to one row, ready for JSON."""

    index: int
    content: dict[str, Any]


def read_rows(items: Iterable[object], registry: TaskRegistry, *, start: int = 0) -> list[Row]:
    """Read the rows of a body; those that are not right become rows that say why.

    Args:
        items: The rows as parsed JSON, or as lines (bytes) of it.
        registry: The tasks in service.
        start: Place of the first of them in the body.

    Raises:
        InvalidBodyError: The body has more rows than any may have.
    """
    rows = []
    for index, item in enumerate(items, start):
        if index >= MOST_ROWS:
            raise InvalidBodyError(f"the body has more than {MOST_ROWS} rows; send several")
        rows.append(_read_row(index, item, registry))
    return rows


async def answer_rows(rows: Sequence[Row], service: Service, request_id: str) -> AsyncGenerator[Result]:
    """Compute the rows; closing or cancelling the generator drops those that are not computed yet.

    Args:
        rows: The rows of one body.
        service: What computes them.
        request_id: For the log.

    Yields:
        Every row's result as soon as it is there, in no order.
    """
    settings = service.settings
    limit = min(settings.queue_limit, _BATCHES_IN_FLIGHT * settings.max_batch_rows)
    results: asyncio.Queue[tuple[Row, Result]] = asyncio.Queue()
    running: set[asyncio.Task[None]] = set()
    in_flight = 0

    async def run(row: Row) -> None:
        results.put_nowait((row, await _answer_row(row, service, request_id)))

    try:
        for row in [*rows, None]:  # after the last row, the rest is waited for
            while in_flight and (row is None or in_flight + row.weight > limit):
                finished, result = await results.get()
                in_flight -= finished.weight
                yield result
            if row is not None:
                in_flight += row.weight
                task = asyncio.create_task(run(row))
                running.add(task)
                task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()


def _read_row(index: int, item: object, registry: TaskRegistry) -> Row:
    name = None
    try:
        content = _from_line(item) if isinstance(item, bytes) else item
        if not isinstance(content, dict):
            raise InvalidBodyError("a row is an object with the key `task`")
        body = dict(content)
        name = body.pop("task", None)
        if not isinstance(name, str):
            name = None
            raise InvalidBodyError("the row has no `task`, the name of the task that is to answer it")
        served = registry.get(name)
        return Row(index, name, Call(served, read_request(parse_body(body, served.loaded), served.loaded)))
    except Exception as error:
        return Row(index, name, _reply_to(error))


def _from_line(line: bytes) -> object:
    try:
        return from_json(line)
    except ValueError as error:
        raise MalformedBodyError(f"the row is not JSON: {error}") from None


async def _answer_row(row: Row, service: Service, request_id: str) -> Result:
    if isinstance(row.call, ServerError):
        return Result(row.index, {"task": row.task, **row.call.body})
    served = row.call.served
    try:
        predictions = await _predict(row.call, service, request_id)
    except Exception as error:
        return Result(row.index, {"task": row.task, **_reply_to(error).body})
    identity = {"task": served.name, "version": served.version, "digest": served.digest}
    return Result(row.index, {**identity, "predictions": predictions})


async def _predict(call: Call, service: Service, request_id: str) -> Any:
    """The predictions of one row; a queue that others have filled is waited for."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(service.settings.request_timeout_ms / 1000):
            while (found := await _try(call, service, request_id)) is None:
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise DeadlineError from None
    predictions = await run_in_threadpool(render, call.served.loaded, call.wanted, found.outcome.logits)
    note_times(service, found, started)
    return predictions


async def _try(call: Call, service: Service, request_id: str) -> Answer | None:
    """The answer, or None while the queue is full."""
    try:
        return await answer(service, call.served, call.wanted, request_id)
    except QueueFullError:
        return None


def _reply_to(error: Exception) -> ServerError:
    known = to_server_error(error)
    if type(known) is ServerError:
        logger.error("a row of a body failed unexpectedly", exc_info=error)
    return known
