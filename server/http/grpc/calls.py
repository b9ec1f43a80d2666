"""Calls over gRPC: around every method its key, its errors as gRPC statuses, and its record.

Keys come as metadata `authorization: Bearer KEY` or `x-api-key: KEY`, an id as `x-request-id`. A failed call
has the message of the same failure over HTTP.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import grpc
from google.protobuf.message import DecodeError, Message

from server.errors import ClientGoneError, InvalidBodyError, ServerError
from server.http.auth import key_in
from server.http.dependencies import PRECISION, STICKY_KEY, served_task, task_headers, version_named
from server.http.error_mapping import to_server_error
from server.http.grpc.messages import SERVICE
from server.http.oip.groups import Group, take_group
from server.service import Service
from server.tasks.registry import ServedTask
from server.telemetry.metrics import UNKNOWN_TASK
from server.telemetry.requests import REQUEST_ID, RequestFacts, safe_id
from server.tenants.caller import NOBODY, Caller

logger = logging.getLogger(__name__)

Access = Literal["open", "client", "admin"]

_OK = 200
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
        size: Bytes of the message as it came.
    """

    service: Service
    facts: RequestFacts
    context: Any
    metadata: Mapping[str, str]
    size: int

    async def take_task(self, name: str, version: str = "", *, answers: bool = True) -> ServedTask:
        """Take the version of the task that this call gets, once; the initial metadata name it.

        Args:
            name: The task.
            version: The version that the client names; empty for none.
            answers: Whether the version is asked something, so that its weight counts; else it is described.

        Raises:
            ServerError: As `served_task`.
        """
        self.facts.task = UNKNOWN_TASK
        number = version_named(version) if version else None
        served = served_task(
            self.service, self.facts.caller, name, key=self._sticky_key, version=number, answers=answers
        )
        self.facts.task, self.facts.version = served.name, served.version
        await self._send(task_headers(served, self.service))
        return served

    async def take_group(self, name: str, *, answers: bool = True) -> Group:
        """Take the versions of a group's tasks that this call gets, once.

        Args:
            name: The group as a model.
            answers: As of `take_task`.

        Raises:
            ServerError: As `server.http.oip.groups.take_group`.
        """
        group = take_group(name, self.service, self.facts.caller, key=self._sticky_key, answers=answers)
        await self._send({PRECISION: self.service.precision})
        return group

    @property
    def _sticky_key(self) -> str | None:
        return self.metadata.get(STICKY_KEY) or None

    async def _send(self, headers: Mapping[str, str]) -> None:
        initial = {REQUEST_ID: self.facts.request_id, **headers}
        await self.context.send_initial_metadata(tuple(initial.items()))


Method = Callable[[Any, Call], Awaitable[Any]]


def handled(
    name: str, kind: type[Message], method: Method, access: Access, service: Service
) -> Callable[..., Awaitable[Any]]:
    """Return a method as gRPC calls it, with a message that is not read yet.

    Args:
        name: Of the method.
        kind: What the message is; nobody's is read who may not call the method.
        method: Given the request and the call; returns the response or raises.
        access: Whose key it needs.
        service: What answers it.
    """

    async def handle(sent: bytes, context: Any) -> Any:
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        facts = RequestFacts(safe_id(metadata.get(REQUEST_ID)))
        call = Call(service, facts, context, metadata, len(sent))
        error: ServerError | None = None
        service.recorder.begin()
        try:
            call.facts.caller = _caller(access, key_in(metadata), service)
            request = await service.predictor.run_by_size(call.size, partial(_read, kind, sent))
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


def _read(kind: type[Message], sent: bytes) -> Message:
    try:
        return kind.FromString(sent)
    except DecodeError:
        raise InvalidBodyError(f"the message is no {kind.DESCRIPTOR.name} of the protocol") from None


def _caller(access: Access, key: str, service: Service) -> Caller:
    """Find out who calls, and require the key that the method needs."""
    if access == "open":
        return NOBODY
    return service.callers.client(key) if access == "client" else service.callers.admin(key)


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
