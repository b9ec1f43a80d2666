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
    quoted,
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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as it is: caf\u00e9 \u5c0f", "as it is: caf\u00e9 \u5c0f"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        ("half an emoji \ud83d", "half an emoji \\ud83d"),
        ("right to left \u202e", "right to left \\u202e"),
    ],
)
def test_a_message_is_one_line_that_can_be_sent_and_logged(text: str, line: str) -> None:
    assert ServerError(text).message == line
    line.encode()


@pytest.mark.parametrize("filler", ["x", "\ud83d", "\n", "\U000e0001"])
def test_a_long_message_keeps_both_ends(filler: str) -> None:
    message = ServerError(f"begin {filler * 2_000_000} end").message
    assert message.startswith("begin ")
    assert message.endswith(" end")
    assert len(message) < 1100
    assert message.isprintable()


def test_what_a_client_sent_is_quoted_in_part() -> None:
    assert quoted(["a"]) == "'a'"
    assert quoted(f"k{i}" for i in range(9)) == "'k0', 'k1', 'k2' (and 6 more)"
    assert len(quoted(["x" * 10_000])) < 100
