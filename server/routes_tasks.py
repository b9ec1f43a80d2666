"""What is served and how the server is doing: tasks, memory, metrics, health."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mask_store import CombineRule, EnsembleManifest, JsonScalar, Manifest, TaskKind, TaskManifest
from server.dependencies import ServiceDep, TaskDep, errors
from server.errors import NotReadyError
from server.memory import MemoryReport
from server.registry import ServedTask, TaskProblem
from server.schemas import example_body

router = APIRouter()


class TaskSummary(BaseModel):
    """One task, in a few words."""

    task: str
    kind: TaskKind
    version: int
    digest: str
    labels: int = Field(description="how many labels it has; 0 for multiple choice")
    loaded: datetime
    problem: str | None = Field(description="why a newer version is not served")


class Unserved(BaseModel):
    """A task in the store of which no version can be served."""

    task: str
    version: int | None
    problem: str


class TaskList(BaseModel):
    """Reply of GET /tasks."""

    tasks: list[TaskSummary]
    not_served: list[Unserved]


class Member(BaseModel):
    """One member of an ensemble: the version of a task that its mask was copied from."""

    task: str
    version: int
    digest: str
    seed: int
    metric: str
    metrics: dict[str, float]
    sparsity: float = Field(description="share of zeros in its masks")
    flipped_share: float


class Ensemble(BaseModel):
    """The members of an ensemble, and how their answers become one."""

    combine: CombineRule = Field(
        description="vote of the members' labels, mean of their logits, or mean of their probabilities"
    )
    members: list[Member]


class TaskDetails(BaseModel):
    """Reply of GET /tasks/{task}: what its manifest says, and how to call it."""

    task: str
    kind: TaskKind
    pair: bool
    labels: tuple[str, ...]
    version: int
    digest: str
    loaded: datetime
    load_seconds: float
    problem: str | None
    created: datetime
    base: str
    max_length: int
    metric: str | None = Field(description="what chose the checkpoint; null for an ensemble")
    metrics: dict[str, float] = Field(description="on the dev set; an ensemble may have none")
    sparsity: float = Field(description="share of zeros in its masks")
    initial_sparsity: float
    flipped_share: float = Field(description="share of mask bits that learning changed")
    training: dict[str, JsonScalar] | None = Field(description="null for an ensemble")
    seed: int | None = Field(description="null for an ensemble")
    ensemble: Ensemble | None = Field(description="null for a task with one learned mask")
    mask_bytes: int
    head_bytes: int
    example: dict[str, Any] = Field(description="a body for POST /predict/{task}")


@router.get("/tasks", tags=["tasks"], summary="Every task in service")
async def list_tasks(service: ServiceDep) -> TaskList:
    """Every task in service, and every task of the store that can't be served, with the reason."""
    served, problems = service.registry.tasks, service.registry.problems
    return TaskList(
        tasks=[_summary(task, problems.get(name)) for name, task in sorted(served.items())],
        not_served=[
            Unserved(task=name, version=problem.version, problem=problem.reason)
            for name, problem in sorted(problems.items())
            if name not in served
        ],
    )


@router.get("/tasks/{task}", tags=["tasks"], summary="One task", responses=errors(404, 503))
async def describe_task(service: ServiceDep, served: TaskDep) -> TaskDetails:
    """Labels, version, dev metrics, sparsity, and a body to call it with."""
    manifest = served.loaded.manifest
    return TaskDetails(
        **{name: getattr(manifest, name) for name in _FROM_MANIFEST},
        **_of_one_mask(manifest),
        ensemble=_ensemble(manifest),
        task=served.name,
        version=served.version,
        digest=served.digest,
        loaded=served.loaded_at,
        load_seconds=served.load_seconds,
        problem=_explain(service.registry.problems.get(served.name)),
        base=manifest.base.name,
        example=example_body(manifest.kind, pair=manifest.pair),
    )


@router.get("/memory", tags=["operations"], summary="What is held in memory")
async def memory(service: ServiceDep) -> MemoryReport:
    """Bytes of the base and of each task's masks in each form, beside finetuned copies."""
    return await run_in_threadpool(service.memory)


@router.get("/metrics", tags=["operations"], summary="Metrics for Prometheus")
async def metrics(service: ServiceDep) -> Response:
    """Prometheus' text format."""
    content = await run_in_threadpool(service.metrics.exposition)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/health/live", tags=["operations"], summary="Whether the process answers")
async def live() -> dict[str, str]:
    """200 as long as the process can answer at all."""
    return {"status": "live"}


@router.get("/health/ready", tags=["operations"], summary="Whether it takes requests", responses=errors(503))
async def ready(service: ServiceDep) -> dict[str, str | int]:
    """200 once the worker is alive and every task found at start is loaded or reported."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {
        "status": "ready",
        "tasks": len(service.registry.tasks),
        "problems": len(service.registry.problems),
    }


@router.get("/", tags=["operations"], summary="Where things are")
async def index(service: ServiceDep) -> dict[str, Any]:
    """Where things are."""
    return {
        "name": "maskserve",
        "base": service.base.info.name,
        "tasks": len(service.registry.tasks),
        "predict": "POST /predict/{task}",
        "list_tasks": "/tasks",
        "describe_task": "/tasks/{task}",
        "memory": "/memory",
        "metrics": "/metrics",
        "live": "/health/live",
        "ready": "/health/ready",
        "openapi": "/openapi.json",
        "documentation": "/docs",
    }


_FROM_MANIFEST = (
    "kind",
    "pair",
    "labels",
    "created",
    "max_length",
    "metrics",
    "sparsity",
    "initial_sparsity",
    "flipped_share",
    "mask_bytes",
    "head_bytes",
)


def _of_one_mask(manifest: Manifest) -> dict[str, Any]:
    names = ("metric", "training", "seed")
    return {name: getattr(manifest, name) if isinstance(manifest, TaskManifest) else None for name in names}


def _ensemble(manifest: Manifest) -> Ensemble | None:
    if not isinstance(manifest, EnsembleManifest):
        return None
    members = [Member.model_validate(member, from_attributes=True) for member in manifest.members]
    return Ensemble(combine=manifest.combine, members=members)


def _summary(served: ServedTask, problem: TaskProblem | None) -> TaskSummary:
    return TaskSummary(
        task=served.name,
        kind=served.loaded.manifest.kind,
        version=served.version,
        digest=served.digest,
        labels=len(served.loaded.manifest.labels),
        loaded=served.loaded_at,
        problem=_explain(problem),
    )


def _explain(problem: TaskProblem | None) -> str | None:
    if problem is None:
        return None
    version = "" if problem.version is None else f"version {problem.version}: "
    return f"{version}{problem.reason}"
