"""Fan-out: one body for several tasks, each text tokenised once, all computed together.

The body is one of POST /predict/{task} with the key `tasks`. Every task answers in its place, or says why it
can't and touches no other. What all tasks need of the queue is asked for at once: there is room for all of
them, or the request is refused as POST /predict/{task} would be.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from masking import Prediction
from server.errors import (
    EmptyBatchError,
    ForbiddenError,
    GroupNotFoundError,
    InvalidBodyError,
    ServerError,
    cut,
)
from server.http.body import accepted_ndjson, unless_left
from server.http.dependencies import served_task, sticky_key
from server.http.error_mapping import invalid_body, part_error
from server.http.kinds.kind import ReplyFormat
from server.http.middleware import context_of
from server.http.parsing import check_count, check_lists, request_of
from server.http.rendering import render
from server.http.schemas import FanOutBody, PredictBody, validate_body
from server.predictor import Call, PredictRequest, rows_of
from server.service import Service
from server.tasks.registry import ServedTask
from server.telemetry.requests import RequestFacts
from server.tenants.caller import Caller

GROUP = "group:"


@dataclass(frozen=True)
class TaskRequest:
    """What a task is asked.

    Attributes:
        name: Its name.
        served: The version that answers.
        wanted: What is to be predicted.
        reply: How the reply is to look.
    """

    name: str
    served: ServedTask
    wanted: PredictRequest
    reply: ReplyFormat

    def answer(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Return the reply of this task, ready for JSON."""
        shown = render(self.served.loaded, self.wanted.inputs, predictions, self.reply)
        served = self.served
        return {"task": self.name, "version": served.version, "digest": served.digest, "predictions": shown}


def tasks_of(wanted: str | Sequence[str], service: Service, caller: Caller) -> Sequence[str]:
    """Return the names of the tasks that `tasks` of a body means, in the order of the replies.

    Raises:
        ForbiddenError: It names a group with a task that the caller may not call.
        GroupNotFoundError: It names a group that there is not.
        InvalidBodyError: A task is there twice, or there are more names than rows may wait.
        EmptyBatchError: It means no task.
    """
    if wanted == "*":
        names: Sequence[str] = sorted(caller.visible(service.registry.tasks))
    elif isinstance(wanted, str):
        names = _group(wanted.removeprefix(GROUP), service, caller)
    else:
        names = wanted
        check_count("tasks", names, service.limits.waiting)
    if not names:
        raise EmptyBatchError("the body asks no task, or none is served yet")
    if len(set(names)) < len(names):
        raise InvalidBodyError("tasks: a task is there twice")
    return names


def groups_for(service: Service, caller: Caller) -> Mapping[str, Sequence[str]]:
    """Return the groups of which a caller may call every task."""
    return {name: tasks for name, tasks in service.settings.group.items() if all(map(caller.may_call, tasks))}


def _group(name: str, service: Service, caller: Caller) -> Sequence[str]:
    groups = groups_for(service, caller)
    if name not in groups and caller.tasks is not None:
        raise ForbiddenError(
            f"key {caller.name!r} may not call all tasks of a group {cut(name)}, if there is one"
        )
    if name not in groups:
        known = (
            f"known groups: {', '.join(groups)}" if groups else "the server has none (--group NAME=TASK,TASK)"
        )
        raise GroupNotFoundError(f"unknown group {cut(name)}; {known}")
    return groups[name]


async def answer_tasks(request: Request, body: dict[str, Any], size: int, service: Service) -> Response:
    """Answer a body with the key `tasks`; see `server.http.routes.predict_many.predict_many`.

    Args:
        request: Of which the whole body was read.
        body: Its JSON.
        size: Its bytes.
        service: What answers.

    Raises:
        ServerError: The body is not right for any task, or there is no room for all of them.
    """
    context = context_of(request)
    caller, key = context.caller, sticky_key(request)
    names = _tasks(body, service, caller)
    run_by_size = service.predictor.run_by_size
    asked = await run_by_size(size * len(names), lambda: _read(body, names, service, caller, key))
    context.rows = sum(one.wanted.rows for one in asked if isinstance(one, TaskRequest))
    computed = _computed(asked, service, context)
    if media_type := accepted_ndjson(request.headers.get("accept", "")):
        first = await unless_left(request, _first(computed))  # what refuses all of it has a status of its own
        return StreamingResponse(_lines(asked, first, computed, size, service), media_type=media_type)
    found = await unless_left(request, _all(computed))
    content = await run_by_size(
        size * len(asked), lambda: to_json([_reply(one, found.get(place)) for place, one in enumerate(asked)])
    )
    return Response(content, media_type="application/json")


