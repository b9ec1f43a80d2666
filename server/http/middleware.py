"""Middleware around every request: an id, a count, a line in the log, a trace, and the headers of the reply.

It also makes a safe reply when something unexpected is raised.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.engine.pending import Timings
from server.errors import ServerError
from server.http.error_mapping import error_response
from server.http.request_line import as_routed, route_path, without_body
from server.telemetry.metrics import NO_TASK, UNKNOWN_TASK, Metrics
from server.telemetry.tracing import RequestTracer

logger = logging.getLogger(__name__)
requests = logging.getLogger("server.requests")

REQUEST_ID = "x-request-id"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PAGE = "/docs"
_PAGE_POLICY = {  # Swagger UI has a script and styles in the page itself
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
}
_NO_ROUTE = "(none)"
_SCOPE_KEY = "maskserve"
_QUIET = frozenset(  # asked every few seconds, by machines
    {"/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
)


@dataclass
class RequestContext:
    """What is known about a request besides what the client sent.

    Attributes:
        request_id: The client's id if it is a safe one, else a new one.
        path: The path as the routes have it.
        task: Name of the served task that the request is for; set once it is known to be served.
        version: The version that it gets; set with the task.
        rows: Rows that were computed for it.
        timings: When it reached each stage.
        headers: Headers of the reply, whatever it says.
    """

    request_id: str
    path: str = "/"
    task: str = NO_TASK
    version: int | None = None
    rows: int | None = None
    timings: Timings = field(default_factory=Timings)
    headers: dict[str, str] = field(default_factory=dict)


def context_of(request: Request) -> RequestContext:
    """Return the context that the middleware gave to this request."""
    context: RequestContext = request.scope[_SCOPE_KEY]
    return context


class RequestMiddleware:
    """ASGI middleware; wraps the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, tracer: RequestTracer | None = None, root_path: str = ""
    ) -> None:
        """Wrap `app`, count into `metrics` and trace by `tracer`; a proxy serves it under `root_path`."""
        self._app = app
        self._root_path = root_path
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, root_path = scope["method"], self._root_path or scope.get("root_path", "")
        context = RequestContext(_request_id(scope), route_path(scope, root_path))
        scope = as_routed(scope, context.path, root_path)
        scope[_SCOPE_KEY] = context
        if method == "HEAD":
            send = without_body(send)
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_reply_headers(context, status))
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, with_headers)
        except Exception:
            logger.exception("request %s failed unexpectedly", context.request_id)
            if status:  # too late for a reply of our own
                raise
            await error_response(ServerError(), context.path)(scope, receive, with_headers)
        finally:
            self._metrics.in_flight.dec()
            self._finish(scope, method, context, status)

    def _finish(self, scope: Scope, method: str, context: RequestContext, status: int) -> None:
        """Count the request, write its line and make its trace."""
        ended = time.monotonic()
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        task = context.task
        if task == NO_TASK and "{task}" in route:
            task = UNKNOWN_TASK
        self._metrics.count_request(route, task, status)
        name = f"{method} {route}"
        facts = {"task": context.task or None, "version": context.version, "rows": context.rows}
        known = {fact: value for fact, value in facts.items() if value is not None}
        milliseconds = round((ended - context.timings.received) * 1000, 3)
        fields = {"status": status, "milliseconds": milliseconds, "request_id": context.request_id, **known}
        _write_line(name, route, fields)
        if self._tracer is not None and route not in _QUIET:
            attributes = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "maskserve.request_id": context.request_id,
                **{f"maskserve.{fact}": value for fact, value in known.items()},
            }
            self._tracer.record(name, context.timings, ended, dict(Headers(scope=scope)), attributes)


def _reply_headers(context: RequestContext, status: int) -> dict[str, str]:
    """Return the id, what the route set, text-embeddings-inference's headers, and the policy of a page."""
    headers, timings = {REQUEST_ID: context.request_id, **context.headers}, context.timings
    if timings.finished and status < HTTPStatus.BAD_REQUEST:
        headers |= {
            "x-compute-tokens": str(timings.tokens),
            "x-total-time": _milliseconds(timings.total),
            "x-tokenization-time": _milliseconds(timings.tokenize),
            "x-queue-time": _milliseconds(timings.queue),
            "x-inference-time": _milliseconds(timings.compute),
        }
    return headers | _PAGE_POLICY if context.path.startswith(_PAGE) else headers


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _write_line(name: str, route: str, fields: Mapping[str, str | int | float]) -> None:
    level = logging.DEBUG if route in _QUIET else logging.INFO
    if requests.isEnabledFor(level):
        requests.log(level, "%s", name, extra={"fields": {"route": route, **fields}})


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
