"""Predict route, and what huggingface_hub's and text-embeddings-inference's clients ask about it."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import to_json

from mask_store import Pooling
from masking.kernels import Precision
from server.errors import NotReadyError
from server.http.admission import admission_of
from server.http.auth import require_client
from server.http.body import read_text
from server.http.dependencies import (
    NamedVersion,
    ServiceDep,
    StickyKey,
    TaskDep,
    TaskName,
    predictions_of,
)
from server.http.kinds import http_kind
from server.http.middleware import context_of, service_of
from server.http.openapi import PREDICT_REPLY, PREDICT_REQUEST_BODY, errors
from server.http.parsing import parse_request
from server.http.rendering import render
from server.service import Service

router = APIRouter(tags=["predict"], dependencies=[Depends(require_client)])
of_task = APIRouter(tags=["predict"], dependencies=[Depends(require_client)])

_DTYPES: Mapping[Precision, str] = {
    "fp32": "float32",
    "tf32": "float32",
    "tf32x3": "float32",
    "bf16": "bfloat16",
    "int8": "int8",
}
_JAVASCRIPT_CLIENT = "@huggingface/inference/"  # sends no `parameters` where its caller gives none


async def predict(
    request: Request, task: TaskName, _version: NamedVersion = None, _key: StickyKey = None
) -> Response:
    """Answer in the shape of Hugging Face or of text-embeddings-inference, as the body's keys say.

    The headers name the version, the digest and the precision that computed the answer, and the milliseconds
    of each stage.
    """
    agent = request.headers.get("user-agent", "")
    return await _answer(request, hugging_face=agent.startswith(_JAVASCRIPT_CLIENT))


async def predict_for_hugging_face(
    request: Request, task: TaskName, _version: NamedVersion = None, _key: StickyKey = None
) -> Response:
    """Answer in the shape of Hugging Face, whether or not the body has `parameters`."""
    return await _answer(request, hugging_face=True)


async def _answer(request: Request, *, hugging_face: bool) -> Response:
    admission, service = admission_of(request), service_of(request)
    served = admission.served
    body = await read_text(request)
    wanted, reply = await service.predictor.run_by_size(
        len(body),
        lambda: parse_request(body, served.loaded, service.limits, hugging_face=hugging_face),
    )
    predictions = await predictions_of(request, served, wanted, admission.place)
    content = await service.predictor.run_by_size(
        len(body), lambda: to_json(render(served.loaded, wanted.inputs, predictions, reply))
    )
    return Response(content, media_type="application/json")


class _DirectRoute(APIRoute):
    """Documented by FastAPI, but called without its dependencies, which take as long as all the rest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler for requests that `AdmissionMiddleware` let in."""

        async def handle(request: Request) -> Response:
            return await answer(request, request.path_params["task"])

        answer = cast(Callable[[Request, str], Coroutine[Any, Any, Response]], self.endpoint)
        return handle


def add_to(app: FastAPI) -> dict[str, APIRoute]:
    """Add the routes; the predict route stands before every included router, which take longer to match.

    Returns:
        The routes that `AdmissionMiddleware` has to admit requests to.
    """
    added = dict[str, APIRoute]()
    for start, answer, summary in (
        ("/predict", predict, "Predict with a task"),
        ("/hf", predict_for_hugging_face, "Predict with a task, for Hugging Face's clients"),
    ):
        path = f"{start}/{{task}}"
        app.router.add_api_route(
            path,
            answer,
            methods=["POST"],
            route_class_override=_DirectRoute,
            tags=["predict"],
            summary=summary,
            dependencies=[Depends(require_client)],
            openapi_extra={"requestBody": PREDICT_REQUEST_BODY},
            responses={200: PREDICT_REPLY, **errors(400, 401, 404, 408, 413, 415, 422, 424, 429, 503, 504)},
        )
        added[start] = cast(APIRoute, app.router.routes[-1])
        app.include_router(of_task, prefix=path)
    app.include_router(router)
    return added


class TaskHealth(BaseModel):
    """Reply of a task's health route."""

    status: str
    task: str


class Labels(BaseModel):
    """Labels of a classifier, by index and by name."""

    id2label: dict[int, str]
    label2id: dict[str, int]


class EmbeddingType(BaseModel):
    """What an embedding is made of."""

    pooling: Pooling


class ModelType(BaseModel):
    """What a model does, in text-embeddings-inference's words: the only key that is there."""

    classifier: Labels | None = None
    reranker: Labels | None = None
    embedding: EmbeddingType | None = None


class ServerInfo(BaseModel):
    """Base and limits, under text-embeddings-inference's keys."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_device_type: str
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int


class Info(ServerInfo):
    """Reply of GET /info."""

    version: str
    tasks: int


class TaskInfo(ServerInfo):
    """Reply of a task's info route."""

    model_pipeline_tag: str
    model_type: ModelType
    task: str
    task_version: int
    mask_digest: str
    max_input_length: int


@of_task.get("/health", summary="Whether the task can be called", responses=errors(401, 404, 503))
async def task_health(service: ServiceDep, served: TaskDep) -> TaskHealth:
    """Answer huggingface_hub's `health_check`."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return TaskHealth(status="ok", task=served.name)


@of_task.get(
    "/info",
    summary="About the task's endpoint",
    response_model_exclude_unset=True,
    responses=errors(401, 404, 503),
)
async def task_info(service: ServiceDep, served: TaskDep) -> TaskInfo:
    """Answer huggingface_hub's `get_endpoint_info`, with the keys of text-embeddings-inference."""
    manifest = served.loaded.manifest
    id2label = dict(enumerate(manifest.labels))
    label2id = {label: index for index, label in id2label.items()}
    kind, pooling = http_kind(served.loaded.spec), manifest.pooling
    about = EmbeddingType(pooling=pooling) if pooling else Labels(id2label=id2label, label2id=label2id)
    return TaskInfo(
        **_server_info(service),
        model_pipeline_tag=kind.pipeline_tag,
        model_type=ModelType(**{kind.model_type: about}),
        task=served.name,
        task_version=served.version,
        mask_digest=served.digest,
        max_input_length=manifest.max_length,
    )


@router.get("/info", summary="About the server", responses=errors(401))
async def info(request: Request, service: ServiceDep) -> Info:
    """Return base and limits under text-embeddings-inference's keys; each task's own are at its own route."""
    caller, registry = context_of(request).caller, service.registry
    tasks = registry.served if caller.tasks is None else len(caller.visible(registry.tasks))
    return Info(**_server_info(service), version=request.app.version, tasks=tasks)


def _server_info(service: Service) -> dict[str, Any]:
    base, settings = service.base, service.settings
    return {
        "model_id": base.info.name,
        "model_sha": base.info.revision,
        "model_dtype": _DTYPES[service.precision],
        "model_device_type": base.device.type,
        "max_batch_tokens": service.limits.tokens,
        "max_batch_requests": settings.max_batch_rows,
        "max_client_batch_size": settings.queue_limit,
    }
