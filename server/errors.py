"""Server errors: one class for each way in which a request can fail.

    ServerError                   500  Backend       anything unexpected; the cause is only logged
      MalformedRequestError       400  Validation    the request is no HTTP
      MalformedBodyError          400  Validation    the body is no JSON, or not what its header says
      EmptyBatchError             400  Empty         nothing to predict
      UnauthorizedError           401  Unauthorized  no key, or not one that this route takes
      AdminDisabledError          403  Forbidden     the server was started without an admin key
      ForbiddenError              403  Forbidden     the key may not call this task
      TaskNotFoundError           404  NotFound      no task of this name is served
      GroupNotFoundError          404  NotFound      no group of tasks has this name
      VersionNotFoundError        404  NotFound      no such version of the task, or not the one in service
      RouteNotFoundError          404  NotFound      no such path
      MethodNotAllowedError       405  Validation    the path does not take this method
      RequestTimeoutError         408  Timeout       head or body did not come in time
      ConflictError               409  Conflict      what is asked for contradicts the state of the task
        StoreReadOnlyError                           the server may not write to the store
      BodyTooLargeError           413  Validation    the body has more bytes than allowed
      UrlTooLongError             414  Validation    the URL has more bytes than allowed
      UnsupportedEncodingError    415  Validation    the body is encoded in a way that is not known here
      InvalidBodyError            422  Validation    JSON, but not what the task takes
      BackendFailedError          424  Backend       computing this batch failed; others are not touched
        OutOfMemoryError                             one input alone needs more memory than there is
      ClientGoneError             499  Timeout       the client closed the connection; nobody reads the reply
      HeadTooLargeError           431  Validation    the request's headers have more bytes than allowed
      QueueFullError              429  Overloaded    too much work is waiting; come back after Retry-After
        KeyLimitError                                the key is over its own limit of rows
      UnhealthyError              503  Unhealthy     the worker died or is not there yet
        NotReadyError                                start-up is not over, or the worker is being restarted
        TaskUnavailableError                         the task is in the store but could not be loaded
          TaskUnloadedError                          an operator unloaded it
        TaskBusyError                                something else that is done with the task does not end
        StoreUnreachableError                        the store can't be read or written now
        OperatorsBusyError                           too many requests of operators are not answered yet
        ShuttingDownError                            the server is going down
        ServerFullError                              too many connections, or bodies on their way
      DeadlineError               504  Timeout       not computed in time
      InsufficientStorageError    507  Storage       the store has no space left

Status, type and default message belong to the class. The types are those of text-embeddings-inference where
it has one. Messages are public: they never hold paths, tensors or traces. They are one line of bounded length
whatever of the request they quote.
"""

import math
from collections.abc import Iterable
from typing import Self

from mask_store.messages import escape_controls

_LONGEST_MESSAGE = 1000
_LONGEST_END = 300
_LONGEST_QUOTE = 60
_MOST_QUOTES = 3


def one_line(text: str) -> str:
    """Return a message that is safe to send and to log: one line, without its middle if it is too long.

    Control characters and lone surrogates become escapes.
    """
    if len(text) > _LONGEST_MESSAGE:
        start, end = text[: _LONGEST_MESSAGE - _LONGEST_END], text[-_LONGEST_END:]
        return f"{escape_controls(start)[: len(start)]} [...] {escape_controls(end)[-len(end) :]}"
    return escape_controls(text)[:_LONGEST_MESSAGE]


def quoted(names: Iterable[object]) -> str:
    """Return names that a client sent, for a message: the first few, each cut if it is long."""
    every = list(names)
    shown = ", ".join(cut(name) for name in every[:_MOST_QUOTES])
    return shown if len(every) <= _MOST_QUOTES else f"{shown} (and {len(every) - _MOST_QUOTES} more)"


def cut(name: object) -> str:
    """Return the representation of something that a client sent, cut if it is long."""
    text = repr(name)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


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
        """Keep a message more exact than the class's own, if there is one."""
        if message is not None:
            self.message = one_line(message)
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


class MalformedRequestError(ServerError):
    """What came on the connection is no HTTP request."""

    status, error_type, message = 400, "Validation", "this is not a valid HTTP request"


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
    """The server was started without an admin key, so it can't be administrated."""

    status, error_type, message = (
        403,
        "Forbidden",
        "administration is off: start the server with MASKSERVE_ADMIN_KEY set to a secret of your choice",
    )


class ForbiddenError(ServerError):
    """The key may not call this task, or see what names every task."""

    status, error_type, message = 403, "Forbidden", "this key may not call every task, which this names"


