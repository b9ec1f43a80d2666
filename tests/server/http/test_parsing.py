from typing import Any

import pytest

from masking import Base, ChoiceInput, LoadedTask, TaskInput, TextInput, WordsInput
from server.errors import EmptyBatchError, InvalidBodyError
from server.http.parsing import Request, read_request
from server.http.schemas import example_batch, example_body
from tests.support.server_parts import CHOICE, PAIR, SINGLE, TAGS, body, loaded

SPECS = {"single": SINGLE, "pair": PAIR, "tags": TAGS, "choice": CHOICE}


@pytest.fixture(scope="module")
def tasks(base: Base) -> dict[str, LoadedTask]:
    return {name: loaded(base, spec, task=name) for name, spec in SPECS.items()}


def _read(task: LoadedTask, **values: Any) -> Request:
    return read_request(body(**values), task)


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
    request = _read(tasks[task], **values)
    assert list(request.inputs) == inputs
    assert request.reply.batched is batched
    assert request.reply.shape == "tei"
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
    request = _read(tasks[task], inputs=inputs, parameters={})
    assert list(request.inputs) == wanted
    assert request.reply.batched is batched
    assert request.reply.shape == "hf"


def test_hugging_face_parameters(tasks: dict[str, LoadedTask]) -> None:
    parameters = {"top_k": 2, "function_to_apply": "sigmoid", "ignore_labels": [], "stride": 3}
    reply = _read(tasks["single"], inputs="a", parameters=parameters).reply
    assert (reply.top_k, reply.function, reply.ignored, reply.grouped) == (2, "sigmoid", frozenset(), True)
    reply = _read(tasks["tags"], inputs="a", parameters={"aggregation_strategy": "none"}).reply
    assert (reply.top_k, reply.function, reply.ignored) == (None, "softmax", frozenset({"O"}))
    assert not reply.grouped


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
def test_every_other_strategy_groups(tasks: dict[str, LoadedTask], strategy: str | None) -> None:
    assert _read(tasks["tags"], inputs="a", parameters={"aggregation_strategy": strategy}).reply.grouped


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
    assert _read(tasks["single"], inputs="a", raw_scores=True).reply.function == "none"
    assert _read(tasks["tags"], tokens=["a"], raw_scores=True).reply.function == "none"
    assert _read(tasks["single"], inputs="a").reply.function == "softmax"


def test_running_text_of_a_tagging_task_keeps_the_places_of_its_words(tasks: dict[str, LoadedTask]) -> None:
    request = _read(tasks["tags"], inputs=["Anna  works", "Paris."], parameters={})
    assert request.texts == ("Anna  works", "Paris.")
    for text, words, given in zip(request.texts, request.words, request.inputs, strict=True):
        assert isinstance(given, WordsInput)
        assert tuple(word.text for word in words) == given.words
        assert all(text[word.start : word.end] == word.text for word in words)


def test_words_of_the_caller_are_taken_as_they_are(tasks: dict[str, LoadedTask]) -> None:
    request = _read(tasks["tags"], tokens=["e.g.", "U.S."])
    assert request.inputs == (WordsInput(("e.g.", "U.S.")),)
    assert not request.words
    assert not request.texts


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
    spec = SPECS[name]
    assert not _read(tasks[name], **example_body(spec.kind, pair=spec.pair)).reply.batched
    assert _read(tasks[name], **example_batch(spec.kind, pair=spec.pair)).reply.batched
