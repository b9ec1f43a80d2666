"""POST /predict/{task}, and what huggingface_hub asks about an endpoint."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from masking import LoadedTask
from server.dependencies import ServiceDep, TaskDep, TaskName, errors, service_of, take_task
from server.errors import (
    BodyTooLargeError,
    ClientGoneError,
    InvalidBodyError,
    NotReadyError,
    to_server_error,
)
from server.inputs import Body, read_request
from server.observe import context_of
from server.registry import ServedTask
from server.replies import render
from server.schemas import PREDICT_REPLY, PREDICT_REQUEST_BODY, example_body, predict_body
from server.service import Answer, Service

router = APIRouter(tags=["predict"])
Result = TypeVar("Result")

_SMALL_BODY = 8192  # bytes; reading and answering less than this takes no longer than going to a thread


@router.post(
    "/predict/{task}",
    summary="Predict with a task",
    openapi_extra={"requestBody": PREDICT_REQUEST_BODY},
    responses={200: PREDICT_REPLY, **errors(400, 404, 413, 422, 424, 429, 503, 504)},
)
async def predict(request: Request, task: TaskName) -> Response:
    """Answer in the Hugging Face shape if the body has the key `parameters`, else in that of TEI.

    The headers name the version and the digest that computed the answer, and the milliseconds of each stage.
    """
    started = time.monotonic()
    service = service_of(request)
    served = take_task(request, task)
    body = await _read_body(request, service.settings.max_body_bytes)
    run = _inline if len(body) <= _SMALL_BODY else run_in_threadpool
    wanted = await run(lambda: read_request(_parse(body, served.loaded), served.loaded))
    work = service.compute(served.loaded, wanted, context_of(request).request_id)
    answer = await _unless_left(request, work)
    content = await run(lambda: to_json(render(served.loaded, wanted, answer.outcome.logits)))
    total = time.monotonic() - started
    _note_times(service, answer, total)
    return Response(content, media_type="application/json", headers=_headers(served, answer, total))


@router.get("/predict/{task}/health", summary="Whether the task can be called", responses=errors(404, 503))
async def task_health(service: ServiceDep, served: TaskDep) -> dict[str, str]:
    """What huggingface_hub's `health_check` asks for."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {"status": "ok", "task": served.name}


@router.get("/predict/{task}/info", summary="About the task's endpoint", responses=errors(404, 503))
async def task_info(service: ServiceDep, served: TaskDep) -> dict[str, Any]:
    """What huggingface_hub's `get_endpoint_info` asks for, with the keys of text-embeddings-inference."""
    manifest, settings = served.loaded.manifest, service.settings
    labels = dict(enumerate(manifest.labels))
    return {
        "model_id": manifest.base.name,
        "model_sha": manifest.base.revision,
        "model_dtype": "float32",
        "model_device_type": service.base.device.type,
        "model_pipeline_tag": "text-classification"
        if manifest.kind == "sequence-classification"
        else manifest.kind,
        "model_type": {"classifier": {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}},
        "task": served.name,
        "task_version": served.version,
        "mask_digest": served.digest,
        "max_input_length": manifest.max_length,
        "max_batch_tokens": service.engine.queue.limits.tokens,
        "max_batch_requests": settings.max_batch_rows,
        "max_client_batch_size": settings.queue_limit,
    }


async def _inline(work: Callable[[], Result]) -> Result:
    return work()


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it is too long."""
    too_large = BodyTooLargeError(f"the body is longer than {limit} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect:
        raise ClientGoneError from None
    return b"".join(chunks)


def _parse(body: bytes, task: LoadedTask) -> Body:
    """The body in its shape.

    Raises:
        MalformedBodyError: It is no JSON.
        InvalidBodyError: It has no known shape; the message ends with an example that this task answers.
    """
    try:
        return predict_body.validate_json(body)
    except ValidationError as error:
        refusal = to_server_error(error)
        if isinstance(refusal, InvalidBodyError):
            example = json.dumps(example_body(task.spec.kind, pair=task.spec.pair))
            refusal = InvalidBodyError(f"{refusal.message}; an example of what this task takes: {example}")
        raise refusal from None


async def _unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work unless the client leaves; then it is dropped.

    Raises:
        ClientGoneError: The client closed the connection.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    leaving.add_done_callback(lambda _: working.cancel())
    try:
        return await working
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            raise ClientGoneError from None
        raise
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _note_times(service: Service, answer: Answer, total: float) -> None:
    service.metrics.time_prediction(
        tokenize=answer.tokenize_seconds,
        queue=answer.outcome.queue_seconds,
        compute=answer.outcome.compute_seconds,
        total=total,
    )


def _headers(served: ServedTask, answer: Answer, total: float) -> dict[str, str]:
    """Who answered, and the whole milliseconds of each stage (text-embeddings-inference's headers)."""
    return {
        "x-task": served.name,
        "x-task-version": str(served.version),
        "x-mask-digest": served.digest,
        "x-compute-tokens": str(answer.tokens),
        "x-total-time": _milliseconds(total),
        "x-tokenization-time": _milliseconds(answer.tokenize_seconds),
        "x-queue-time": _milliseconds(answer.outcome.queue_seconds),
        "x-inference-time": _milliseconds(answer.outcome.compute_seconds),
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
