"""Dependencies of routes: the service of this application, the task that a path names, and its predictions.

Those for FastAPI are async because it runs others in a thread, which takes longer than their work; for the
routes that must be fast, `server.http.admission` calls `take_task` and `check_room` by itself.
"""

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from pydantic.json_schema import SkipJsonSchema

from mask_store.store.records import MAX_NUMBER
from masking import Prediction
from server.engine.room import Reservation
from server.errors import TaskNotFoundError, VersionNotFoundError, cut
from server.http.body import unless_left
from server.http.middleware import context_of, service_of
from server.predictor import PredictRequest, rows_of
from server.service import Service
from server.tasks.registry import ServedTask
from server.tenants.caller import Caller

PRECISION = "x-precision"
STICKY_KEY = "x-sticky-key"
"""Header of requests: those with the same key meet the same version of a task."""
_NUMBER = re.compile(r"[1-9][0-9]{0,7}", re.ASCII)

NamedVersion = Annotated[
    int | SkipJsonSchema[None],
    Query(
        alias="version",
        ge=1,
        le=MAX_NUMBER,
        description="a version in service; by default what the weights bring",
    ),
]
StickyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(alias=STICKY_KEY, description="requests with the same key meet the same version"),
]


def served_task(
    service: Service,
    caller: Caller,
    name: str,
    *,
    key: str | None = None,
    version: int | None = None,
    answers: bool = True,
) -> ServedTask:
    """Return the version of a task that a request gets, for a caller that may call it.

    Args:
        service: What serves it.
        caller: Who asks.
        name: The task.
        key: By which the client wants to meet the same version again; None for none.
        version: The version that the client names; None for none.
        answers: Whether the version is asked something, so that its weight counts; else it is described.

    Raises:
        ForbiddenError: The caller may not call it, whether or not there is such a task.
        TaskNotFoundError: There is no such task.
        TaskUnavailableError: No version of it could be loaded.
        VersionNotFoundError: The version that is named is not in service.
    """
    caller.require(name)
    try:
        if version is None and not answers:
            return service.registry.get(name)
        return service.registry.choose(name, key=key, version=version)
    except TaskNotFoundError:
        if caller.tasks is None:
            raise
        # The message names other tasks, which are not all for this caller.
        raise TaskNotFoundError(f"unknown task {cut(name)}; GET /tasks lists those of your key") from None


def take_task(request: Request, name: str, *, answers: bool = True) -> ServedTask:
    """Take the version of the task that this request gets, once; the headers of every reply name it.

    Args:
        request: The request, which may name a version in its path or query.
        name: The task.
        answers: Whether the version is asked something, so that its weight counts; else it is described.

    Raises:
        ServerError: As `served_task`.
    """
    service, context = service_of(request), context_of(request)
    served = served_task(
        service,
        context.caller,
        name,
        key=sticky_key(request),
        version=_version_of(request),
        answers=answers,
    )
    context.task, context.version = served.name, served.version
    context.headers |= task_headers(served, service)
    return served


def sticky_key(request: Request) -> str | None:
    """Return the key by which a client wants to meet the same version again; None for none."""
    return request.headers.get(STICKY_KEY) or None


def version_named(text: str) -> int:
    """Return the version that a client names.

    Raises:
        VersionNotFoundError: No version can have this number.
    """
    if not _NUMBER.fullmatch(text):
        raise VersionNotFoundError(f"no version is called {cut(text)}; versions are numbers from 1 on")
    return int(text)


def _version_of(request: Request) -> int | None:
    given = request.path_params.get("version")
    if given is None and request.scope["query_string"]:
        given = request.query_params.get("version")
    return None if given is None else version_named(given)


def task_headers(served: ServedTask, service: Service) -> dict[str, str]:
    """Return the headers of a reply that say what computed it."""
    return {
        "x-task": served.name,
        "x-task-version": str(served.version),
        "x-mask-digest": served.digest,
        PRECISION: service.precision,
    }


def check_room(request: Request, served: ServedTask) -> None:
    """Refuse a prediction before its body is read: for want of room, or because its key is over its limits.

    Raises:
        ServerError: It is refused.
    """
    context_of(request).caller.quota.check()
    service_of(request).predictor.check_room(served)


async def predictions_of(
    request: Request, served: ServedTask, wanted: PredictRequest, expected: Reservation | None = None
) -> list[Prediction]:
    """Predict for a client, unless it leaves.

    Args:
        request: Of which the whole body was read.
        served: The task version.
        wanted: The inputs.
        expected: Room that was held for the request; see `Predictor.expect`.

    Raises:
        ServerError: They can't be admitted, their batch failed, it took too long, or nobody waits for it.
        TaskInputError: An input is not one that the task can take.
    """
    predictor, context = service_of(request).predictor, context_of(request)
    with context.caller.quota.admit(rows_of(served, wanted)):
        predicting = predictor.predict(served, wanted, context.request_id, context.timings, expected=expected)
        predictions = await unless_left(request, predicting)
    context.rows = wanted.rows
    return predictions


TaskName = Annotated[str, Path(description="name of the task", examples=["sentiment"])]


async def get_service(request: Request) -> Service:
    """See `service_of`."""
    return service_of(request)


async def get_served_task(request: Request, task: TaskName) -> ServedTask:
    """Take a task to describe it; see `take_task`."""
    return take_task(request, task, answers=False)


async def get_asked_task(request: Request, task: TaskName) -> ServedTask:
    """Take a task to ask it; see `take_task`."""
    return take_task(request, task)


ServiceDep = Annotated[Service, Depends(get_service)]
TaskDep = Annotated[ServedTask, Depends(get_served_task)]
AskedTaskDep = Annotated[ServedTask, Depends(get_asked_task)]
