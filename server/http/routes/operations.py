"""Operations routes: memory, metrics, health, and where things are."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from server.errors import NotReadyError
from server.http.auth import ClientDep, check_every_task
from server.http.dependencies import ServiceDep
from server.http.middleware import context_of
from server.http.openapi import errors
from server.http.ui.routes import PAGE, redirect, wants_page
from server.memory_report import MemoryReport, memory_report
from server.service import Service

router = APIRouter(tags=["operations"])


class Live(BaseModel):
    """Reply of GET /health/live."""

    status: str


class Ready(BaseModel):
    """Reply of GET /health/ready."""

    status: str
    tasks: int = Field(description="tasks in service")
    problems: int = Field(description="tasks of which the current version is not served")


class Index(BaseModel):
    """Reply of GET /."""

    name: str = "maskserve"
    base: str = Field(description="the pretrained encoder")
    tasks: int = Field(description="tasks in service")
    predict: str = "POST /predict/{task}"
    predict_for_hugging_face: str = "POST /hf/{task}"
    predict_many: str = "POST /predict"
    open_inference_protocol: str = "/v2"
    list_tasks: str = "/tasks"
    describe_task: str = "/tasks/{task}"
    administrate: str = "POST /tasks/{task}/load, unload, pin, rollback; PUT and DELETE /tasks/{task}"
    traffic: str = "PUT /tasks/{task}/traffic; POST /tasks/{task}/traffic/promote, abort"
    memory: str = "/memory"
    metrics: str = "/metrics"
    live: str = "/health/live"
    ready: str = "/health/ready"
    openapi: str = "/openapi.json"
    documentation: str = "/docs"
    console: str | None = Field(description="a page for browsers; null where it is turned off")


@router.get("/memory", summary="What is held in memory", responses=errors(401))
async def memory(request: Request, service: ServiceDep, _: ClientDep) -> MemoryReport:
    """Count bytes of the base and of the masks of each task and version, compared with finetuned copies."""
    tasks = context_of(request).caller.visible(service.registry.entries)
    return await service.reports.run(memory_report, service.base, service.weights, tasks, service.masks)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """Return every metric in Prometheus' text format; with a keys file to a key that may call every task."""
    await check_every_task(request)
    content = await service.reports.run(service.metrics.exposition)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/health/live", summary="Whether the process answers")
async def live() -> Live:
    """200 as long as the process can answer at all."""
    return Live(status="live")


@router.get("/health", summary="The same as /health/ready", name="health", responses=errors(503))
@router.get("/health/ready", summary="Whether it takes requests", responses=errors(503))
async def ready(service: ServiceDep) -> Ready:
    """200 while requests can be answered; 503 says what is missing.

    That is: the worker is alive and warm, every task found at start is loaded or reported, every required
    task is served, the store is watched, and the server is not shutting down.
    """
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    registry = service.registry
    return Ready(status="ready", tasks=registry.served, problems=registry.troubled)


@router.get("/", summary="Where things are", response_model=Index)
async def index(request: Request, response: Response, service: ServiceDep) -> Index | Response:
    """Tell where things are; a browser is led to the console."""
    if not service.settings.ui:
        return _index(service, None)
    if wants_page(request):
        return redirect(request)
    response.headers["vary"] = "Accept"
    return _index(service, PAGE)


def _index(service: Service, console: str | None) -> Index:
    return Index(base=service.base.info.name, tasks=service.registry.served, console=console)
