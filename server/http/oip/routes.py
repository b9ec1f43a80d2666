"""Open Inference Protocol v2 routes, as tritonclient and kserve's client speak it, with Triton's extensions.

A task is a model, and so is a group of tasks (`server.http.oip.groups`). Every route of a task exists with
`/versions/{version}` too, which a version in service answers. Errors of these routes have the
protocol's shape, {"error": str}.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from pydantic import BaseModel, Field, StrictBool
from starlette.concurrency import run_in_threadpool

from masking import Prediction
from server.errors import InvalidBodyError, NotReadyError, one_line
from server.http.auth import ClientDep, require_admin, require_client
from server.http.body import check_values, read_body, read_json, utf8
from server.http.dependencies import (
    AskedTaskDep,
    ServiceDep,
    TaskDep,
    TaskName,
    check_room,
    predictions_of,
    take_task,
)
from server.http.middleware import context_of
from server.http.oip import groups
from server.http.oip import models as oip
from server.http.oip.binary import JsonLength, infer_response
from server.http.oip.openapi import INFER_REPLY, INFER_REQUEST_BODY
from server.http.oip.replies import (
    AllStatistics,
    Done,
    IndexedModel,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ModelStatistics,
    ServerLive,
    ServerMetadata,
    ServerReady,
    oip_errors,
)
from server.http.oip.tensors import InferReply, split_body
from server.http.openapi import json_body
from server.http.routes.fan_out import groups_for
from server.service import Service
from server.tasks.registry import ServedTask, TaskEntry
from server.tenants.caller import Caller

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"]


class IndexRequest(BaseModel):
    """Body of the repository index; it may be missing."""

    ready: StrictBool = Field(False, description="only models that are ready")


async def name_version(
    _: Annotated[str, Path(alias="version", description="a version in service", examples=["1"])],
) -> None:
    """Tell OpenAPI of the version in the path, which `take_task` takes."""


class LoadRequest(BaseModel):
    """Body of load and unload; it may be missing."""

    parameters: dict[str, Any] = Field({}, description="refused if they override what is in the store")


router = APIRouter(tags=["open inference protocol"], responses=oip_errors("4XX"))
models = APIRouter(
    tags=["open inference protocol"],
    dependencies=[Depends(require_client)],
    responses=oip_errors("4XX"),
)
repository = APIRouter(
    prefix="/v2/repository/models/{task}",
    tags=["open inference protocol"],
    dependencies=[Depends(require_admin)],
    responses=oip_errors("4XX", 503),
)


@router.get("/v2", summary="About the server")
async def server_metadata(request: Request) -> ServerMetadata:
    """Name, version and extensions."""
    return ServerMetadata(name="maskserve", version=request.app.version, extensions=EXTENSIONS)


@router.get("/v2/health/live", summary="Whether the process answers")
async def server_live() -> ServerLive:
    """200 as long as the process can answer at all."""
    return ServerLive(live=True)


@router.get(
    "/v2/health/ready",
    summary="Whether it takes requests",
    response_model_exclude_none=True,
    responses={503: {"model": ServerReady}},
)
async def server_ready(service: ServiceDep, response: Response) -> ServerReady:
    """200 once requests can be answered, else 503 with the reason."""
    reason = service.why_not_ready()
    if reason is not None:
        response.status_code = NotReadyError.status
    return ServerReady(ready=reason is None, error=reason)


@router.get("/v2/models/stats", summary="What every task was asked", responses=oip_errors(503))
async def every_statistics(
    request: Request, service: ServiceDep, _: ClientDep
) -> AllStatistics | ModelMetadata:
    """Return the statistics of every task in service; where a task is called `stats`, its metadata."""
    caller = context_of(request).caller
    if service.registry.knows("stats") and caller.may_call("stats"):
        return await model_metadata(service, take_task(request, "stats", answers=False))
    entries = sorted(caller.visible(service.registry.entries).items())
    return AllStatistics(model_stats=[_statistics(one) for _, entry in entries for one in entry.versions])


@router.post(
    "/v2/repository/index",
    summary="Every task of the store",
    openapi_extra={"requestBody": json_body(IndexRequest, {}, required=False)},
)
async def repository_index(request: Request, service: ServiceDep, _: ClientDep) -> list[IndexedModel]:
    """Every task in service, every task of the store that can't be served, with the reason, and groups."""
    only_ready = (await read_json(request, IndexRequest, default=IndexRequest(ready=False))).ready
    return index(service, context_of(request).caller, only_ready=only_ready)


@repository.post("/load", summary="Serve a task")
async def load_model(request: Request, service: ServiceDep, task: TaskName) -> Done:
    """Serve the version that the store calls current, at once; answered when it is in service."""
    check_load((await read_json(request, LoadRequest, default=LoadRequest(parameters={}))).parameters)
    await service.change(context_of(request), service.lifecycle.load, task)
    return Done()


