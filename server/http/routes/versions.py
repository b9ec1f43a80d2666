"""Version routes: the versions of a task in the store, and what changed between two of them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from mask_store import BundleDiff, Traffic
from mask_store.store.records import MAX_NUMBER
from server.errors import ConflictError, one_line
from server.http.auth import ClientDep
from server.http.dependencies import ServiceDep, TaskName
from server.http.openapi import errors
from server.http.routes.traffic import TrafficReport, report
from server.service import Service

router = APIRouter(prefix="/tasks/{task}", tags=["tasks"])


class TaskVersion(BaseModel):
    """One version of a task in the store."""

    version: int
    digest: str
    bytes: int = Field(description="of the bundle file")
    published: datetime


class TaskVersions(BaseModel):
    """Reply of GET /tasks/{task}/versions."""

    task: str
    current: int | None = Field(description="what the store calls current; null if its record is damaged")
    served: int | None = Field(description="what this server serves; null if nothing")
    pinned: int | None = Field(description="the version that the task is pinned to")
    versions: list[TaskVersion] = Field(description="those that are not deleted, oldest first")
    traffic: TrafficReport | None = Field(description="the versions that are served side by side, if any")
    problems: list[str] = Field(description="what can't be read of the task")


class LayerChange(BaseModel):
    """One masked layer in two versions."""

    name: str
    bits: int
    differing: int | None = Field(description="null where only one version has the layer")
    sparsity: tuple[float | None, float | None] = Field(description="share of zeros in each of the two")


class VersionDiff(BaseModel):
    """Reply of GET /tasks/{task}/versions/{version}/diff."""

    versions: tuple[int, int]
    bits: int = Field(description="of the layers that both have")
    differing: int = Field(description="bits that differ")
    same_base: bool
    same_labels: bool
    same_head: bool
    metrics: dict[str, tuple[float | None, float | None]] = Field(
        description="on the dev set, of each of the two; null where one lacks it"
    )
    layers: list[LayerChange]


@router.get("/versions", summary="The versions of a task", responses=errors(401, 404, 409, 503))
async def list_versions(service: ServiceDep, _: ClientDep, task: TaskName) -> TaskVersions:
    """Every version of a task in the store, and which of them is current, served and pinned."""
    history = await service.looks.run(service.history.versions, task)
    traffic, problems = await service.looks.run(_traffic, service, task)
    entry = service.registry.entry(task)
    return TaskVersions(
        task=task,
        current=None if history.current is None else history.current.number,
        served=None if entry.served is None else entry.served.version,
        pinned=entry.pinned,
        versions=[
            TaskVersion(version=one.number, digest=one.digest, bytes=one.size, published=one.published)
            for one in history.versions
        ],
        traffic=None if traffic is None else report(task, traffic, entry),
        problems=[one_line(problem.message) for problem in history.problems] + problems,
    )


def _traffic(service: Service, task: str) -> tuple[Traffic | None, list[str]]:
    """Return the traffic of a task, and why there is none to return if it can't be read."""
    try:
        return service.history.traffic(task), []
    except ConflictError as error:
        return None, [error.message]


@router.get(
    "/versions/{version}/diff",
    summary="What changed between versions",
    responses=errors(401, 404, 409, 422, 503),
)
async def diff_versions(
    service: ServiceDep,
    _: ClientDep,
    task: TaskName,
    version: Annotated[int, Path(ge=1, le=MAX_NUMBER, description="a version of the task", examples=[1])],
    to: Annotated[
        int | None, Query(ge=1, le=MAX_NUMBER, description="another one; by default the store's current one")
    ] = None,
) -> VersionDiff:
    """Compare two versions bit by bit; both are read from the store and checked."""
    return await service.looks.run(lambda: _diff(version, *service.history.diff(task, version, to)))


def _diff(a: int, b: int, found: BundleDiff) -> VersionDiff:
    layers = [
        LayerChange(
            name=layer.name,
            bits=layer.bits,
            differing=layer.differing,
            sparsity=(layer.sparsity_a, layer.sparsity_b),
        )
        for layer in found.layers
    ]
    return VersionDiff(
        versions=(a, b),
        bits=sum(layer.bits for layer in layers if layer.differing is not None),
        differing=found.differing,
        same_base=found.same_base,
        same_labels=found.same_labels,
        same_head=found.same_head,
        metrics=dict(found.metrics),
        layers=layers,
    )
