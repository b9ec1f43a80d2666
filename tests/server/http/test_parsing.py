from typing import Any

import pytest

from masking import Base, ChoiceInput, LoadedTask, TaskInput, TextInput, WordsInput
from server.errors import EmptyBatchError, InvalidBodyError
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.parsing import parse_request
from server.predictor import PredictRequest
from tests.support.server_parts import CHOICE, PAIR, SINGLE, TAGS, limits, loaded

SPECS = {"single": SINGLE, "pair": PAIR, "tags": TAGS, "choice": CHOICE}


@pytest.fixture(scope="module")
def tasks(base: Base) -> dict[str, LoadedTask]:
    return {name: loaded(base, spec, task=name) for name, spec in SPECS.items()}


def _read(task: LoadedTask, **values: Any) -> PredictRequest:
    return parse_request(values, task, limits())[0]


def _reply(task: LoadedTask, **values: Any) -> ReplyFormat:
    return parse_request(values, task, limits())[1]


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
    request, reply = parse_request(values, tasks[task], limits())
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
    request, reply = parse_request({"inputs": inputs, "parameters": {}}, tasks[task], limits())
    assert list(request.inputs) == wanted
    assert reply.batched is batched
    assert reply.shape == "hf"


@pytest.mark.parametrize(
    ("task", "body", "wanted"),
    [
        ("single", {"inputs": "a", "options": {"wait_for_model": True}}, [TextInput("a")]),
        ("single", {"inputs": "a", "options": None}, [TextInput("a")]),
        ("single", {"inputs": "a", "parameters": None}, [TextInput("a")]),
        ("single", {"inputs": {"text": "a"}}, [TextInput("a")]),
        (
            "single",
            {"inputs": [{"text": "a"}, {"text": "b", "text_pair": None}]},
            [TextInput("a"), TextInput("b")],
        ),
        ("single", {"inputs": [["a"], ["b"]], "parameters": {}}, [TextInput("a"), TextInput("b")]),
        ("pair", {"inputs": {"text": "a", "text_pair": "b"}}, [TextInput("a", "b")]),
        ("pair", {"inputs": [["a", "b"]], "parameters": {}}, [TextInput("a", "b")]),
    ],
)
def test_other_bodies_that_are_hugging_faces(
    tasks: dict[str, LoadedTask], task: str, body: dict[str, Any], wanted: list[TaskInput]
) -> None:
    request, reply = parse_request(body, tasks[task], limits())
    assert list(request.inputs) == wanted
    assert reply.shape == "hf"


def test_a_client_known_to_be_hugging_faces(tasks: dict[str, LoadedTask]) -> None:
    request, reply = parse_request(b'{"inputs": ["a", "b"]}', tasks["single"], limits(), hugging_face=True)
    assert (request.inputs, reply.shape) == ((TextInput("a"), TextInput("b")), "hf")
    _, reply = parse_request({"tokens": ["a"]}, tasks["tags"], limits(), hugging_face=True)
    assert reply.shape == "tei"
    request, _ = parse_request(
        {"inputs": "a", "truncate": True}, tasks["single"], limits(), hugging_face=True
    )
    assert request.truncate


def test_options_stand_beside_any_inputs(tasks: dict[str, LoadedTask]) -> None:
    assert _reply(tasks["tags"], tokens=["a"], options={"use_cache": False}).shape == "tei"
    assert _reply(tasks["choice"], context="a", choices=["b", "c"], options={}).shape == "tei"


@pytest.mark.parametrize(
    ("parameters", "top_k"),
    [
        ({"top_k": None}, None),
        ({"top_k": 50}, 50),
        ({"return_all_scores": True}, None),
        ({"return_all_scores": False}, 1),
        ({"return_all_scores": False, "top_k": 2}, 2),
    ],
)
def test_how_many_labels_are_wanted(
    tasks: dict[str, LoadedTask], parameters: dict[str, Any], top_k: int | None
) -> None:
    assert _reply(tasks["single"], inputs="a", parameters=parameters).top_k == top_k


