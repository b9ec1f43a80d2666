"""Task routes: the tasks in service, and what their manifests say."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from mask_store import (
    CombineRule,
    EnsembleManifest,
    EvaluationInfo,
    JsonScalar,
    Manifest,
    Pooling,
    SignManifest,
    TaskKind,
    TaskManifest,
)
from masking.kernels import Precision
from server.engine.ready_masks import Residency
from server.errors import one_line
from server.http.auth import ClientDep
from server.http.dependencies import NamedVersion, ServiceDep, TaskDep
from server.http.kinds import http_kind
from server.http.middleware import context_of
from server.http.openapi import errors
from server.service import Service
from server.tasks.registry import ServedTask, TaskEntry, TaskState
from server.tenants.caller import Caller

router = APIRouter(tags=["tasks"])


class TaskSummary(BaseModel):
    """One task in service, in a few words."""

    task: str
    kind: TaskKind
    state: TaskState
    masks: Residency = Field(
        description="ready: in memory; loading: on their way there; cold: loaded by the next request"
    )
    version: int
    digest: str
    pair: bool = Field(description="whether an input is a pair of texts")
    labels: int = Field(description="how many labels it has; 0 for multiple choice and embeddings")
    metric: str | None = Field(description="what chose the checkpoint; of an ensemble its first metric")
    metric_value: float | None = Field(description="that metric on the dev set; null where there is none")
    loaded: datetime
    load_ms: float = Field(description="how long reading and checking the version took")
    bytes: int = Field(description="masks and head in memory, 0 where they are cold; more in GET /memory")
    requests_per_second: float = Field(description="answered by this version, in the last half minute")
    p95_ms: float | None = Field(description="what 95 % of those took at most, to a tenth; null without any")
    precision: Precision = Field(description="in which the server multiplies")
    pinned: int | None = Field(description="the version that the task is pinned to")
    problem: str | None = Field(description="why a newer version is not served")


class Unserved(BaseModel):
    """A task in the store of which no version is served."""

    task: str
    state: TaskState
    version: int | None = Field(description="the version that could not be loaded")
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


class Signs(BaseModel):
    """The finetuned copy that a task of signs was made of."""

    name: str
    revision: str | None
    fingerprint: str = Field(description="digest of the copy's encoder")
    settings: dict[str, JsonScalar] = Field(description="how the scales were chosen")


class TaskDetails(BaseModel):
    """Reply of GET /tasks/{task}: what its manifest says, and how to call it."""

    task: str
    kind: TaskKind
    masks: Residency = Field(
        description="ready: in memory; loading: on their way there; cold: loaded by the next request"
    )
    pair: bool
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] | None = Field(
        description="score from which on each label is given, where a text may have several; null for 0.5"
    )
    pooling: Pooling | None = Field(description="what an embedding is made of; null for other kinds")
    version: int
    digest: str
    loaded: datetime
    load_seconds: float
    pinned: int | None
    problem: str | None
    created: datetime
    base: str
    base_checked: tuple[str, ...] = Field(
        description="parts of the base that are known to be those that the task was learned with: weights, "
        "tokenizer, configuration; of a bundle of release 0.1.0 the weights alone"
    )
    max_length: int
    metric: str | None = Field(description="what chose the checkpoint; null for an ensemble")
    metrics: dict[str, float] = Field(description="on the dev set; an ensemble may have none")
    evaluation: EvaluationInfo | None = Field(
        description="answers on the dev set in short: baseline, figures of each label, confusion matrix "
        "(rows: right, columns: predicted), calibration; classes and confusion in the order of labels; null "
        "where it was not measured"
    )
    sparsity: float | None = Field(description="share of zeros in its masks; null for signs")
    initial_sparsity: float | None = Field(description="null for signs")
    flipped_share: float | None = Field(
        description="share of mask bits that learning changed; null for signs"
    )
    training: dict[str, JsonScalar] | None = Field(description="null for an ensemble and for signs")
    seed: int | None = Field(description="null for an ensemble and for signs")
    signs: Signs | None = Field(description="of what finetuned copy; null for masks")
    ensemble: Ensemble | None = Field(description="null for a task with one learned mask")
    mask_bytes: int
    head_bytes: int
    precision: Precision = Field(description="in which the server multiplies")
    example: dict[str, Any] = Field(description="a body for POST /predict/{task}")


@router.get("/tasks", summary="Every task", response_model=TaskList, responses=errors(401))
async def list_tasks(request: Request, service: ServiceDep, _: ClientDep) -> Response:
    """Every task in service, and every task of the store that is not served, with the reason."""
    caller = context_of(request).caller
    content = await service.reports.run(lambda: _listed(service, caller).model_dump_json())
    return Response(content, media_type="application/json")


def _listed(service: Service, caller: Caller) -> TaskList:
    entries = sorted(caller.visible(service.registry.entries).items())
    return TaskList(
        tasks=[summary(entry.served, entry, service) for _, entry in entries if entry.served is not None],
        not_served=[unserved(name, entry) for name, entry in entries if entry.served is None],
    )


@router.get("/tasks/{task}", summary="One task", responses=errors(401, 404, 422, 503))
async def describe_task(
    service: ServiceDep, _: ClientDep, served: TaskDep, _version: NamedVersion = None
) -> TaskDetails:
    """Labels, version, dev metrics, sparsity, and a body to call it with."""
    manifest, entry = served.loaded.manifest, service.registry.entry(served.name)
    return TaskDetails(
        **{name: getattr(manifest, name) for name in _FROM_MANIFEST},
        **_of_one_mask(manifest),
        **{name: _of_masks(manifest, name) for name in ("sparsity", "initial_sparsity", "flipped_share")},
        signs=_signs(manifest),
        ensemble=_ensemble(manifest),
        masks=service.masks.state(served.digest),
        task=served.name,
        version=served.version,
        digest=served.digest,
        loaded=served.loaded_at,
        load_seconds=served.load_seconds,
        pinned=entry.pinned,
        problem=_explain(entry),
        base=manifest.base.name,
        base_checked=served.loaded.base_checked,
        precision=service.precision,
        example=http_kind(served.loaded.spec).example,
    )


_FROM_MANIFEST = (
    "kind",
    "pair",
    "labels",
    "thresholds",
    "pooling",
    "created",
    "max_length",
    "metrics",
    "evaluation",
    "mask_bytes",
    "head_bytes",
)


def _of_one_mask(manifest: Manifest) -> dict[str, Any]:
    names = ("metric", "training", "seed")
    return {name: getattr(manifest, name) if isinstance(manifest, TaskManifest) else None for name in names}


def _of_masks(manifest: Manifest, name: str) -> float | None:
    return getattr(manifest, name) if isinstance(manifest, TaskManifest | EnsembleManifest) else None


def _signs(manifest: Manifest) -> Signs | None:
    if not isinstance(manifest, SignManifest):
        return None
    return Signs(**manifest.copied.model_dump(), settings=manifest.settings)


def _ensemble(manifest: Manifest) -> Ensemble | None:
    if not isinstance(manifest, EnsembleManifest):
        return None
    members = [Member.model_validate(member, from_attributes=True) for member in manifest.members]
    return Ensemble(combine=manifest.combine, members=members)


def summary(served: ServedTask, entry: TaskEntry, service: Service) -> TaskSummary:
    """Describe a task in service, for a list."""
    known, recent, ready = served.loaded, served.statistics.recent(), service.masks.peek(served.digest)
    metric, value = known.metric or (None, None)
    p95 = recent.p95_seconds
    return TaskSummary(
        task=served.name,
        kind=known.spec.kind,
        state="serving",
        masks=service.masks.state(served.digest),
        version=served.version,
        digest=served.digest,
        pair=known.spec.pair,
        labels=len(known.spec.labels),
        metric=metric,
        metric_value=value,
        loaded=served.loaded_at,
        load_ms=round(served.load_seconds * 1000, 3),
        bytes=0 if ready is None else ready.nbytes,
        requests_per_second=round(recent.per_second, 3),
        p95_ms=None if p95 is None else round(p95 * 1000, 3),
        precision=service.precision,
        pinned=entry.pinned,
        problem=_explain(entry),
    )


def unserved(name: str, entry: TaskEntry) -> Unserved:
    """Describe a task that is not in service, for a list."""
    version = entry.problem.version if entry.problem is not None else None
    return Unserved(
        task=name, state=entry.state, version=version, problem=one_line(entry.why_not_served(name))
    )


def _explain(entry: TaskEntry) -> str | None:
    return None if entry.problem is None else one_line(str(entry.problem))
