from typing import Any

import pytest

from masking import Base, ChoiceInput, LoadedTask, TaskInput, TextInput, WordsInput
from server.errors import EmptyBatchError, InvalidBodyError
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.parsing import parse_request
from server.predictor import PredictRequest
from tests.support.server_parts import CHOICE, PAIR, SINGLE, TAGS, loaded

SPECS = {"single": SINGLE, "pair": PAIR, "tags": TAGS, "choice": CHOICE}


@pytest.fixture(scope="module")
def tasks(base: Base) -> dict[str, LoadedTask]:
    return {name: loaded(base, spec, task=name) for name, spec in SPECS.items()}


def _read(task: LoadedTask, **values: Any) -> PredictRequest:
    return parse_request(values, task)[0]


def _reply(task: LoadedTask, **values: Any) -> ReplyFormat:
    return parse_request(values, task)[1]


@pytest.mark.parametrize(
    ("task", "values", "inputs", "batched"),
    [
        ("single", {"inputs": "a b"}, [TextInput("a b")], False),
        ("single", {"inputs": ["a"]}, [TextInput("a")], False),
        ("single", {"inputs": [["a"], ["b"]]}, [TextInput("a"), TextInput("b")], True),
        ("single", {"inputs": [["a"]]}, [TextInput("a")], True),
        ("pair", {"inputs": ["a", "b"]}, [TextInput("a", "b")], False),
        ("pair", {"inputs": [["a", "b"], ["c", "d"]]}, [TextInput("a", "b"), TextInput("c", "d")], True),
        ("tags", {"tokens": ["a", "b"]}, [WordsInput(("a", "b"))], False),
        ("tags", {"tokens": [["a"], ["b", "c"]]}, [WordsInput(("a",)), WordsInput(("b", "c"))], True),
        ("tags", {"inputs": "Hi, you!"}, [WordsInput(("Hi", ",", "you", "!"))], False),
        ("choice", {"context": "c", "choices": ["a", "b"]}, [ChoiceInput("c", ("a", "b"))], False),
        (
            "choice",
            {"inputs": [{"context": "c", "choices": ["a", "b"]}]},
            [ChoiceInput("c", ("a", "b"))],
            True,
        ),
    ],
)
def test_tei_bodies(
    tasks: dict[str, LoadedTask], task: str, values: dict[str, Any], inputs: list[TaskInput], batched: bool
) -> None:
    request, reply = parse_request(values, tasks[task])
    assert list(request.inputs) == inputs
    assert reply.batched is batched
    assert reply.shape == "tei"
    assert not request.truncate


@pytest.mark.parametrize(
    ("task", "inputs", "wanted", "batched"),
    [
        ("single", "a", [TextInput("a")], False),
        ("single", ["a", "b"], [TextInput("a"), TextInput("b")], True),
        ("pair", {"text": "a", "text_pair": "b"}, [TextInput("a", "b")], False),
        ("pair", [{"text": "a", "text_pair": "b"}], [TextInput("a", "b")], True),
        ("tags", "a b", [WordsInput(("a", "b"))], False),
        ("tags", ["a", "b."], [WordsInput(("a",)), WordsInput(("b", "."))], True),
        ("choice", {"context": "c", "choices": ["a", "b"]}, [ChoiceInput("c", ("a", "b"))], False),
        ("choice", [{"context": "c", "choices": ["a", "b"]}], [ChoiceInput("c", ("a", "b"))], True),
    ],
)
def test_hugging_face_bodies(
    tasks: dict[str, LoadedTask], task: str, inputs: Any, wanted: list[TaskInput], batched: bool
) -> None:
    request, reply = parse_request({"inputs": inputs, "parameters": {}}, tasks[task])
    assert list(request.inputs) == wanted
    assert reply.batched is batched
    assert reply.shape == "hf"


def test_hugging_face_parameters(tasks: dict[str, LoadedTask]) -> None:
    parameters = {"top_k": 2, "function_to_apply": "sigmoid", "ignore_labels": [], "stride": 3}
    reply = _reply(tasks["single"], inputs="a", parameters=parameters)
    assert (reply.top_k, reply.function, reply.ignored, reply.grouped) == (2, "sigmoid", frozenset(), True)
    reply = _reply(tasks["tags"], inputs="a", parameters={"aggregation_strategy": "none"})
    assert (reply.top_k, reply.function, reply.ignored) == (None, "softmax", frozenset({"O"}))
    assert not reply.grouped


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
def test_every_other_strategy_groups(tasks: dict[str, LoadedTask], strategy: str | None) -> None:
    assert _reply(tasks["tags"], inputs="a", parameters={"aggregation_strategy": strategy}).grouped


@pytest.mark.parametrize(
    "values",
    [
        {"inputs": "a", "truncate": True},
        {"inputs": "a", "parameters": {"truncation": True}},
        {"inputs": "a", "parameters": {"truncate": True}},
    ],
)
def test_truncation_is_asked_for(tasks: dict[str, LoadedTask], values: dict[str, Any]) -> None:
    assert _read(tasks["single"], **values).truncate


