"""Dependencies of routes: the service of this application, the task that a path names, and its predictions.

Those for FastAPI are async because it runs others in a thread, which takes longer than their work; the one
route that must be fast calls `service_of` and `take_task` by itself.
"""

from typing import Annotated

from fastapi import Depends, Path, Request

from masking import Prediction
from server.errors import TaskNotFoundError, cut
from server.http.body import unless_left
from server.http.middleware import context_of
from server.predictor import PredictRequest, rows_of
from server.service import Service
from server.tasks.registry import ServedTask
from server.tenants.caller import Caller

PRECISION = "x-precision"


def service_of(request: Request) -> Service:
    """Return the service of this application."""
    service: Service = request.app.state.service
    return service


def served_task(service: Service, caller: Caller, name: str) -> ServedTask:
    """Return the version of a task that is in service, for a caller that may call it.

    Raises:
        ForbiddenError: It may not, whether or not there is such a task.
        TaskNotFoundError: There is no such task.
        TaskUnavailableError: No version of it could be loaded.
    """
    caller.require(name)
    try:
        return service.registry.get(name)
    except TaskNotFoundError:
        if caller.tasks is None:
            raise
        # The message names other tasks, which are not all for this caller.
        raise TaskNotFoundError(f"unknown task {cut(name)}; GET /tasks lists those of your key") from None


def take_task(request: Request, name: str) -> ServedTask:
    """Take the version of the task that this request gets, once; the headers of every reply name it.

    Raises:
        ServerError: As `served_task`.
    """
    service, context = service_of(request), context_of(request)
    served = served_task(service, context.caller, name)
    context.task, context.version = served.name, served.version
    context.headers |= task_headers(served, service)
    return served


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


async def predictions_of(request: Request, served: ServedTask, wanted: PredictRequest) -> list[Prediction]:
    """Predict for a client, unless it leaves.

    Args:
        request: Of which the whole body was read.
        served: The task version.
        wanted: The inputs.

    Raises:
        ServerError: They can't be admitted, their batch failed, it took too long, or nobody waits for it.
        TaskInputError: An input is not one that the task can take.
    """
    predictor, context = service_of(request).predictor, context_of(request)
    with context.caller.quota.admit(rows_of(served, wanted)):
        predicting = predictor.predict(served, wanted, context.request_id, context.timings)
        predictions = await unless_left(request, predicting)
    context.rows = wanted.rows
    return predictions


TaskName = Annotated[str, Path(description="name of the task", examples=["sentiment"])]


async def get_service(request: Request) -> Service:
    """See `service_of`."""
    return service_of(request)


async def get_served_task(request: Request, task: TaskName) -> ServedTask:
    """See `take_task`."""
    return take_task(request, task)


ServiceDep = Annotated[Service, Depends(get_service)]
TaskDep = Annotated[ServedTask, Depends(get_served_task)]