async def fan_out(
    service: Service, calls: Sequence[Call], facts: RequestFacts
) -> AsyncGenerator[tuple[int, list[Prediction] | Exception]]:
    """Do as `Predictor.fan_out` does, within the limits of who asks.

    Raises:
        KeyLimitError: So many rows are not left to it.
        ServerError: As `Predictor.fan_out`.
    """
    rows = sum(rows_of(served, wanted) for served, wanted in calls)
    with facts.caller.quota.admit(rows):
        async with aclosing(service.predictor.fan_out(calls, facts.request_id)) as replies:
            async for reply in replies:
                yield reply


@dataclass(frozen=True)
class _Refused:
    """A task that can't be asked this."""

    name: str
    error: Exception


_Asked = TaskRequest | _Refused
_Result = list[Prediction] | Exception
_Results = AsyncGenerator[tuple[int, _Result]]


def _tasks(body: dict[str, Any], service: Service, caller: Caller) -> Sequence[str]:
    """Return the names of the tasks that a body asks."""
    try:
        return tasks_of(FanOutBody.model_validate(body).tasks, service, caller)
    except ValidationError as error:
        raise invalid_body(error) from None


def _read(
    body: dict[str, Any], names: Sequence[str], service: Service, caller: Caller, key: str | None
) -> list[_Asked]:
    """Read a body, once for all tasks, and what it means for each."""
    try:
        rest = {key: value for key, value in body.items() if key != "tasks"}
        check_lists(rest, service.limits)
        known = validate_body(rest)
    except ValidationError as error:
        raise invalid_body(error) from None
    return [_ask(name, known, service, caller, key) for name in names]


def _ask(name: str, known: PredictBody, service: Service, caller: Caller, key: str | None) -> _Asked:
    try:
        served = served_task(service, caller, name, key=key)
        return TaskRequest(name, served, *request_of(known, served.loaded, service.limits))
    except ServerError as error:
        return _Refused(name, error)


async def _computed(asked: Sequence[_Asked], service: Service, facts: RequestFacts) -> _Results:
    """Compute what is asked, by place among the tasks."""
    places = [place for place, one in enumerate(asked) if isinstance(one, TaskRequest)]
    calls = [(one.served, one.wanted) for one in asked if isinstance(one, TaskRequest)]
    if not calls:
        return
    async with aclosing(fan_out(service, calls, facts)) as replies:
        async for number, reply in replies:
            yield places[number], reply


async def _all(computed: _Results) -> dict[int, _Result]:
    async with aclosing(computed):
        return {place: reply async for place, reply in computed}


async def _first(computed: _Results) -> tuple[int, _Result] | None:
    return await anext(computed, None)


async def _lines(
    asked: Sequence[_Asked],
    first: tuple[int, _Result] | None,
    computed: _Results,
    size: int,
    service: Service,
) -> AsyncIterator[bytes]:
    """Yield each task's reply with its place, first of those that can't be asked."""

    def line(place: int, reply: _Result | None) -> bytes:
        return to_json({"index": place, **_reply(asked[place], reply)}) + b"\n"

    async with aclosing(computed):
        for place, one in enumerate(asked):
            if isinstance(one, _Refused):
                yield line(place, None)
        while first is not None:
            yield await service.predictor.run_by_size(size, partial(line, *first))
            first = await _first(computed)


def _reply(asked: _Asked, result: _Result | None) -> dict[str, Any]:
    """Return the reply of a task, ready for JSON."""
    if isinstance(asked, _Refused):
        return {"task": asked.name, **part_error(asked.error).body}
    if isinstance(result, list):
        try:
            return asked.answer(result)
        except Exception as error:
            result = error
    assert result is not None
    return {"task": asked.name, **part_error(result).body}
