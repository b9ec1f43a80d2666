"""What happens around every request.

It gets an id, a count, a line in the log and a trace; and a safe reply when something unexpected is raised.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import InvalidBodyError, ServerError
from server.telemetry.metrics import NO_TASK, UNKNOWN_TASK, Metrics
from server.telemetry.tracing import RequestTracer, Span

logger = logging.getLogger(__name__)
requests = logging.getLogger("server.requests")

REQUEST_ID = "x-request-id"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NO_ROUTE = "(none)"
_SCOPE_KEY = "maskserve"
_OIP = "/v2"
_QUIET = frozenset(  # asked every few seconds, by machines
    {"/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
)


@dataclass
class RequestContext:
    """What is known about a request besides what the client sent.

    Attributes:
        request_id: The client's id if it is a sane one, else a new one.
        task: Name of the served task that the request is for; set once it is known to be served.
        version: The version that it gets; set with the task.
        rows: Rows that were computed for it.
        stages: What was done for it, and when.
        headers: Headers of the reply, whatever it says.
    """

    request_id: str
    task: str = NO_TASK
    version: int | None = None
    rows: int | None = None
    stages: tuple[Span, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def note_stages(self, rows: int, *, tokenize: float, queue: float, compute: float) -> None:
        """Note what was done for a request whose computation is over now, and the seconds of each stage."""
        end = time.time_ns()
        spans = []
        for name, seconds in (("compute", compute), ("queue", queue), ("tokenize", tokenize)):
            start = end - round(seconds * 1e9)
            spans.append(Span(name, start, end))
            end = start
        self.rows, self.stages = rows, tuple(reversed(spans))


def context_of(request: Request) -> RequestContext:
    """The context that `Observer` gave to this request."""
    context: RequestContext = request.scope[_SCOPE_KEY]
    return context


def error_response(error: ServerError, path: str) -> JSONResponse:
    """The reply to an error: in the Open Inference Protocol's shape below /v2, else in our one shape.

    The protocol's clients know 400 for every body that is not right.
    """
    if path != _OIP and not path.startswith(f"{_OIP}/"):
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)
    status = 400 if isinstance(error, InvalidBodyError) else error.status
    return JSONResponse({"error": error.message}, status_code=status, headers=error.headers)


class Observer:
    """ASGI middleware; wraps the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: RequestTracer | None = None) -> None:
        """Wraps `app`, counts into `metrics` and traces by `tracer`."""
        self._app = app
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(_request_id(scope))
        scope[_SCOPE_KEY] = context
        status, started = 0, time.time_ns()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({REQUEST_ID: context.request_id, **context.headers})
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            logger.exception("request %s failed unexpectedly", context.request_id)
            if status:  # too late for a reply of our own
                raise
            await error_response(ServerError(), scope["path"])(scope, receive, observed)
        finally:
            self._finish(scope, context, status, started)

    def _finish(self, scope: Scope, context: RequestContext, status: int, started: int) -> None:
        """Count the request, write its line and make its trace."""
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        task = context.task
        if task == NO_TASK and "{task}" in route:
            task = UNKNOWN_TASK
        self._metrics.count_request(route, task, status)
        span = Span(f"{scope['method']} {route}", started, time.time_ns())
        facts = {"task": context.task or None, "version": context.version, "rows": context.rows}
        known = {name: value for name, value in facts.items() if value is not None}
        _write_line(span, route, status, {"request_id": context.request_id, **known})
        if self._tracer is not None and route not in _QUIET:
            attributes = {
                "http.request.method": scope["method"],
                "http.route": route,
                "http.response.status_code": status,
                "maskserve.request_id": context.request_id,
                **{f"maskserve.{name}": value for name, value in known.items()},
            }
            self._tracer.record(span, context.stages, dict(Headers(scope=scope)), attributes)


def _write_line(span: Span, route: str, status: int, known: Mapping[str, str | int]) -> None:
    level = logging.DEBUG if route in _QUIET else logging.INFO
    if requests.isEnabledFor(level):
        fields = {"status": status, "milliseconds": round((span.end - span.start) / 1e6, 3), **known}
        requests.log(level, "%s", span.name, extra={"fields": {"route": route, **fields}})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
