import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from masking import EmptyInputError, InputTooLongError, TaskInputError
from server.errors import (
    DeadlineError,
    EmptyBatchError,
    InvalidBodyError,
    MalformedBodyError,
    MethodNotAllowedError,
    RouteNotFoundError,
    ServerError,
)
from server.http.error_mapping import to_server_error
from server.http.parsing import parse_json
from server.http.schemas import validate_body


def test_a_wrong_method_tells_the_right_ones() -> None:
    error = to_server_error(HTTPException(405, headers={"Allow": "GET, HEAD"}))
    assert isinstance(error, MethodNotAllowedError)
    assert error.headers == {"allow": "GET, HEAD"}
    assert error.message == "this path takes GET, HEAD"


def test_own_errors_stay_as_they_are() -> None:
    error = DeadlineError()
    assert to_server_error(error) is error


def test_other_http_exceptions() -> None:
    assert isinstance(to_server_error(HTTPException(404)), RouteNotFoundError)
    error = to_server_error(HTTPException(400, "odd"))
    assert (error.status, error.message) == (422, "odd")


def test_inputs_that_the_task_can_not_take_name_their_place() -> None:
    error = to_server_error(TaskInputError("this is no pair", index=3))
    assert isinstance(error, InvalidBodyError)
    assert error.message == "input 3: this is no pair"


def test_an_empty_input_is_the_empty_error() -> None:
    error = to_server_error(EmptyInputError("there are no words", index=1))
    assert isinstance(error, EmptyBatchError)
    assert error.message == "input 1: there are no words"


def test_a_long_input_names_both_counts_and_the_way_out() -> None:
    error = to_server_error(InputTooLongError(600, 512, index=2))
    assert isinstance(error, InvalidBodyError)
    assert error.message.startswith("input 2: ")
    assert "600" in error.message
    assert "512" in error.message
    assert '"truncate": true' in error.message


def _from_body(body: str) -> ServerError:
    with pytest.raises((ValidationError, ServerError)) as caught:
        validate_body(parse_json(body.encode()))
    return to_server_error(caught.value)


@pytest.mark.parametrize("body", ["", "text", '{"inputs": ', "\x00"])
def test_a_body_that_is_no_json(body: str) -> None:
    error = _from_body(body)
    assert isinstance(error, MalformedBodyError)
    assert error.message.startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "inputs: Field required"),
        ('"text"', "body: "),
        ("[1]", "body: "),
        ("null", "body: "),
        ('{"inputs": 3}', "inputs: must be a text, [text, pair], or a batch"),
        (
            '{"inputs": "a", "truncated": true}',
            "body: there is no 'truncated'; there are: inputs, truncate, truncation_direction, raw_scores",
        ),
        ('{"inputs": "a", "parameters": {"top_k": 0}}', "parameters.top_k: "),
        ('{"tokens": ["a", 1]}', "tokens: must be a list of words, or a list of such lists"),
        ('{"context": "a", "choices": ["b"]}', "choices: List should have at least 2 items"),
    ],
)
def test_a_body_of_a_wrong_shape_names_the_place(body: str, words: str) -> None:
    error = _from_body(body)
    assert isinstance(error, InvalidBodyError)
    assert words in error.message
    assert "pydantic" not in error.message


def test_of_many_mistakes_the_first_five_are_shown() -> None:
    names = ("top_k", "return_all_scores", "stride", "truncate", "max_length", "batch_size", "ignore_labels")
    parameters = ", ".join(f'"{name}": "a"' for name in names)
    error = _from_body(f'{{"inputs": "a", "parameters": {{{parameters}}}}}')
    assert error.message.count(";") == 5
    assert error.message.endswith("and 2 more")


def test_a_validation_error_of_the_framework() -> None:
    error = to_server_error(RequestValidationError([{"msg": "not a number"}, {"msg": "too short"}]))
    assert isinstance(error, InvalidBodyError)
    assert error.message == "not a number; too short"


@pytest.mark.parametrize(
    "unexpected", [RuntimeError("/secret/path"), KeyError("tensor"), OSError(28, "full")]
)
def test_anything_else_says_nothing_of_its_cause(unexpected: Exception) -> None:
    error = to_server_error(unexpected)
    assert type(error) is ServerError
    assert error.message == ServerError.message
