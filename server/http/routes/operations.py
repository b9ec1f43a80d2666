"""Operations routes: memory, metrics, health, and where things are."""

from typing import Any

from fastapi import APIRouter, Response

from server.errors import NotReadyError
from server.http.auth import ClientDep
from server.http.dependencies import ServiceDep
from server.http.openapi import errors
from server.memory_report import MemoryReport, memory_report

router = APIRouter(tags=["operations"])


@router.get("/memory", summary="What is held in memory", responses=errors(401))
async def memory(service: ServiceDep, _: ClientDep) -> MemoryReport:
    """Count bytes of the base and of each task's masks, compared with finetuned copies."""
    return await service.reports.run(memory_report, service.base, service.registry.tasks)


@router.get("/metrics", summary="Metrics for Prometheus")
async def metrics(service: ServiceDep) -> Response:
    """Return every metric in Prometheus' text format."""
    content = await service.reports.run(service.metrics.exposition)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/health/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    """200 as long as the process can answer at all."""
    return {"status": "live"}


@router.get("/health", summary="The same as /health/ready", responses=errors(503))
@router.get("/health/ready", summary="Whether it takes requests", responses=errors(503))
async def ready(service: ServiceDep) -> dict[str, str | int]:
    """200 while requests can be answered; 503 says what is missing.

    That is: the worker is alive and warm, every task found at start is loaded or reported, every required
    task is served, the store is watched, and the server is not shutting down.
    """
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return {
        "status": "ready",
        "tasks": len(service.registry.tasks),
        "problems": len(service.registry.problems),
    }


@router.get("/", summary="Where things are")
async def index(service: ServiceDep) -> dict[str, Any]:
    """Tell where things are."""
    return {
        "name": "maskserve",
        "base": service.base.info.name,
        "tasks": len(service.registry.tasks),
        "predict": "POST /predict/{task}",
        "predict_many": "POST /predict",
        "open_inference_protocol": "/v2",
        "list_tasks": "/tasks",
        "describe_task": "/tasks/{task}",
        "administrate": "POST /tasks/{task}/load, unload, pin, rollback; PUT and DELETE /tasks/{task}",
        "memory": "/memory",
        "metrics": "/metrics",
        "live": "/health/live",
        "ready": "/health/ready",
        "openapi": "/openapi.json",
        "documentation": "/docs",
    }
