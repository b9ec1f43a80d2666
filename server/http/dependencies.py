"""Dependencies of routes: the service of this application, the task that a path names, and its predictions.

Those for FastAPI are async because it runs others in a thread, which takes longer than their work; the one
route that must be fast calls `service_of` and `take_task` by itself.
"""

from typing import Annotated

from fastapi import Depends, Path, Request

from masking import Prediction
from server.http.body import unless_left
from server.http.middleware import context_of
from server.predictor import PredictRequest
from server.service import Service
from server.tasks.registry import ServedTask

PRECISION = "x-precision"


def service_of(request: Request) -> Service:
    """Return the service of this application."""
    service: Service = request.app.state.service
    return service


def take_task(request: Request, name: str) -> ServedTask:
    """Take the version of the task that this request gets, once; the headers of every reply name it.

    Raises:
        TaskNotFoundError: There is no such task.
        TaskUnavailableError: No version of it could be loaded.
    """
    service = service_of(request)
    served = service.registry.get(name)
    context = context_of(request)
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
