import inspect

import pytest

import server.errors
from server.errors import (
    BackendFailedError,
    BodyTooLargeError,
    ClientGoneError,
    DeadlineError,
    EmptyBatchError,
    InvalidBodyError,
    MalformedBodyError,
    MethodNotAllowedError,
    NotReadyError,
    QueueFullError,
    RouteNotFoundError,
    ServerError,
    ShuttingDownError,
    TaskNotFoundError,
    TaskUnavailableError,
    UnhealthyError,
)


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (ServerError(), 500, "Backend"),
        (MalformedBodyError(), 400, "Validation"),
        (EmptyBatchError(), 400, "Empty"),
        (TaskNotFoundError(), 404, "NotFound"),
        (RouteNotFoundError(), 404, "NotFound"),
        (MethodNotAllowedError("GET"), 405, "Validation"),
        (BodyTooLargeError(), 413, "Validation"),
        (InvalidBodyError(), 422, "Validation"),
        (BackendFailedError(), 424, "Backend"),
        (QueueFullError(), 429, "Overloaded"),
        (ClientGoneError(), 499, "Timeout"),
        (UnhealthyError(), 503, "Unhealthy"),
        (NotReadyError(), 503, "Unhealthy"),
        (TaskUnavailableError(), 503, "Unhealthy"),
        (ShuttingDownError(), 503, "Unhealthy"),
        (DeadlineError(), 504, "Timeout"),
    ],
)
def test_status_and_type_of_every_class(error: ServerError, status: int, error_type: str) -> None:
    assert (error.status, error.error_type) == (status, error_type)
    assert error.body == {"error": error.message, "error_type": error_type}
    assert str(error) == error.message != ""


def test_the_drawn_tree_names_every_class() -> None:
    drawn = server.errors.__doc__ or ""
    for name, found in inspect.getmembers(server.errors, inspect.isclass):
        if issubclass(found, ServerError):
            assert name in drawn


def test_a_message_of_ones_own_does_not_change_the_class() -> None:
    assert InvalidBodyError("three strings").body["error"] == "three strings"
    assert InvalidBodyError().body["error"] == "the body does not fit this task"
    assert InvalidBodyError().headers == {}


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (7.1, "8")])
def test_a_full_queue_tells_when_to_come_back(seconds: float, header: str) -> None:
    error = QueueFullError.of_rows(90, 100, seconds)
    assert error.headers == {"retry-after": header}
    assert "90 rows" in error.message
    assert "100" in error.message
