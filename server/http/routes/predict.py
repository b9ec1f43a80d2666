"""Predict route, and what huggingface_hub's and text-embeddings-inference's clients ask about it."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from server.errors import NotReadyError
from server.http.auth import check_client, require_client
from server.http.body import read_body, run_by_size
from server.http.dependencies import (
    ServiceDep,
    TaskDep,
    TaskName,
    predictions_of,
    service_of,
    take_task,
)
from server.http.kinds import http_kind
from server.http.openapi import PREDICT_REPLY, PREDICT_REQUEST_BODY, errors
from server.http.parsing import parse_request
from server.http.rendering import render
from server.service import Service

router = APIRouter(tags=["predict"], dependencies=[Depends(require_client)])


async def predict(request: Request, task: TaskName) -> Response:
    """Answer in the Hugging Face shape if the body has the key `parameters`, else in that of TEI.

    The headers name the version and the digest that computed the answer, and the milliseconds of each stage.
    """
    served = take_task(request, task)
    service_of(request).predictor.check_room(served)
    body = await read_body(request, service_of(request).settings.max_body_bytes)
    wanted, reply = await run_by_size(len(body), lambda: parse_request(body, served.loaded))
    predictions = await predictions_of(request, served, wanted)
    content = await run_by_size(
        len(body), lambda: to_json(render(served.loaded, wanted.inputs, predictions, reply))
    )
    return Response(content, media_type="application/json")


class _DirectRoute(APIRoute):
    """Documented by FastAPI, but called without its dependencies, which take as long as all the rest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that checks the client's key by itself."""

        async def handle(request: Request) -> Response:
            await check_client(request)
            return await predict(request, request.path_params["task"])

        return handle


def add_to(app: FastAPI) -> None:
    """Add the routes; the predict route stands before every included router, which take longer to match."""
    app.router.add_api_route(
        "/predict/{task}",
        predict,
        methods=["POST"],
        route_class_override=_DirectRoute,
        tags=["predict"],
        summary="Predict with a task",
        dependencies=[Depends(require_client)],
        openapi_extra={"requestBody": PREDICT_REQUEST_BODY},
        responses={200: PREDICT_REPLY, **errors(400, 401, 404, 413, 422, 424, 429, 503, 504)},
    )
    app.include_router(router)


@router.get("/predict/{task}/health", summary="Whether the task can be called", responses=errors(404, 503))
async def task_health(service: ServiceDep, served: TaskDep) -> dict[str, str]:
    """Answer huggingface_hub's `health_check`."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {"status": "ok", "task": served.name}


@router.get("/predict/{task}/info", summary="About the task's endpoint", responses=errors(404, 503))
async def task_info(service: ServiceDep, served: TaskDep) -> dict[str, Any]:
    """Answer huggingface_hub's `get_endpoint_info`, with the keys of text-embeddings-inference."""
    manifest = served.loaded.manifest
    labels = dict(enumerate(manifest.labels))
    return {
        **_server_info(service),
        "model_pipeline_tag": http_kind(served.loaded.spec).pipeline_tag,
        "model_type": {"classifier": {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}},
        "task": served.name,
        "task_version": served.version,
        "mask_digest": served.digest,
        "max_input_length": manifest.max_length,
    }


@router.get("/info", summary="About the server")
async def info(request: Request, service: ServiceDep) -> dict[str, Any]:
    """Return base and limits under text-embeddings-inference's keys; each task's own are at its own route."""
    return {**_server_info(service), "version": request.app.version, "tasks": len(service.registry.tasks)}


def _server_info(service: Service) -> dict[str, Any]:
    base, settings = service.base, service.settings
    return {
        "model_id": base.info.name,
        "model_sha": base.info.revision,
        "model_dtype": "float32",
        "model_device_type": base.device.type,
        "max_batch_tokens": service.max_batch_tokens,
        "max_batch_requests": settings.max_batch_rows,
        "max_client_batch_size": settings.queue_limit,
    }
