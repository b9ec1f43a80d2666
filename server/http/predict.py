"""POST /predict/{task}, and what huggingface_hub and text-embeddings-inference's clients ask about it."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from server.errors import NotReadyError
from server.http.auth import check_client
from server.http.dependencies import ServiceDep, TaskDep, TaskName, errors, service_of, take_task
from server.http.exchange import answer_request, note_times, read_body
from server.http.parsing import parse_body, read_request
from server.http.rendering import render
from server.http.schemas import PREDICT_REPLY, PREDICT_REQUEST_BODY
from server.service import Service

router = APIRouter(tags=["predict"])
Result = TypeVar("Result")

_SMALL_BODY = 8192  # bytes; reading and answering less than this takes no longer than going to a thread


@router.post(
    "/predict/{task}",
    summary="Predict with a task",
    openapi_extra={"requestBody": PREDICT_REQUEST_BODY},
    responses={200: PREDICT_REPLY, **errors(400, 401, 404, 413, 422, 424, 429, 503, 504)},
)
async def predict(request: Request, task: TaskName) -> Response:
    """Answer in the Hugging Face shape if the body has the key `parameters`, else in that of TEI.

    The headers name the version and the digest that computed the answer, and the milliseconds of each stage.
    """
    started = time.monotonic()
    service = service_of(request)
    served = take_task(request, task)
    body = await read_body(request, service.settings.max_body_bytes)
    run = _inline if len(body) <= _SMALL_BODY else run_in_threadpool
    wanted = await run(lambda: read_request(parse_body(body, served.loaded), served.loaded))
    answer = await answer_request(request, service, served, wanted)
    content = await run(lambda: to_json(render(served.loaded, wanted, answer.outcome.logits)))
    headers = note_times(service, answer, started)
    return Response(content, media_type="application/json", headers=headers)


async def _predict_at_once(request: Request) -> Response:
    request.scope["route"] = fast_route  # what is counted and logged; FastAPI sets it for its own routes only
    await check_client(request)
    return await predict(request, request.path_params["task"])


# The same without FastAPI's dependencies, which take as long as all the rest; it comes before the router,
# which is left with the documentation.
fast_route = Route("/predict/{task}", _predict_at_once, methods=["POST"], include_in_schema=False)


@router.get("/predict/{task}/health", summary="Whether the task can be called", responses=errors(404, 503))
async def task_health(service: ServiceDep, served: TaskDep) -> dict[str, str]:
    """What huggingface_hub's `health_check` asks for."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {"status": "ok", "task": served.name}


@router.get("/predict/{task}/info", summary="About the task's endpoint", responses=errors(404, 503))
async def task_info(service: ServiceDep, served: TaskDep) -> dict[str, Any]:
    """What huggingface_hub's `get_endpoint_info` asks for, with the keys of text-embeddings-inference."""
    manifest = served.loaded.manifest
    labels = dict(enumerate(manifest.labels))
    return {
        **_server_info(service),
        "model_pipeline_tag": "text-classification"
        if manifest.kind == "sequence-classification"
        else manifest.kind,
        "model_type": {"classifier": {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}},
        "task": served.name,
        "task_version": served.version,
        "mask_digest": served.digest,
        "max_input_length": manifest.max_length,
    }


async def _inline(work: Callable[[], Result]) -> Result:
    return work()


@router.get("/info", summary="About the server")
async def info(request: Request, service: ServiceDep) -> dict[str, Any]:
    """Base and limits under text-embeddings-inference's keys; what is a task's own is at its own route."""
    return {**_server_info(service), "version": request.app.version, "tasks": len(service.registry.tasks)}


def _server_info(service: Service) -> dict[str, Any]:
    base, settings = service.base, service.settings
    return {
        "model_id": base.info.name,
        "model_sha": base.info.revision,
        "model_dtype": "float32",
        "model_device_type": base.device.type,
        "max_batch_tokens": service.engine.queue.limits.tokens,
        "max_batch_requests": settings.max_batch_rows,
        "max_client_batch_size": settings.queue_limit,
    }
