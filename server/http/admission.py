"""Admission middleware: a prediction is let in or refused before anything else is done for it.

An overloaded server refuses thousands of requests a second, on the event loop that answers all others. So who
calls, the version of the task and the room in the queue are settled here, ahead of body, compression and
routes, which take longer than all of that.
"""

from collections.abc import Mapping

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import ServerError
from server.http.auth import check_client
from server.http.dependencies import check_room, take_task
from server.http.error_mapping import error_response
from server.http.middleware import context_of
from server.tasks.registry import ServedTask

_SCOPE_KEY = "maskserve.admitted"


class AdmissionMiddleware:
    """ASGI middleware: admits the requests of some routes, of which `admitted` tells their handlers."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, APIRoute]) -> None:
        """Wrap `app`.

        Args:
            app: What is called with requests that are let in, and with all of other routes.
            routes: Routes by POST that end with the name of a task, by what is before ``/{task}``.
        """
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["method"] == "POST":
            request = Request(scope)
            path = context_of(request).path
            start, _, task = path.rpartition("/")
            if (route := self._routes.get(start)) is not None:
                scope["route"], scope["path_params"] = route, {"task": task}
                try:
                    scope[_SCOPE_KEY] = await _admit(request, task)
                except ServerError as error:
                    await error_response(error, path)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def admitted(request: Request) -> ServedTask:
    """Return the version of a task that the middleware let this request in for."""
    served: ServedTask = request.scope[_SCOPE_KEY]
    return served


async def _admit(request: Request, task: str) -> ServedTask:
    await check_client(request)
    served = take_task(request, task)
    check_room(request, served)
    return served
