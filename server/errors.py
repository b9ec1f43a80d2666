"""What a client is told when something goes wrong, decided in this one place.

    ServerError                 500  Backend     anything unexpected; the cause is only logged
      MalformedBodyError        400  Validation  the body is no JSON
      EmptyBatchError           400  Empty       nothing to predict
      UnauthorizedError         401  Unauthorized  no key, or not one that this route takes
      AdminDisabledError        403  Forbidden   the server was started without an admin key
      UnknownTaskError          404  NotFound    no task of this name is served
      UnknownVersionError       404  NotFound    no such version of the task, or not the one in service
      UnknownRouteError         404  NotFound    no such path
      MethodNotAllowedError     405  Validation  the path does not take this method
      ConflictError             409  Conflict    what is asked for contradicts the state of the task
        StoreReadOnlyError                       the server may not write to the store
      BodyTooLargeError         413  Validation  the body has more bytes than allowed
      InvalidBodyError          422  Validation  JSON, but not what the task takes
      BackendFailedError        424  Backend     computing this batch failed; others are not touched
        OutOfMemoryError                         one input alone needs more memory than there is
      ClientGoneError           499  Timeout     the client closed the connection; nobody reads the reply
      QueueFullError            429  Overloaded  too many rows are waiting; come back after Retry-After
      UnhealthyError            503  Unhealthy   the worker died or is not there yet
        NotReadyError                            start-up is not over, or the worker is being restarted
        TaskUnavailableError                     the task is in the store but could not be loaded
          TaskUnloadedError                      an operator unloaded it
        StoreUnavailableError                    the store can't be read or written now
        ShuttingDownError                        the server is going down
      DeadlineError             504  Timeout     not computed in time
      StoreFullError            507  Storage     the store has no space left

Status, type and default message belong to the class. The types are those of text-embeddings-inference where
it has one. Messages are public: they never hold paths, tensors or traces.
"""

import math
from collections.abc import Mapping, Sequence

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import mask_store
from mask_store import BundleError, MaskStoreError
from masking import EmptyInputError, InputTooLongError, MaskingError, TaskInputError


class ServerError(Exception):
    """Base of every error that becomes a reply.

    Attributes:
        status: HTTP status of the reply.
        error_type: Short type for programs.
        message: What is wrong, for people; public.
    """

    status: int = 500
    error_type: str = "Backend"
    message: str = "internal error; the server's log has the details under this request id"

    def __init__(self, message: str | None = None) -> None:
        """Keeps a message more exact than the class's own, if there is one."""
        if message is not None:
            self.message = message
        super().__init__(self.message)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply beyond the usual ones."""
        return {}

    @property
    def body(self) -> dict[str, str]:
        """Body of the reply."""
        return {"error": self.message, "error_type": self.error_type}


class MalformedBodyError(ServerError):
    """The body is not JSON."""

    status, error_type, message = 400, "Validation", "the body is not JSON"


class EmptyBatchError(ServerError):
    """There is nothing to predict."""

    status, error_type, message = 400, "Empty", "the body holds no inputs"


class UnauthorizedError(ServerError):
    """The request has no key, or not one that this route takes."""

    status, error_type, message = (
        401,
        "Unauthorized",
        'this needs a valid key in the header "Authorization: Bearer KEY"',
    )

    @property
    def headers(self) -> dict[str, str]:
        """How to authenticate."""
        return {"www-authenticate": 'Bearer realm="maskserve"'}


class AdminDisabledError(ServerError):
    """The server was started without an admin key, so nobody can administrate it."""

    status, error_type, message = (
        403,
        "Forbidden",
        "administration is off: start the server with MASKSERVE_ADMIN_KEY set to a secret of your choice",
    )


class UnknownTaskError(ServerError):
    """No task of this name is served."""

    status, error_type, message = 404, "NotFound", "unknown task"


class UnknownVersionError(ServerError):
    """The task has no such version, or it is not the one in service."""

    status, error_type, message = 404, "NotFound", "the task has no such version"


class UnknownRouteError(ServerError):
    """There is no such path."""

    status, error_type, message = 404, "NotFound", "no such path; GET / tells where things are"


class MethodNotAllowedError(ServerError):
    """The path does not take this method."""

    status, error_type, message = 405, "Validation", "this path does not take this method"

    def __init__(self, allowed: str) -> None:
        """Keeps the methods that the path does take."""
        super().__init__(f"this path takes {allowed}")
        self._allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        """The methods that the path takes."""
        return {"allow": self._allowed}


class ConflictError(ServerError):
    """What is asked for contradicts the state of the task."""

    status, error_type, message = 409, "Conflict", "this contradicts the state of the task"


class StoreReadOnlyError(ConflictError):
    """The server may read the store but not write to it."""

    message = "the server may not write to its store; publish from where that is allowed"


class BodyTooLargeError(ServerError):
    """The body has more bytes than allowed."""

    status, error_type, message = 413, "Validation", "the body is too large"


class InvalidBodyError(ServerError):
    """The body is JSON, but not what the task takes."""

    status, error_type, message = 422, "Validation", "the body does not fit this task"


class BackendFailedError(ServerError):
    """Computing a batch failed."""

    status, error_type, message = (
        424,
        "Backend",
        "computing this batch failed; the server's log has the details",
    )


class OutOfMemoryError(BackendFailedError):
    """Not even one input alone could be computed in the memory that is free."""

    message = "there is not enough memory to compute this input; send a shorter one or try again later"


class ClientGoneError(ServerError):
    """The client closed the connection before its answer was there."""

    status, error_type, message = 499, "Timeout", "the client closed the connection"


class QueueFullError(ServerError):
    """Too many rows are waiting."""

    status, error_type, message = 429, "Overloaded", "too many rows are waiting"

    def __init__(self, waiting: int, limit: int, retry_after: float = 1.0) -> None:
        """Keeps after how many seconds to come back; `waiting` and `limit` are in rows."""
        super().__init__(f"{waiting} rows are waiting and the limit is {limit}; try again after Retry-After")
        self.retry_after = max(1, math.ceil(retry_after))

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, in seconds."""
        return {"retry-after": str(self.retry_after)}


