"""Authentication: clients by API keys, operators by the admin key.

Keys come as `Authorization: Bearer KEY` and are compared in constant time. Health, metrics, the index and the
OpenAPI document are open to everyone who reaches the port. There are no users, roles or sessions.
"""

import hmac
from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from server.errors import AdminDisabledError, UnauthorizedError
from server.http.dependencies import ServiceDep, service_of
from server.settings import Settings

CLIENT_KEY = "client_key"
_client_bearer = HTTPBearer(
    auto_error=False, scheme_name=CLIENT_KEY, description="one of the API keys, or the admin key"
)
_admin_bearer = HTTPBearer(auto_error=False, scheme_name="admin_key", description="the admin key")
ClientCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_client_bearer)]
AdminCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_admin_bearer)]


async def require_client(service: ServiceDep, given: ClientCredentials) -> None:
    """Require one of the API keys or the admin key, if API keys are set.

    Raises:
        UnauthorizedError: There is no key in the request, or a wrong one.
    """
    check_client_key(service.settings, given.credentials if given else "")


async def check_client(request: Request) -> None:
    """Do as `require_client` does, for a route without FastAPI's dependencies."""
    await require_client(service_of(request), await _client_bearer(request))


async def require_admin(service: ServiceDep, given: AdminCredentials) -> None:
    """Require the admin key.

    Raises:
        AdminDisabledError: The server was started without one.
        UnauthorizedError: There is no key in the request, or a wrong one.
    """
    check_admin_key(service.settings, given.credentials if given else "")


ClientDep = Annotated[None, Depends(require_client)]


def check_client_key(settings: Settings, key: str) -> None:
    """Require that `key` is one of the API keys or the admin key, if API keys are set.

    Raises:
        UnauthorizedError: It is not.
    """
    keys = settings.api_keys if settings.admin_key is None else (*settings.api_keys, settings.admin_key)
    if settings.api_keys and not _is_one_of(key, keys):
        raise UnauthorizedError


def check_admin_key(settings: Settings, key: str) -> None:
    """Require that `key` is the admin key.

    Raises:
        AdminDisabledError: The server was started without one.
        UnauthorizedError: It is not.
    """
    if settings.admin_key is None:
        raise AdminDisabledError
    if not _is_one_of(key, (settings.admin_key,)):
        raise UnauthorizedError


def _is_one_of(key: str, keys: Iterable[SecretStr]) -> bool:
    """Return whether a key is among `keys`, in a time that reveals nothing about them."""
    given = key.encode()
    matches = [hmac.compare_digest(given, known.get_secret_value().encode()) for known in keys]
    return any(matches)
