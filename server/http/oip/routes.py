"""Open Inference Protocol v2 routes, as tritonclient and kserve's client speak it, with Triton's extensions.

A task is a model. Every route of a model exists with `/versions/{version}` too, which only the version in
service answers. Errors of these routes have the protocol's shape, {"error": str}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Request, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from masking import Prediction
from server.errors import InvalidBodyError, NotReadyError, VersionNotFoundError
from server.http.auth import ClientDep, require_admin, require_client
from server.http.body import read_body
from server.http.dependencies import ServiceDep, TaskDep, TaskName, predictions_of
from server.http.error_mapping import invalid_body
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.oip import models as oip
from server.http.oip.openapi import INFER_REPLY, INFER_REQUEST_BODY
from server.http.oip.tensors import InferReply, split_body
from server.predictor import PredictRequest
from server.tasks.registry import ServedTask, TaskEntry

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"]
JSON_LENGTH = "inference-header-content-length"


class OipError(BaseModel):
    """Body of every error of the protocol."""

    error: str = Field(description="what is wrong, for people")


def oip_errors(*statuses: int | str) -> dict[int | str, dict[str, type[BaseModel]]]:
    """OpenAPI responses: the statuses that answer with the protocol's error body."""
    return {status: {"model": OipError} for status in statuses}


class IndexRequest(BaseModel):
    """Body of the repository index; it may be missing."""

    ready: bool = Field(False, description="only models that are ready")


def check_version(
    served: TaskDep, version: Annotated[str, Path(description="the version in service", examples=["1"])]
) -> None:
    """Refuse any version of a task but the one in service.

    Raises:
        VersionNotFoundError: It is another one.
    """
    if version != str(served.version):
        raise VersionNotFoundError(
            f"task {served.name!r} is served in version {served.version}; no other version can be asked for"
        )


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
async def server_metadata(request: Request) -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "maskserve", "version": request.app.version, "extensions": EXTENSIONS}


@router.get("/v2/health/live", summary="Whether the process answers")
async def live() -> dict[str, bool]:
    """200 as long as the process can answer at all."""
    return {"live": True}


@router.get("/v2/health/ready", summary="Whether it takes requests", responses=oip_errors(503))
async def ready(service: ServiceDep) -> JSONResponse:
    """200 once requests can be answered, else 503 with the reason."""
    if (reason := service.why_not_ready()) is not None:
        return JSONResponse({"ready": False, "error": reason}, NotReadyError.status)
    return JSONResponse({"ready": True})


@router.get("/v2/models/stats", summary="What every task was asked")
async def every_statistics(service: ServiceDep, _: ClientDep) -> dict[str, Any]:
    """Return the statistics of every task in service."""
    tasks = sorted(service.registry.tasks.items())
    return {"model_stats": [_statistics(served) for _, served in tasks]}


@router.post("/v2/repository/index", summary="Every task of the store", responses=oip_errors(400))
async def repository_index(
    service: ServiceDep, _: ClientDep, wanted: IndexRequest | None = None
) -> list[dict[str, str]]:
    """Every task in service, and every task of the store that can't be served, with the reason."""
    only_ready = wanted is not None and wanted.ready
    return [
        _indexed(name, entry)
        for name, entry in sorted(service.registry.entries.items())
        if entry.served is not None or not only_ready
    ]


@repository.post("/load", summary="Serve a task")
async def load(request: Request, service: ServiceDep, task: TaskName) -> dict[str, str]:
    """Serve the version that the store calls current, at once; answered when it is in service."""
    _check_load(await read_body(request, service.settings.max_body_bytes))
    await service.operators.run(service.lifecycle.load, task)
    return {}


@repository.post("/unload", summary="Serve a task no longer")
async def unload(service: ServiceDep, task: TaskName) -> dict[str, str]:
    """Take a task out of service until it is loaded again; it stays in the store."""
    await service.operators.run(service.lifecycle.unload, task)
    return {}


@models.get("", summary="The tensors of a task", responses=oip_errors(404, 503))
async def model_metadata(served: TaskDep) -> dict[str, Any]:
    """Name, version, and the inputs and outputs with their datatypes and shapes."""
    return oip.metadata(served.name, str(served.version), served.loaded.spec)