def test_raw_scores(tasks: dict[str, LoadedTask]) -> None:
    assert _reply(tasks["single"], inputs="a", raw_scores=True).function == "none"
    assert _reply(tasks["tags"], tokens=["a"], raw_scores=True).function == "none"
    assert _reply(tasks["single"], inputs="a").function == "softmax"


def test_running_text_of_a_tagging_task_keeps_the_places_of_its_words(tasks: dict[str, LoadedTask]) -> None:
    body = {"inputs": ["Anna  works", "Paris."], "parameters": {}}
    request, reply = parse_request(body, tasks["tags"])
    assert [split.text for split in reply.split_texts] == ["Anna  works", "Paris."]
    for split, given in zip(reply.split_texts, request.inputs, strict=True):
        assert isinstance(given, WordsInput)
        assert tuple(word.text for word in split.words) == given.words
        assert all(split.text[word.start : word.end] == word.text for word in split.words)


def test_words_of_the_caller_are_taken_as_they_are(tasks: dict[str, LoadedTask]) -> None:
    request, reply = parse_request({"tokens": ["e.g.", "U.S."]}, tasks["tags"])
    assert request.inputs == (WordsInput(("e.g.", "U.S.")),)
    assert not reply.split_texts


def test_rows_count_choices(tasks: dict[str, LoadedTask]) -> None:
    questions = [{"context": "c", "choices": ["a", "b"]}, {"context": "c", "choices": ["a", "b", "d"]}]
    assert _read(tasks["choice"], inputs=questions).rows == 5
    assert _read(tasks["single"], inputs=[["a"], ["b"]]).rows == 2


@pytest.mark.parametrize("values", [{"inputs": []}, {"inputs": [], "parameters": {}}])
def test_a_batch_without_inputs(tasks: dict[str, LoadedTask], values: dict[str, Any]) -> None:
    for task in tasks.values():
        with pytest.raises(EmptyBatchError):
            _read(task, **values)


def test_no_words(tasks: dict[str, LoadedTask]) -> None:
    with pytest.raises(EmptyBatchError):
        _read(tasks["tags"], tokens=[])


@pytest.mark.parametrize("values", [["a", "b", "c"], [["a", "b", "c"]], [["a"], []]])
def test_neither_a_text_nor_a_pair(tasks: dict[str, LoadedTask], values: Any) -> None:
    with pytest.raises(InvalidBodyError, match="one text or a pair of texts"):
        _read(tasks["single"], inputs=values)


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("single", {"inputs": ["a", "b"]}),
        ("single", {"inputs": [["a"], ["b", "c"]]}),
        ("single", {"tokens": ["a"]}),
        ("single", {"context": "c", "choices": ["a", "b"]}),
        ("single", {"inputs": {"text": "a", "text_pair": "b"}, "parameters": {}}),
        ("pair", {"inputs": "a"}),
        ("pair", {"inputs": [["a", "b"], ["c"]]}),
        ("pair", {"inputs": ["a", "b"], "parameters": {}}),
        ("tags", {"inputs": ["a", "b"]}),
        ("tags", {"context": "c", "choices": ["a", "b"]}),
        ("choice", {"inputs": "a"}),
        ("choice", {"inputs": ["a", "b"]}),
        ("choice", {"tokens": ["a", "b"]}),
    ],
)
def test_a_shape_that_the_task_does_not_take_is_answered_with_one_that_it_does(
    tasks: dict[str, LoadedTask], task: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        _read(tasks[task], **values)
    assert f"task {task!r} ({SPECS[task].kind}) takes " in caught.value.message
    assert "or a batch: " in caught.value.message


@pytest.mark.parametrize("name", SPECS)
def test_the_examples_of_an_error_message_work(tasks: dict[str, LoadedTask], name: str) -> None:
    kind = http_kind(SPECS[name])
    assert not _reply(tasks[name], **kind.example).batched
    assert _reply(tasks[name], **kind.example_batch).batched


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tags", {"tokens": ["a"] * 50_001}),
        ("tags", {"tokens": [["a"]] * 50_001}),
        ("single", {"inputs": [["a"]] * 50_001}),
        ("single", {"inputs": ["a"] * 50_001, "parameters": {}}),
    ],
)
def test_a_very_long_list_is_refused_unread(
    tasks: dict[str, LoadedTask], name: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidBodyError, match="has 50001 elements and at most 50000 are read"):
        parse_request(values, tasks[name])


def test_a_running_text_has_a_largest_number_of_words(tasks: dict[str, LoadedTask]) -> None:
    (item,) = _read(tasks["tags"], inputs="a " * 50_000).inputs
    assert item.characters == 50_000
    with pytest.raises(InvalidBodyError, match="more than 50000 words"):
        parse_request({"inputs": "a " * 50_001}, tasks["tags"])
