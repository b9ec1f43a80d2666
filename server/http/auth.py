"""Authentication: who calls is found out once for each request, by its key, and kept in its context.

A key comes as `Authorization: Bearer KEY` or as `x-api-key: KEY`. A task in a route's path is checked here;
one that a body names is checked where it is taken (`server.http.dependencies.served_task`). Health, the index
and the OpenAPI document are open to everyone who reaches the port, and metrics if there is no keys file.
"""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from server.errors import ForbiddenError
from server.http.middleware import context_of, service_of
from server.tenants.caller import Caller
from server.tenants.callers import Callers

CLIENT_KEY = "client_key"
_BEARER = "bearer "
_client_bearer = HTTPBearer(
    auto_error=False,
    scheme_name=CLIENT_KEY,
    description="one of the API keys, or the admin key; as the header x-api-key, too",
)
_admin_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="admin_key",
    description="the admin key, or an API key that may change tasks; as the header x-api-key, too",
)
_ClientScheme = Annotated[HTTPAuthorizationCredentials | None, Depends(_client_bearer)]  # for the document
_AdminScheme = Annotated[HTTPAuthorizationCredentials | None, Depends(_admin_bearer)]


def key_in(headers: Mapping[str, str]) -> str:
    """Return the key in headers, or in metadata of gRPC, by lower-case name; empty if there is none."""
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get("x-api-key", "")


async def check_client(request: Request) -> None:
    """Require a key of a client, if keys are set, and one that may call the task of the path.

    Raises:
        UnauthorizedError: There is no key in the request, or a wrong one.
        ForbiddenError: It may not call the task.
    """
    callers: Callers = service_of(request).callers
    _enter(request, callers.client(key_in(request.headers)))


async def require_client(request: Request, _: _ClientScheme) -> None:
    """Do as `check_client` does, for a route with FastAPI's dependencies."""
    await check_client(request)


async def require_admin(request: Request, _: _AdminScheme) -> None:
    """Require a key that may change the task of the path.

    Raises:
        AdminDisabledError: There is no such key at all.
        UnauthorizedError: There is no key in the request, or not one that may change tasks.
        ForbiddenError: It may not change this one.
    """
    callers: Callers = service_of(request).callers
    _enter(request, callers.admin(key_in(request.headers)))


async def check_every_task(request: Request) -> None:
    """Require a key that may call every task, if there is a keys file.

    Raises:
        UnauthorizedError: There is no key in the request, or a wrong one.
        ForbiddenError: It may call some tasks only.
    """
    if service_of(request).settings.keys_file is not None:
        await check_client(request)
        if context_of(request).caller.tasks is not None:
            raise ForbiddenError


ClientDep = Annotated[None, Depends(require_client)]


def _enter(request: Request, caller: Caller) -> None:
    """Note who calls, and check the task of the path."""
    context_of(request).caller = caller
    task = request.path_params.get("task")
    if task is not None:
        caller.require(task)
