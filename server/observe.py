"""What happens around every request: an id, a count, and a safe reply when something unexpected is raised."""

import logging
import re
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import InvalidBodyError, ServerError
from server.metrics import NO_TASK, UNKNOWN_TASK, Metrics

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NO_ROUTE = "(none)"
_SCOPE_KEY = "maskserve"
_OIP = "/v2"


@dataclass
class RequestContext:
    """What is known about a request besides what the client sent.

    Attributes:
        request_id: The client's id if it is a sane one, else a new one.
        task: Name of the served task that the request is for; set once it is known to be served.
        headers: Headers of the reply, whatever it says.
    """

    request_id: str
    task: str = NO_TASK
    headers: dict[str, str] = field(default_factory=dict)


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

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wraps `app` and counts into `metrics`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(_request_id(scope))
        scope[_SCOPE_KEY] = context
        status = 0

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
            self._count(scope, context, status)

    def _count(self, scope: Scope, context: RequestContext, status: int) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        task = context.task
        if task == NO_TASK and "{task}" in route:
            task = UNKNOWN_TASK
        self._metrics.count_request(route, task, status)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