@pytest.mark.parametrize(
    ("parameters", "grouped"),
    [
        ({"grouped_entities": True}, True),
        ({"grouped_entities": False}, False),
        ({"grouped_entities": True, "ignore_subwords": True}, True),
        ({"grouped_entities": True, "aggregation_strategy": "NONE"}, False),
        ({"grouped_entities": False, "aggregation_strategy": "First"}, True),
    ],
)
def test_older_names_of_the_strategies(
    tasks: dict[str, LoadedTask], parameters: dict[str, Any], grouped: bool
) -> None:
    assert _reply(tasks["tags"], inputs="a", parameters=parameters).grouped is grouped


def test_names_of_functions_are_read_in_any_case(tasks: dict[str, LoadedTask]) -> None:
    assert (
        _reply(tasks["single"], inputs="a", parameters={"function_to_apply": "SIGMOID"}).function == "sigmoid"
    )


@pytest.mark.parametrize(
    "parameters",
    [{"padding": True}, {"padding": "max_length"}, {"padding": None}, {"batch_size": 8}, {"max_length": 512}],
)
def test_what_changes_no_answer_is_accepted(tasks: dict[str, LoadedTask], parameters: dict[str, Any]) -> None:
    assert not _read(tasks["single"], inputs="a", parameters=parameters).truncate


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"parameters": {"candidate_labels": ["a"], "multi_label": True}},
            "parameters: there is no 'candidate_labels', 'multi_label'; there are: top_k, return_all_scores",
        ),
        ({"parameters": {"top_k": 0}}, "parameters.top_k: Input should be greater than or equal to 1"),
        ({"parameters": {"top_k": "2"}}, "parameters.top_k: Input should be a valid integer"),
        ({"parameters": {"function_to_apply": "relu"}}, "'softmax', 'sigmoid' or 'none'"),
        ({"parameters": {"truncation": "left"}}, "must be true, false, or one of longest_first, only_first"),
        ({"parameters": {"padding": 3}}, "must be true, false, or one of longest, max_length, do_not_pad"),
        ({"parameters": []}, "parameters: "),
        ({"options": 3}, "options: "),
        ({"normalize": True}, "there is no 'normalize'; there are: inputs, truncate, truncation_direction"),
        ({"truncate": True, "truncation_direction": "Left"}, "texts are cut at their end: right"),
    ],
)
def test_what_can_not_be_done_is_refused_with_what_can(
    tasks: dict[str, LoadedTask], body: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        _read(tasks["single"], inputs="a", **body)
    assert said in caught.value.message


def test_a_direction_matters_only_where_texts_are_cut(tasks: dict[str, LoadedTask]) -> None:
    assert not _read(tasks["single"], inputs="a", truncation_direction="Left").truncate
    assert _read(tasks["single"], inputs="a", truncation_direction="RIGHT", truncate=True).truncate


def test_hugging_face_parameters(tasks: dict[str, LoadedTask]) -> None:
    parameters = {"top_k": 2, "function_to_apply": "sigmoid", "ignore_labels": [], "stride": 3}
    reply = _reply(tasks["single"], inputs="a", parameters=parameters)
    assert (reply.top_k, reply.function, reply.ignored, reply.grouped) == (2, "sigmoid", frozenset(), True)
    reply = _reply(tasks["tags"], inputs="a", parameters={"aggregation_strategy": "none"})
    assert (reply.top_k, reply.function, reply.ignored) == (None, None, frozenset({"O"}))
    assert not reply.grouped


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
def test_every_other_strategy_groups(tasks: dict[str, LoadedTask], strategy: str | None) -> None:
    assert _reply(tasks["tags"], inputs="a", parameters={"aggregation_strategy": strategy}).grouped


@pytest.mark.parametrize(
    "values",
    [
        {"inputs": "a", "truncate": True},
        {"inputs": "a", "parameters": {"truncation": True}},
        {"inputs": "a", "parameters": {"truncation": "longest_first"}},
        {"inputs": "a", "parameters": {"truncation": "only_first"}},
        {"inputs": "a", "parameters": {"truncate": True}},
        {"inputs": "a", "options": {}, "truncate": True},
    ],
)
def test_truncation_is_asked_for(tasks: dict[str, LoadedTask], values: dict[str, Any]) -> None:
    assert _read(tasks["single"], **values).truncate


@pytest.mark.parametrize("value", [None, False, "do_not_truncate"])
def test_truncation_may_be_off_in_words(tasks: dict[str, LoadedTask], value: object) -> None:
    assert not _read(tasks["single"], inputs="a", parameters={"truncation": value}).truncate


@pytest.mark.parametrize(
    ("task", "parameters", "max_length"),
    [
        ("single", {"truncation": True, "max_length": 8}, 8),
        ("single", {"truncation": True, "max_length": 512}, 512),
        ("single", {"max_length": 8}, None),
        ("pair", {"truncation": "only_first", "max_length": 5}, 5),
        ("tags", {"truncation": True, "max_length": 1}, None),
    ],
)
def test_a_shorter_length_where_texts_are_cut(
    tasks: dict[str, LoadedTask], task: str, parameters: dict[str, Any], max_length: int | None
) -> None:
    inputs = {"text": "a", "text_pair": "b"} if task == "pair" else "a"
    assert _read(tasks[task], inputs=inputs, parameters=parameters).max_length == max_length


@pytest.mark.parametrize(("task", "least"), [("single", 3), ("pair", 5)])
def test_a_length_without_room_for_a_token_of_each_text(
    tasks: dict[str, LoadedTask], task: str, least: int
) -> None:
    inputs = {"text": "a", "text_pair": "b"} if task == "pair" else "a"
    parameters = {"truncation": True, "max_length": least - 1}
    with pytest.raises(InvalidBodyError, match=f"max_length: at least {least} tokens"):
        _read(tasks[task], inputs=inputs, parameters=parameters)


def test_raw_scores(tasks: dict[str, LoadedTask]) -> None:
    assert _reply(tasks["single"], inputs="a", raw_scores=True).function == "none"
    assert _reply(tasks["tags"], tokens=["a"], raw_scores=True).function == "none"
    assert _reply(tasks["single"], inputs="a").function is None


def test_running_text_of_a_tagging_task_keeps_the_places_of_its_words(tasks: dict[str, LoadedTask]) -> None:
    body = {"inputs": ["Anna  works", "Paris."], "parameters": {}}
    request, reply = parse_request(body, tasks["tags"], limits())
    assert [split.text for split in reply.split_texts] == ["Anna  works", "Paris."]
    for split, given in zip(reply.split_texts, request.inputs, strict=True):
        assert isinstance(given, WordsInput)
        assert tuple(word.text for word in split.words) == given.words
        assert all(split.text[word.start : word.end] == word.text for word in split.words)


def test_words_of_the_caller_are_taken_as_they_are(tasks: dict[str, LoadedTask]) -> None:
    request, reply = parse_request({"tokens": ["e.g.", "U.S."]}, tasks["tags"], limits())
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
    ("name", "values", "told"),
    [
        ("tags", {"tokens": ["a"] * 1001}, "tokens: has 1001 elements and at most 1000"),
        ("tags", {"tokens": [["a"]] * 101}, "tokens: has 101 elements and at most 100"),
        ("single", {"inputs": [["a"]] * 101}, "inputs: has 101 elements and at most 100"),
        ("single", {"inputs": ["a"] * 101, "parameters": {}}, "inputs: has 101 elements and at most 100"),
        ("single", {"inputs": [{"text": 0}] * 101}, "inputs: has 101 elements and at most 100"),
        ("choice", {"context": "a", "choices": ["a"] * 9}, "choices: has 9 elements and at most 8"),
    ],
)
def test_a_list_of_more_than_is_ever_admitted_is_refused_unread(
    tasks: dict[str, LoadedTask], name: str, values: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidBodyError, match=told):
        parse_request(values, tasks[name], limits())


def test_a_running_text_has_a_largest_number_of_words(tasks: dict[str, LoadedTask]) -> None:
    (item,) = _read(tasks["tags"], inputs="a " * 1000).inputs
    assert item.characters == 1000
    with pytest.raises(InvalidBodyError, match="more than 1000 words"):
        _read(tasks["tags"], inputs="a " * 1001)
