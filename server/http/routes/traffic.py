"""Traffic routes: several versions of a task side by side, by weight, as a shadow or by name."""

from datetime import datetime

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from mask_store import AbortRule, Traffic, TrafficPlan
from mask_store.store.traffic import LONGEST_REASON
from server.http.auth import ClientDep, require_admin
from server.http.body import read_json
from server.http.dependencies import ServiceDep, TaskName
from server.http.middleware import context_of
from server.http.openapi import errors, example, json_body
from server.http.routes.admin import Order, Version, served_summary
from server.http.routes.tasks import TaskSummary
from server.tasks.registry import TaskEntry
from server.telemetry.traffic_stats import ShadowCounts, VersionCounts

router = APIRouter(prefix="/tasks/{task}/traffic", tags=["tasks"])
changes = APIRouter(
    prefix="/tasks/{task}/traffic",
    tags=["administration"],
    dependencies=[Depends(require_admin)],
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422, 503),
)


class VersionReport(BaseModel):
    """One of the versions that are served side by side."""

    version: int
    weight: float = Field(description="per cent of the requests")
    in_service: bool = Field(description="whether this server has it; else the stable one answers for it")
    problem: str | None = Field(description="why it is not in service here")
    rows: int = Field(description="inputs that clients asked it here, since the traffic was set")
    failed_rows: int = Field(description="those of which the computation failed")


class ShadowReport(BaseModel):
    """The version that computes what the stable one answers, too."""

    version: int
    rows: int = Field(description="inputs of which both answers were compared here")
    agreement: float | None = Field(
        description="share of them with equal labels, of words the mean share; null for kinds of task without"
    )
    difference: float | None = Field(
        description="mean of the largest difference of a label's score; of embeddings of 1 less the cosine"
    )
    failed_rows: int = Field(description="inputs that it failed to compute")
    skipped_rows: int = Field(description="inputs for which there was no room to spare")


class AbortReport(BaseModel):
    """That traffic was aborted."""

    reason: str
    at: datetime


class TrafficReport(BaseModel):
    """Traffic of a task: what the store says, and what this server has counted of it."""

    task: str
    active: bool = Field(description="whether it decides what is served; else the current version is")
    stable: int | None = Field(description="the version that others are compared with; null without traffic")
    versions: list[VersionReport]
    shadow: ShadowReport | None
    abort: AbortRule | None = Field(description="when servers end it by themselves")
    since: datetime | None = Field(description="when it was set")
    aborted: AbortReport | None = Field(description="that it was ended, and why")
    followed: bool = Field(description="whether this server serves by it; not so while the task is pinned")


class Promotion(Order):
    """Body of POST /tasks/{task}/traffic/promote."""

    version: Version | None = Field(None, description="null: the only one beside the stable one")


class Abortion(Order):
    """Body of POST /tasks/{task}/traffic/abort."""

    reason: str = Field("by an operator", max_length=LONGEST_REASON, description="kept in the store")


_PLANS = {
    "canary": example(
        "a tenth for version 4, ended by 2 % of failures",
        {"weights": {"3": 90, "4": 10}, "abort": {"errors": 0.02}},
    ),
    "shadow": example(
        "version 4 as a shadow of the current one, ended if they disagree",
        {"shadow": 4, "abort": {"agreement": 0.95, "rows": 500}},
    ),
}


@router.get("", summary="The traffic of a task", responses=errors(401, 404, 409, 503))
async def get_traffic(service: ServiceDep, _: ClientDep, task: TaskName) -> TrafficReport:
    """Which versions are served side by side, with what they were asked and how a shadow agrees."""
    traffic = await service.looks.run(service.history.traffic, task)
    return report(task, traffic, service.registry.entry(task))


@changes.put(
    "", summary="Serve versions side by side", openapi_extra={"requestBody": json_body(TrafficPlan, _PLANS)}
)
async def set_traffic(request: Request, service: ServiceDep, task: TaskName) -> TrafficReport:
    """Load every version, and serve them by weight or as a shadow, on every server that follows the store."""
    plan = await read_json(request, TrafficPlan)
    entry = await service.change(context_of(request), service.rollouts.set_traffic, task, plan)
    return report(task, entry.traffic.settings if entry.traffic else None, entry)


@changes.post(
    "/promote",
    summary="Serve one of them alone",
    openapi_extra={
        "requestBody": json_body(Promotion, {"version": example("version 4", {"version": 4})}, required=False)
    },
)
async def promote(request: Request, service: ServiceDep, task: TaskName) -> TaskSummary:
    """Make a version that has traffic current in the store, and serve it alone."""
    wanted = await read_json(request, Promotion, default=Promotion(version=None))
    change = service.change(context_of(request), service.rollouts.promote, task, wanted.version)
    return served_summary(service, await change)


@changes.post(
    "/abort",
    summary="Return to the stable version",
    openapi_extra={
        "requestBody": json_body(
            Abortion, {"reason": example("a reason", {"reason": "too many complaints"})}, required=False
        )
    },
)
async def abort(request: Request, service: ServiceDep, task: TaskName) -> TaskSummary:
    """Make the stable version current in the store, and serve it alone."""
    wanted = await read_json(request, Abortion, default=Abortion(reason="by an operator"))
    change = service.change(context_of(request), service.rollouts.abort_traffic, task, wanted.reason)
    return served_summary(service, await change)


def report(task: str, traffic: Traffic | None, entry: TaskEntry) -> TrafficReport:
    """Describe the traffic of a task.

    Args:
        task: Its name.
        traffic: What the store has; None for none.
        entry: What this server knows about the task.
    """
    here = entry.traffic if entry.traffic is not None and entry.traffic.settings == traffic else None
    if traffic is None:
        return TrafficReport(
            task=task,
            active=False,
            stable=None,
            versions=[],
            shadow=None,
            abort=None,
            since=None,
            aborted=None,
            followed=False,
        )
    counts = here.statistics.versions if here is not None else {}
    problems = here.problems if here is not None else {}
    served = {one.version for one in entry.versions}
    versions = [
        _version(traffic, number, counts.get(number, VersionCounts()), problems.get(number), number in served)
        for number in traffic.versions
    ]
    shadow = here.statistics.shadow if here is not None else ShadowCounts()
    ended = traffic.aborted
    return TrafficReport(
        task=task,
        active=traffic.active,
        stable=traffic.stable,
        versions=versions,
        shadow=None if traffic.shadow is None else _shadow(traffic.shadow, shadow),
        abort=traffic.abort,
        since=traffic.since,
        aborted=None if ended is None else AbortReport(reason=ended.reason, at=ended.at),
        followed=here is not None,
    )


def _version(
    traffic: Traffic, number: int, counts: VersionCounts, problem: str | None, served: bool
) -> VersionReport:
    return VersionReport(
        version=number,
        weight=traffic.weights.get(number, 0.0),
        in_service=served,
        problem=problem,
        rows=counts.rows,
        failed_rows=counts.failed,
    )


def _shadow(version: int, found: ShadowCounts) -> ShadowReport:
    return ShadowReport(
        version=version,
        rows=found.rows,
        agreement=found.agreement,
        difference=found.mean_difference,
        failed_rows=found.failed,
        skipped_rows=found.skipped,
    )
