"""Error mapping: from what FastAPI, pydantic and lower packages raise to the server's errors and replies."""

import logging
from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from masking import EmptyInputError, InputTooLongError, TaskInputError
from server.errors import (
    EmptyBatchError,
    InvalidBodyError,
    MalformedBodyError,
    MethodNotAllowedError,
    RouteNotFoundError,
    ServerError,
)

logger = logging.getLogger(__name__)

_OIP = "/v2"
_NOT_OIP = ("/v2/rerank",)  # Cohere's
_MOST_SHOWN = 5


def error_response(error: ServerError, path: str) -> JSONResponse:
    """Return the reply to an error: below /v2 in the Open Inference Protocol's shape, else in our one shape.

    The protocol's clients know 400 for every body that is not right.
    """
    if path in _NOT_OIP or (path != _OIP and not path.startswith(f"{_OIP}/")):
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)
    status = 400 if isinstance(error, InvalidBodyError) else error.status
    return JSONResponse({"error": error.message}, status_code=status, headers=error.headers)


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
            return invalid_body(error)
        case HTTPException() | RequestValidationError():
            return _from_framework(error)
    return ServerError()


def part_error(error: Exception) -> ServerError:
    """Map what a part of a body failed with, such as a row; what is unexpected is logged."""
    known = to_server_error(error)
    if type(known) is ServerError:
        logger.error("a part of a body failed unexpectedly", exc_info=error)
    return known


def _from_input(error: TaskInputError) -> ServerError:
    message = f"input {error.index}: {error.message}"
    if isinstance(error, EmptyInputError):
        return EmptyBatchError(message)
    if isinstance(error, InputTooLongError):
        message += ' ("truncate": true in the body, or in its `parameters` where it has them)'
    return InvalidBodyError(message)


def invalid_body(error: ValidationError) -> ServerError:
    """Return the reply to a body that its model refuses."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    if mistakes[0]["type"] == "json_invalid":
        return MalformedBodyError(
            f"the body is not JSON: {mistakes[0]['msg'].removeprefix('Invalid JSON: ')}"
        )
    shown = [f"{_where(mistake['loc'])}: {mistake['msg']}" for mistake in mistakes[:_MOST_SHOWN]]
    if len(mistakes) > len(shown):
        shown.append(f"and {len(mistakes) - len(shown)} more")
    return InvalidBodyError("; ".join(shown))


def _where(location: Sequence[int | str]) -> str:
    """Return the path to a value of the body."""
    return ".".join(str(part) for part in location) or "body"


def _from_framework(error: HTTPException | RequestValidationError) -> ServerError:
    if isinstance(error, RequestValidationError):
        return InvalidBodyError("; ".join(mistake["msg"] for mistake in error.errors()))
    methods = {"allow": "", **{name.lower(): value for name, value in (error.headers or {}).items()}}["allow"]
    match error.status_code:
        case 404:
            return RouteNotFoundError()
        case 405:
            return MethodNotAllowedError(methods)
        case _:
            return InvalidBodyError(str(error.detail))
