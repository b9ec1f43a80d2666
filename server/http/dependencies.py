"""What routes are given: the service of this application, and the task that a path names.

The dependencies are async because FastAPI runs others in a thread, which takes longer than their work; the
one route that must be fast calls `service_of` and `take_task` by itself.
"""

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, Field

from server.http.middleware import context_of
from server.service import Service
from server.tasks.registry import ServedTask


class ErrorReply(BaseModel):
    """Body of every error."""

    error: str = Field(description="what is wrong, for people")
    error_type: str = Field(description="what is wrong, for programs")


def errors(*statuses: int) -> dict[int | str, dict[str, type[BaseModel]]]:
    """OpenAPI responses: the statuses that answer with an error body."""
    return {status: {"model": ErrorReply} for status in statuses}


def service_of(request: Request) -> Service:
    """The service of this application."""
    service: Service = request.app.state.service
    return service


def take_task(request: Request, name: str) -> ServedTask:
    """The version of the task that this request gets, taken once; every reply names it in its headers.

    Raises:
        UnknownTaskError: There is no such task.
        TaskUnavailableError: No version of it could be loaded.
    """
    served = service_of(request).registry.get(name)
    context = context_of(request)
    context.task, context.version = served.name, served.version
    context.headers |= {
        "x-task": served.name,
        "x-task-version": str(served.version),
        "x-mask-digest": served.digest,
    }
    return served


TaskName = Annotated[str, Path(description="name of the task", examples=["sentiment"])]


async def get_service(request: Request) -> Service:
    """See `service_of`."""
    return service_of(request)


async def get_served_task(request: Request, task: TaskName) -> ServedTask:
    """See `take_task`."""
    return take_task(request, task)


ServiceDep = Annotated[Service, Depends(get_service)]
TaskDep = Annotated[ServedTask, Depends(get_served_task)]
