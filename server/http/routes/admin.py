"""Administration routes: load, unload, pin, roll back, upload, delete. All of them need the admin key."""

import tempfile

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, PositiveInt
from starlette.concurrency import run_in_threadpool

from server.http.auth import require_admin
from server.http.body import stream_body
from server.http.dependencies import ServiceDep, TaskName
from server.http.openapi import errors
from server.http.routes.tasks import TaskSummary, Unserved, summary, unserved
from server.service import Service
from server.tasks.registry import ServedTask

router = APIRouter(
    prefix="/tasks/{task}",
    tags=["administration"],
    dependencies=[Depends(require_admin)],
    responses=errors(401, 403, 404, 409, 503),
)


class Pin(BaseModel):
    """Body of POST /tasks/{task}/pin."""

    version: PositiveInt | None = Field(description="the version to keep; null follows the store again")


class Rollback(BaseModel):
    """Body of POST /tasks/{task}/rollback."""

    version: PositiveInt | None = Field(
        None, description="the version to return to; null: the newest before it with other contents"
    )


class Published(BaseModel):
    """Reply of PUT /tasks/{task}."""

    task: str
    version: int = Field(description="the version in the store that holds the upload")
    digest: str
    created: bool = Field(description="whether it is a new version, not the one that was current already")
    served_version: int = Field(description="what this server serves: another version if the task is pinned")


@router.post("/load", summary="Serve a task")
async def load(service: ServiceDep, task: TaskName) -> TaskSummary:
    """Serve the version that the store calls current, at once; answered when it is in service."""
    return _summary(service, await service.operators.run(service.lifecycle.load, task))


@router.post("/unload", summary="Serve a task no longer")
async def unload(service: ServiceDep, task: TaskName) -> Unserved:
    """Take a task out of service until it is loaded again; it stays in the store."""
    return unserved(task, await service.operators.run(service.lifecycle.unload, task))


@router.post("/pin", summary="Keep serving one version")
async def pin(service: ServiceDep, task: TaskName, wanted: Pin) -> TaskSummary:
    """Serve one version whatever the store calls current, until it is unpinned with null."""
    return _summary(service, await service.operators.run(service.lifecycle.pin, task, wanted.version))


@router.post("/rollback", summary="Return to an earlier version")
async def rollback(service: ServiceDep, task: TaskName, wanted: Rollback | None = None) -> TaskSummary:
    """Make an earlier version current in the store, for every server that follows it, and serve it."""
    version = None if wanted is None else wanted.version
    return _summary(service, await service.operators.run(service.lifecycle.rollback, task, version))


@router.put(
    "",
    summary="Upload a bundle",
    status_code=201,
    responses={200: {"model": Published}, **errors(413, 422, 507)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(request: Request, response: Response, service: ServiceDep, task: TaskName) -> Published:
    """Check a bundle file whole, publish it, and serve it. Uploading the same file again changes nothing."""
    with tempfile.TemporaryFile() as file:
        async for chunk in stream_body(request, service.settings.max_bundle_bytes):
            await run_in_threadpool(file.write, chunk)
        file.seek(0)
        published = await service.operators.run(service.lifecycle.publish, task, file)
    response.status_code = 201 if published.created else 200
    return Published(
        task=task,
        version=published.version.number,
        digest=published.version.digest,
        created=published.created,
        served_version=published.served.version,
    )


@router.delete("", summary="Delete a task", status_code=204)
async def delete(service: ServiceDep, task: TaskName) -> None:
    """Remove a task with all its versions from the store, for every server, and serve it no longer."""
    await service.operators.run(service.lifecycle.delete, task)


def _summary(service: Service, served: ServedTask) -> TaskSummary:
    return summary(served, service.registry.entry(served.name))
