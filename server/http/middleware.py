"""Middleware around every request: an id, a count, a line in the log, a trace, and the headers of the reply.

It also makes a safe reply when something unexpected is raised.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ServerError
from server.http.error_mapping import error_response
from server.http.request_line import as_routed, route_path, without_body
from server.http.ui.routes import FILE
from server.service import Service
from server.telemetry.metrics import NO_TASK, UNKNOWN_TASK
from server.telemetry.requests import REQUEST_ID, RequestFacts, RequestRecorder, safe_id

logger = logging.getLogger(__name__)

_PAGE = "/docs"
_PAGE_POLICY = {  # Swagger UI has a script and styles in the page itself
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
}
_NO_ROUTE = "(none)"
_SCOPE_KEY = "maskserve"
_QUIET = frozenset(  # asked every few seconds by machines, or many at once by a page
    {FILE, "/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
)


@dataclass
class RequestContext(RequestFacts):
    """What is known about a request over HTTP.

    Attributes:
        path: The path as the routes have it.
        headers: Headers of the reply, whatever it says.
    """

    path: str = "/"
    headers: dict[str, str] = field(default_factory=dict)


def context_of(request: Request) -> RequestContext:
    """Return the context that the middleware gave to this request."""
    context: RequestContext = request.scope[_SCOPE_KEY]
    return context


def service_of(request: Request) -> Service:
    """Return the service of this application."""
    service: Service = request.app.state.service
    return service


class RequestMiddleware:
    """ASGI middleware; wraps the whole application."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder, root_path: str = "") -> None:
        """Wrap `app` and record its requests; a proxy serves it under `root_path`."""
        self._app = app
        self._root_path = root_path
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, root_path = scope["method"], self._root_path or scope.get("root_path", "")
        context = RequestContext(
            safe_id(Headers(scope=scope).get(REQUEST_ID)), path=route_path(scope, root_path)
        )
        scope = as_routed(scope, context.path, root_path)
        scope[_SCOPE_KEY] = context
        if method == "HEAD":
            send = without_body(send)
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with(message["headers"], _reply_headers(context, status))
            await send(message)

        self._recorder.begin()
        try:
            await self._app(scope, receive, with_headers)
        except Exception:
            logger.exception("request %s failed unexpectedly", context.request_id)
            if status:  # too late for a reply of our own
                raise
            await error_response(ServerError(), context.path)(scope, receive, with_headers)
        finally:
            self._finish(scope, method, context, status)

    def _finish(self, scope: Scope, method: str, context: RequestContext, status: int) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        if context.task == NO_TASK and "{task}" in route:
            context.task = UNKNOWN_TASK
        self._recorder.record(
            f"{method} {route}",
            route,
            status,
            context,
            headers=lambda: dict(Headers(scope=scope)),
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
            },
            quiet=route in _QUIET,
        )


def _reply_headers(context: RequestContext, status: int) -> dict[str, str]:
    """Return the id, what the route set, times as text-embeddings-inference tells them, a page's policy."""
    headers, timings = {REQUEST_ID: context.request_id, **context.headers}, context.timings
    if timings.finished and status < HTTPStatus.BAD_REQUEST:
        headers |= {
            "x-compute-tokens": str(timings.tokens),
            "x-total-time": _milliseconds(timings.total),
            "x-tokenization-time": _milliseconds(timings.tokenize),
            "x-queue-time": _milliseconds(timings.queue),
            "x-inference-time": _milliseconds(timings.compute),
        }
        if timings.tokenized:
            headers["x-mask-load-time"] = _milliseconds(timings.masks)
    return headers | _PAGE_POLICY if context.path.startswith(_PAGE) else headers


def _with(headers: Iterable[tuple[bytes, bytes]], ours: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers with ours in the place of those of the same name; names are in lower case."""
    own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in ours.items()]
    names = {name for name, _ in own}
    return [*(header for header in headers if header[0] not in names), *own]


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