class UnhealthyError(ServerError):
    """The worker can't answer."""

    status, error_type, message = 503, "Unhealthy", "the worker stopped during this request; try again"


class NotReadyError(UnhealthyError):
    """Start-up is not over, or the worker is being restarted."""

    message = "the server is not ready"


class TaskUnavailableError(UnhealthyError):
    """The task is in the store but no version of it could be loaded."""

    message = "this task could not be loaded"


class TaskUnloadedError(TaskUnavailableError):
    """An operator unloaded the task."""

    message = "this task is unloaded"


class StoreUnavailableError(UnhealthyError):
    """The store can't be read or written now."""

    message = "the store can't be reached or used now; tasks in service are not affected"


class ShuttingDownError(UnhealthyError):
    """The server is going down and takes no new work."""

    message = "the server is shutting down"


class DeadlineError(ServerError):
    """The request was not computed in time."""

    status, error_type, message = 504, "Timeout", "the request was not computed in time and was dropped"


class StoreFullError(ServerError):
    """The store has no space left."""

    status, error_type, message = 507, "Storage", "the store has no space left; nothing was changed"


def to_server_error(error: Exception) -> ServerError:
    """Map any exception to the error that the client gets.

    Args:
        error: What was raised while a request was handled.

    Returns:
        The error to reply with; a bare `ServerError` for everything that is not the client's business.
    """
    match error:
        case ServerError():
            return error
        case MaskStoreError() | MaskingError():
            return _from_below(error)
        case ValidationError():
            return invalid_body(error, skipped=1)  # the name of the shape
        case HTTPException():
            return _from_http(error)
        case RequestValidationError():
            return InvalidBodyError("; ".join(mistake["msg"] for mistake in error.errors()))
    return ServerError()


def _from_input(error: TaskInputError) -> ServerError:
    message = f"input {error.index}: {error.message}"
    if isinstance(error, EmptyInputError):
        return EmptyBatchError(message)
    if isinstance(error, InputTooLongError):
        message += ' ("truncate": true in the body, or in its `parameters` where it has them)'
    return InvalidBodyError(message)


def _from_below(error: MaskStoreError | MaskingError) -> ServerError:
    """From an error of the packages that this one stands on."""
    if isinstance(error, TaskInputError):
        return _from_input(error)
    if isinstance(error, BundleError | MaskingError):
        return InvalidBodyError(f"{type(error).__name__}: {error}")
    if (kind := _TOLD.get(type(error))) is not None:
        return kind(str(error))
    return _NOT_TOLD.get(type(error), StoreUnavailableError)()


# What a store can't do: errors whose own messages a client may read, and those whose messages name places.
_TOLD: Mapping[type[MaskStoreError], type[ServerError]] = {
    mask_store.InvalidTaskNameError: UnknownTaskError,
    mask_store.UnknownVersionError: UnknownVersionError,
    mask_store.NoEarlierVersionError: ConflictError,
    mask_store.RecordError: ConflictError,
    mask_store.MissingBundleError: ConflictError,
    mask_store.DigestMismatchError: ConflictError,
}
_NOT_TOLD: Mapping[type[MaskStoreError], type[ServerError]] = {
    mask_store.UnknownTaskError: UnknownTaskError,
    mask_store.StoreNotWritableError: StoreReadOnlyError,
    mask_store.StoreFullError: StoreFullError,
}


def invalid_body(error: ValidationError, *, skipped: int = 0) -> ServerError:
    """The reply to a body that its model refuses.

    Args:
        error: What pydantic says.
        skipped: How many parts of each location are none of the body's own keys.
    """
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    if mistakes[0]["type"] == "json_invalid":
        return MalformedBodyError(
            f"the body is not JSON: {mistakes[0]['msg'].removeprefix('Invalid JSON: ')}"
        )
    shown = [f"{_where(mistake['loc'][skipped:])}: {mistake['msg']}" for mistake in mistakes[:5]]
    if len(mistakes) > len(shown):
        shown.append(f"and {len(mistakes) - len(shown)} more")
    return InvalidBodyError("; ".join(shown))


def _where(location: Sequence[int | str]) -> str:
    """The path to a value of the body."""
    return ".".join(str(part) for part in location) or "body"


def _from_http(error: HTTPException) -> ServerError:
    methods = {"allow": "", **{name.lower(): value for name, value in (error.headers or {}).items()}}["allow"]
    match error.status_code:
        case 404:
            return UnknownRouteError()
        case 405:
            return MethodNotAllowedError(methods)
        case _:
            return InvalidBodyError(str(error.detail))