class TaskNotFoundError(ServerError):
    """No task of this name is served."""

    status, error_type, message = 404, "NotFound", "unknown task"


class GroupNotFoundError(ServerError):
    """No group of tasks has the name that was asked for."""

    status, error_type, message = 404, "NotFound", "unknown group"


class VersionNotFoundError(ServerError):
    """The task has no such version, or it is not the one in service."""

    status, error_type, message = 404, "NotFound", "the task has no such version"


class RouteNotFoundError(ServerError):
    """There is no such path."""

    status, error_type, message = 404, "NotFound", "no such path; GET / tells where things are"


class MethodNotAllowedError(ServerError):
    """The path does not take this method."""

    status, error_type, message = 405, "Validation", "this path does not take this method"

    def __init__(self, allowed: str) -> None:
        """Keep the methods that the path does take."""
        super().__init__(f"this path takes {allowed}")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        """The methods that the path takes."""
        return {"allow": self.allowed}


class RequestTimeoutError(ServerError):
    """The head or the body of the request did not come in time."""

    status, error_type, message = 408, "Timeout", "the request did not come in time"


class ConflictError(ServerError):
    """What is asked for contradicts the state of the task."""

    status, error_type, message = 409, "Conflict", "this contradicts the state of the task"


class StoreReadOnlyError(ConflictError):
    """The server may read the store but not write to it."""

    message = "the server may not write to its store; publish from where that is allowed"


class BodyTooLargeError(ServerError):
    """The body has more bytes than allowed."""

    status, error_type, message = 413, "Validation", "the body is too large"


class UrlTooLongError(ServerError):
    """The URL has more bytes than allowed."""

    status, error_type, message = 414, "Validation", "the URL is too long"


class UnsupportedEncodingError(ServerError):
    """The body is compressed, or its characters are encoded, in a way that is not known here."""

    status, error_type, message = (
        415,
        "Validation",
        "the Content-Encoding of a body is gzip or deflate; any other has to be undone before it is sent",
    )

    @property
    def headers(self) -> dict[str, str]:
        """What is known."""
        return {"accept-encoding": "gzip, deflate"}


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


class HeadTooLargeError(ServerError):
    """The headers of the request have more bytes than allowed."""

    status, error_type, message = 431, "Validation", "the headers of the request are too long"


class QueueFullError(ServerError):
    """Too many rows, or too many seconds of work, are waiting."""

    status, error_type, message = 429, "Overloaded", "too much work is waiting"

    def __init__(self, message: str | None = None, retry_after: float = 1.0) -> None:
        """Keep the message, and after how many seconds to come back."""
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))

    @classmethod
    def of_rows(cls, waiting: int, limit: int, retry_after: float) -> Self:
        """Return the refusal where too many rows wait."""
        message = f"{waiting} rows are waiting and the limit is {limit}; try again after Retry-After"
        return cls(message, retry_after)

    @classmethod
    def of_seconds(cls, waiting: float, limit: float) -> Self:
        """Return the refusal where what waits takes too long."""
        message = (
            f"{waiting:.1f} s of work are waiting and the limit is {limit:g}; try again after Retry-After"
        )
        return cls(message, waiting)

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, in seconds."""
        return {"retry-after": str(self.retry_after)}


class KeyLimitError(QueueFullError):
    """The key asks more rows in a second than it may, or has as many in flight."""

    message = "the key is over its limit of rows; try again after Retry-After"


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


class TaskBusyError(UnhealthyError):
    """Something else is being done with the task, and does not end."""

    message = "the task is still being loaded or changed by another request; try again later"


class StoreUnreachableError(UnhealthyError):
    """The store can't be read or written now."""

    message = "the store can't be reached or used now; tasks in service are not affected"


class OperatorsBusyError(UnhealthyError):
    """Too many requests of operators are not answered yet."""

    message = "requests of operators that came before are not done yet; try again later"


class ShuttingDownError(UnhealthyError):
    """The server is going down and takes no new work."""

    message = "the server is shutting down"


class ServerFullError(UnhealthyError):
    """There are too many connections, or too many bodies are on their way."""

    message = "the server has too many connections; try again"

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, in seconds."""
        return {"retry-after": "1"}


class DeadlineError(ServerError):
    """The request was not computed in time."""

    status, error_type, message = 504, "Timeout", "the request was not computed in time and was dropped"


class InsufficientStorageError(ServerError):
    """The store has no space left."""

    status, error_type, message = 507, "Storage", "the store has no space left; nothing was changed"
