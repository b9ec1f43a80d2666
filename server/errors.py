"""What a client is told when something goes wrong, decided in this one place.

    ServerError                 500  Backend     anything unexpected; the cause is only logged
      MalformedBodyError        400  Validation  the body is no JSON
      EmptyBatchError           400  Empty       nothing to predict
      UnknownTaskError          404  NotFound    no task of this name is served
      UnknownRouteError         404  NotFound    no such path
      MethodNotAllowedError     405  Validation  the path does not take this method
      BodyTooLargeError         413  Validation  the body has more bytes than allowed
      InvalidBodyError          422  Validation  JSON, but not what the task takes
      BackendFailedError        424  Backend     computing this batch failed; others are not touched
        OutOfMemoryError                         one input alone needs more memory than there is
      ClientGoneError           499  Timeout     the client closed the connection; nobody reads the reply
      QueueFullError            429  Overloaded  too many rows are waiting; come back after Retry-After
      UnhealthyError            503  Unhealthy   the worker died or is not there yet
        NotReadyError                            start-up is not over, or the worker is being restarted
        TaskUnavailableError                     the task is in the store but could not be loaded
        ShuttingDownError                        the server is going down
      DeadlineError             504  Timeout     not computed in time

Status, type and default message belong to the class. The types are those of text-embeddings-inference where
it has one. Messages are public: they never hold paths, tensors or traces.
"""

import math
from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from masking import EmptyInputError, InputTooLongError, TaskInputError


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


class UnknownTaskError(ServerError):
    """No task of this name is served."""

    status, error_type, message = 404, "NotFound", "unknown task"


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


class ShuttingDownError(UnhealthyError):
    """The server is going down and takes no new work."""

    message = "the server is shutting down"


class DeadlineError(ServerError):
    """The request was not computed in time."""

    status, error_type, message = 504, "Timeout", "the request was not computed in time and was dropped"


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
        case TaskInputError():
            return _from_input(error)
        case ValidationError():
            return _from_validation(error)
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
        message += ' ("truncate": true in the body, or in the `parameters` of a Hugging Face body)'
    return InvalidBodyError(message)


def _from_validation(error: ValidationError) -> ServerError:
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    if mistakes[0]["type"] == "json_invalid":
        return MalformedBodyError(
            f"the body is not JSON: {mistakes[0]['msg'].removeprefix('Invalid JSON: ')}"
        )
    shown = [f"{_where(mistake['loc'])}: {mistake['msg']}" for mistake in mistakes[:5]]
    if len(mistakes) > len(shown):
        shown.append(f"and {len(mistakes) - len(shown)} more")
    return InvalidBodyError("; ".join(shown))


def _where(location: Sequence[int | str]) -> str:
    """The path to a value of the body, without the name of the shape that comes first."""
    return ".".join(str(part) for part in location[1:]) or "body"


def _from_http(error: HTTPException) -> ServerError:
    methods = {"allow": "", **{name.lower(): value for name, value in (error.headers or {}).items()}}["allow"]
    match error.status_code:
        case 404:
            return UnknownRouteError()
        case 405:
            return MethodNotAllowedError(methods)
        case _:
            return InvalidBodyError(str(error.detail))
