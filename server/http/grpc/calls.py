"""Calls over gRPC: around every method its key, its errors as gRPC statuses, and its record.

Keys come as metadata `authorization: Bearer KEY`, an id as `x-request-id`. A failed call has the message of
the same failure over HTTP.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from server.errors import ClientGoneError, ServerError
from server.http.auth import check_admin_key, check_client_key
from server.http.dependencies import STICKY_KEY, task_headers, version_named
from server.http.error_mapping import to_server_error
from server.http.grpc.messages import SERVICE
from server.service import Service
from server.tasks.registry import ServedTask
from server.telemetry.metrics import UNKNOWN_TASK
from server.telemetry.requests import REQUEST_ID, RequestFacts, safe_id

logger = logging.getLogger(__name__)

Access = Literal["open", "client", "admin"]

_OK = 200
_BEARER = "bearer "
_CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass
class Call:
    """One call.

    Attributes:
        service: What answers it.
        facts: What is known about it.
        context: A `grpc.aio.ServicerContext`.
        metadata: What the client sent beside its message, but for bytes.
    """

    service: Service
    facts: RequestFacts
    context: Any
    metadata: Mapping[str, str]

    async def take_task(self, name: str, version: str = "", *, answers: bool = True) -> ServedTask:
        """Take the version of the task that this call gets, once; the initial metadata name it.

        Args:
            name: The task.
            version: The version that the client names; empty for none.
            answers: Whether the version is asked something, so that its weight counts; else it is described.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskUnavailableError: No version of it could be loaded.
            VersionNotFoundError: The version that is named is not in service.
        """
        self.facts.task = UNKNOWN_TASK
        registry, number = self.service.registry, version_named(version) if version else None
        if number is None and not answers:
            served = registry.get(name)
        else:
            served = registry.choose(name, key=self.metadata.get(STICKY_KEY) or None, version=number)
        self.facts.task, self.facts.version = served.name, served.version
        headers = {REQUEST_ID: self.facts.request_id, **task_headers(served, self.service)}
        await self.context.send_initial_metadata(tuple(headers.items()))
        return served


Method = Callable[[Any, Call], Awaitable[Any]]


def handled(name: str, method: Method, access: Access, service: Service) -> Callable[..., Awaitable[Any]]:
    """Return a method as gRPC calls it.

    Args:
        name: Of the method.
        method: Given the request and the call; returns the response or raises.
        access: Whose key it needs.
        service: What answers it.
    """

    async def handle(request: Any, context: Any) -> Any:
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        call = Call(service, RequestFacts(safe_id(metadata.get(REQUEST_ID))), context, metadata)
        error: ServerError | None = None
        service.recorder.begin()
        try:
            _check_key(access, metadata.get("authorization", ""), service)
            return await method(request, call)
        except asyncio.CancelledError:  # the client has left, or its deadline has passed
            error = ClientGoneError()
            raise
        except Exception as failure:
            error = to_server_error(failure)
            if not isinstance(failure, ServerError) and type(error) is ServerError:
                logger.exception("request %s failed unexpectedly", call.facts.request_id)
            code = _CODES.get(error.status, grpc.StatusCode.INTERNAL)
            trailing = ((REQUEST_ID, call.facts.request_id), *error.headers.items())
            await context.abort(code, error.message, trailing)
        finally:
            status = _OK if error is None else error.status
            _record(name, call, status, metadata, quiet=access == "open")

    return handle


def _check_key(access: Access, authorization: str, service: Service) -> None:
    if access == "open":
        return
    scheme, key = authorization[: len(_BEARER)], authorization[len(_BEARER) :]
    check = check_client_key if access == "client" else check_admin_key
    check(service.settings, key if scheme.lower() == _BEARER else "")


def _record(name: str, call: Call, status: int, metadata: Mapping[str, str], *, quiet: bool) -> None:
    call.service.recorder.record(
        f"gRPC {name}",
        f"/{SERVICE}/{name}",
        status,
        call.facts,
        headers=lambda: metadata,
        attributes={"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": name},
        quiet=quiet,
    )
