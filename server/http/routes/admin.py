"""Administration routes: load, unload, pin, roll back, upload, delete. All of them need the admin key."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, BinaryIO, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mask_store.store.records import MAX_NUMBER
from server.errors import InsufficientStorageError
from server.http.auth import require_admin
from server.http.body import read_json, stream_body
from server.http.dependencies import ServiceDep, TaskName
from server.http.middleware import context_of
from server.http.openapi import errors, example, json_body
from server.http.routes.tasks import TaskSummary, Unserved, summary, unserved
from server.service import Service
from server.tasks.registry import ServedTask

router = APIRouter(
    prefix="/tasks/{task}",
    tags=["administration"],
    dependencies=[Depends(require_admin)],
    responses=errors(401, 403, 404, 409, 422, 503),
)


Version = Annotated[int, Field(ge=1, le=MAX_NUMBER, strict=True)]


class Order(BaseModel):
    """Body of an operator's request."""

    model_config = ConfigDict(extra="forbid")  # a key that is misspelt must not mean "the one before"


class Pin(Order):
    """Body of POST /tasks/{task}/pin."""

    version: Version | None = Field(description="the version to keep; null follows the store again")


class Rollback(Order):
    """Body of POST /tasks/{task}/rollback."""

    version: Version | None = Field(
        None, description="the version to return to; null: the newest before it with other contents"
    )


_VERSION_1 = {"version": example("version 1", {"version": 1})}


class Published(BaseModel):
    """Reply of PUT /tasks/{task}."""

    task: str
    version: int = Field(description="the version in the store that holds the upload")
    digest: str
    created: bool = Field(description="whether it is a new version, not the one that was current already")
    served_version: int = Field(description="what this server serves: another version if the task is pinned")


@router.post("/load", summary="Serve a task")
async def load(request: Request, service: ServiceDep, task: TaskName) -> TaskSummary:
    """Serve the version that the store calls current, at once; answered when it is in service."""
    return served_summary(service, await service.change(context_of(request), service.lifecycle.load, task))


@router.post("/unload", summary="Serve a task no longer")
async def unload(request: Request, service: ServiceDep, task: TaskName) -> Unserved:
    """Take a task out of service until it is loaded again; it stays in the store."""
    return unserved(task, await service.change(context_of(request), service.lifecycle.unload, task))


@router.post(
    "/pin",
    summary="Keep serving one version",
    openapi_extra={"requestBody": json_body(Pin, _VERSION_1)},
    responses=errors(400, 413, 415, 422),
)
async def pin(request: Request, service: ServiceDep, task: TaskName) -> TaskSummary:
    """Serve one version whatever the store calls current, until it is unpinned with null."""
    wanted = await read_json(request, Pin)
    return served_summary(
        service, await service.change(context_of(request), service.lifecycle.pin, task, wanted.version)
    )


@router.post(
    "/rollback",
    summary="Return to an earlier version",
    openapi_extra={"requestBody": json_body(Rollback, _VERSION_1, required=False)},
    responses=errors(400, 413, 415, 422),
)
async def rollback(request: Request, service: ServiceDep, task: TaskName) -> TaskSummary:
    """Make an earlier version current in the store, for every server that follows it, and serve it."""
    wanted = await read_json(request, Rollback, default=Rollback(version=None))
    return served_summary(
        service, await service.change(context_of(request), service.lifecycle.rollback, task, wanted.version)
    )


@router.put(
    "",
    summary="Upload a bundle",
    status_code=201,
    responses={200: {"model": Published}, **errors(400, 408, 413, 415, 422, 507)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(request: Request, response: Response, service: ServiceDep, task: TaskName) -> Published:
    """Check a bundle file whole, publish it, and serve it. Uploading the same file again changes nothing."""
    async with _spooled(request, service.settings.max_bundle_bytes) as file:
        published = await service.change(context_of(request), service.lifecycle.publish, task, file)
    response.status_code = 201 if published.created else 200
    return Published(
        task=task,
        version=published.version.number,
        digest=published.version.digest,
        created=published.created,
        served_version=published.served.version,
    )


@router.delete("", summary="Delete a task", status_code=204)
async def delete(request: Request, service: ServiceDep, task: TaskName) -> None:
    """Remove a task with all its versions from the store, for every server, and serve it no longer."""
    await service.change(context_of(request), service.lifecycle.delete, task)


def served_summary(service: Service, served: ServedTask) -> TaskSummary:
    """Describe a version that was put in service just now."""
    return summary(served, service.registry.entry(served.name), service)


@asynccontextmanager
async def _spooled(request: Request, limit: int) -> AsyncIterator[BinaryIO]:
    """Lay the body of a request into a temporary file.

    Raises:
        InsufficientStorageError: The temporary folder can't take it.
    """
    with _temporary_file() as file:
        async for chunk in stream_body(request, limit):
            await run_in_threadpool(_write, file, chunk)
        file.seek(0)
        yield file


def _temporary_file() -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))
    except OSError as error:
        raise _no_room(error) from None


def _write(file: BinaryIO, chunk: bytes) -> None:
    """Write all of a chunk; a file without a buffer may take a part of it."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> InsufficientStorageError:
    why = error.strerror or "it is not usable"
    return InsufficientStorageError(
        f"the server's temporary folder can't take the upload: {why}; nothing was changed"
    )