@models.get("/ready", summary="Whether a task can be asked", responses=oip_errors(404, 503))
async def model_ready(service: ServiceDep, served: TaskDep) -> dict[str, Any]:
    """200 if it can."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {"name": served.name, "ready": True}


@models.get(
    "/config", summary="A task in the words of Triton's configuration", responses=oip_errors(404, 503)
)
async def model_config(served: TaskDep) -> dict[str, Any]:
    """Tensors, kind, labels and longest input."""
    return oip.configuration(served.name, served.loaded.spec)


@models.get("/stats", summary="What a task was asked", responses=oip_errors(404, 503))
async def model_statistics(served: TaskDep) -> dict[str, Any]:
    """Return counts and nanoseconds since this version was put in service."""
    return {"model_stats": [_statistics(served)]}


@models.post(
    "/infer",
    summary="Predict with a task",
    openapi_extra={"requestBody": INFER_REQUEST_BODY},
    responses={200: INFER_REPLY, **oip_errors(400, 404, 413, 424, 429, 503, 504)},
)
async def infer(
    request: Request,
    service: ServiceDep,
    served: TaskDep,
    json_length: Annotated[
        str | None,
        Header(alias=JSON_LENGTH, description="bytes of the JSON, where binary tensors follow it"),
    ] = None,
) -> Response:
    """Answer with tensors, in JSON or binary as the request asks."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidBodyError("this server takes no compressed bodies")
    body = await read_body(request, service.settings.max_body_bytes)
    call = await run_in_threadpool(lambda: _read(body, json_length, served))
    predictions = await predictions_of(request, served, call.wanted)
    return _response(await run_in_threadpool(_reply, served, call, predictions))


def add_to(app: FastAPI) -> None:
    """Add every route; `router` comes first, because it has paths that could be a model's."""
    model = "/v2/models/{task}"
    app.include_router(router)
    app.include_router(repository)
    app.include_router(models, prefix=model)
    app.include_router(models, prefix=f"{model}/versions/{{version}}", dependencies=[Depends(check_version)])


def _indexed(name: str, entry: TaskEntry) -> dict[str, str]:
    """Describe a task in the words of the repository index."""
    if entry.served is not None:
        return {"name": name, "version": str(entry.served.version), "state": "READY", "reason": ""}
    state = "LOADING" if entry.state == "loading" else "UNAVAILABLE"
    version = str(entry.problem.version or "") if entry.problem is not None else ""
    return {"name": name, "version": version, "state": state, "reason": entry.why_not_served(name)}


def _check_load(body: bytes) -> None:
    """Refuse to load anything but what is in the store."""
    try:
        overrides = LoadRequest.model_validate_json(body).parameters if body else {}
    except ValidationError as error:
        raise invalid_body(error) from None
    if any(name == "config" or name.startswith("file:") for name in overrides):
        raise InvalidBodyError("a task is loaded as it is in the store; `config` and files can't override it")


@dataclass(frozen=True)
class _InferCall:
    """A request that was understood: its id, its inputs, and the outputs by name and whether in binary."""

    id: str | None
    wanted: PredictRequest
    reply: ReplyFormat
    outputs: Mapping[str, bool]


def _read(body: bytes, json_length: str | None, served: ServedTask) -> _InferCall:
    header, binary = split_body(body, json_length)
    infer = oip.parse_infer(header)
    outputs = oip.wanted_outputs(infer, served.loaded.spec)
    return _InferCall(infer.id, *oip.read_infer(infer, binary, served.loaded), outputs)


def _reply(served: ServedTask, call: _InferCall, predictions: Sequence[Prediction]) -> InferReply:
    outputs = http_kind(served.loaded.spec).outputs_of(call.wanted.inputs, predictions, call.reply)
    head = {"model_name": served.name, "model_version": str(served.version)}
    if call.id is not None:
        head["id"] = call.id
    binary = {name for name, is_binary in call.outputs.items() if is_binary}
    return InferReply.of(head, [outputs[name] for name in call.outputs], binary)


def _response(reply: InferReply) -> Response:
    if reply.json_length is None:
        return Response(reply.content, media_type="application/json")
    headers = {JSON_LENGTH: str(reply.json_length)}
    return Response(reply.content, media_type="application/octet-stream", headers=headers)


def _statistics(served: ServedTask) -> dict[str, Any]:
    return {"name": served.name, "version": str(served.version), **served.statistics.report()}
