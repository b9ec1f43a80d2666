"""Admission middleware: a prediction is let in or refused before anything else is done for it.

An overloaded server refuses thousands of requests a second, on the event loop that answers all others. So who
calls, the version of the task and the room in the queue are settled here, ahead of body, compression and
routes, which take longer than all of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.engine.room import Reservation
from server.errors import ServerError
from server.http.auth import check_client
from server.http.dependencies import take_task
from server.http.error_mapping import error_response
from server.http.middleware import context_of, service_of
from server.tasks.registry import ServedTask

_SCOPE_KEY = "maskserve.admitted"


@dataclass(frozen=True)
class Admission:
    """For what a request was let in.

    Attributes:
        served: The version of the task.
        place: Room in the queue, until the request is put there.
    """

    served: ServedTask
    place: Reservation


class AdmissionMiddleware:
    """ASGI middleware: admits the requests of some routes; `admission_of` tells their handlers."""

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
                    admission = scope[_SCOPE_KEY] = await _admit(request, task)
                except ServerError as error:
                    await error_response(error, path)(scope, receive, send)
                    return
                with admission.place:
                    await self._app(scope, receive, send)
                return
        await self._app(scope, receive, send)


def admission_of(request: Request) -> Admission:
    """Return for what the middleware let this request in."""
    admission: Admission = request.scope[_SCOPE_KEY]
    return admission


async def _admit(request: Request, task: str) -> Admission:
    await check_client(request)
    served = take_task(request, task)
    context_of(request).caller.quota.check()
    return Admission(served, await service_of(request).predictor.expect(served))