@repository.post("/unload", summary="Serve a task no longer")
async def unload_model(request: Request, service: ServiceDep, task: TaskName) -> Done:
    """Take a task out of service until it is loaded again; it stays in the store."""
    await service.change(context_of(request), service.lifecycle.unload, task)
    return Done()


@models.get("", summary="The tensors of a task", responses=oip_errors(404, 503))
async def model_metadata(service: ServiceDep, served: TaskDep) -> ModelMetadata:
    """Name, versions in service, and the inputs and outputs with their datatypes and shapes."""
    return oip.metadata(served.name, versions_of(service, served), served.loaded.spec)


@models.get("/ready", summary="Whether a task can be asked", responses=oip_errors(404, 503))
async def model_ready(service: ServiceDep, served: TaskDep) -> ModelReady:
    """200 if it can."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return ModelReady(name=served.name, ready=True)


@models.get(
    "/config", summary="A task in the words of Triton's configuration", responses=oip_errors(404, 503)
)
async def model_config(served: TaskDep) -> ModelConfig:
    """Tensors, kind, labels and longest input."""
    return oip.configuration(served.name, served.loaded.spec)


@models.get("/stats", summary="What a task was asked", responses=oip_errors(404, 503))
async def model_statistics(served: TaskDep) -> AllStatistics:
    """Return counts and nanoseconds since this version was put in service."""
    return AllStatistics(model_stats=[_statistics(served)])


@models.post(
    "/infer",
    summary="Predict with a task",
    openapi_extra={"requestBody": INFER_REQUEST_BODY},
    responses={200: INFER_REPLY, **oip_errors(400, 404, 408, 413, 415, 424, 429, 503, 504)},
)
async def infer(
    request: Request,
    service: ServiceDep,
    served: AskedTaskDep,
    json_length: JsonLength = None,
) -> Response:
    """Answer with tensors, in JSON or binary as the request asks."""
    check_room(request, served)
    body = await read_body(request)
    call = await service.predictor.run_by_size(len(body), lambda: _read(body, json_length, served, service))
    predictions = await predictions_of(request, served, call.wanted)
    return infer_response(await run_in_threadpool(_reply, served, call, predictions))


def add_to(app: FastAPI) -> None:
    """Add every route; `router` comes first, because it has paths that could be a model's."""
    model = "/v2/models/{task}"
    app.include_router(router)
    app.include_router(groups.router)
    app.include_router(repository)
    app.include_router(models, prefix=model)
    checks = [Depends(require_client), Depends(name_version)]  # without a key, no task is named
    app.include_router(models, prefix=f"{model}/versions/{{version}}", dependencies=checks)


def versions_of(service: Service, served: ServedTask) -> list[str]:
    """Return the versions of a task that can be asked for by name."""
    versions = service.registry.entry(served.name).versions or (served,)
    return [str(number) for number in sorted(one.version for one in versions)]


def indexed(name: str, entry: TaskEntry) -> IndexedModel:
    """Describe a task in the words of the repository index."""
    if entry.served is not None:
        return IndexedModel(name=name, version=str(entry.served.version), state="READY", reason="")
    version = str(entry.problem.version or "") if entry.problem is not None else ""
    return IndexedModel(
        name=name,
        version=version,
        state="LOADING" if entry.state == "loading" else "UNAVAILABLE",
        reason=one_line(entry.why_not_served(name)),
    )


def index(service: Service, caller: Caller, *, only_ready: bool) -> list[IndexedModel]:
    """Return the repository index: the tasks and groups that a caller may call, or those in service alone."""
    tasks = sorted(caller.visible(service.registry.entries).items())
    every = [indexed(name, entry) for name, entry in tasks]
    every += [groups.indexed(name, service) for name in sorted(groups_for(service, caller))]
    return [model for model in every if model.state == "READY" or not only_ready]


def check_load(parameters: Iterable[str]) -> None:
    """Refuse to load anything but what is in the store.

    Args:
        parameters: Names of those that a client gave.

    Raises:
        InvalidBodyError: One of them overrides what is in the store.
    """
    if any(name == "config" or name.startswith("file:") for name in parameters):
        raise InvalidBodyError("a task is loaded as it is in the store; `config` and files can't override it")


def _read(body: bytes, json_length: str | None, served: ServedTask, service: Service) -> oip.InferCall:
    header, binary = split_body(body, json_length)
    check_values(header, service.settings.max_body_values)
    return oip.read_call(oip.parse_infer(utf8(header)), binary, served.loaded, service.limits)


def _reply(served: ServedTask, call: oip.InferCall, predictions: Sequence[Prediction]) -> InferReply:
    model = (served.name, str(served.version))
    return InferReply.of(model, call.id, call.tensors(served.loaded, predictions), call.outputs)


def _statistics(served: ServedTask) -> ModelStatistics:
    return ModelStatistics(name=served.name, version=str(served.version), **served.statistics.report())
