import json
from typing import Any

import numpy as np
import pytest

from masking import Base, LoadedTask
from masking.tasks.predictions import Floats
from server.http.parsing import parse_request
from server.http.rendering import render
from tests.support.server_parts import CHOICE, PAIR, SINGLE, TAGS, limits, loaded

SPECS = {"single": SINGLE, "pair": PAIR, "tags": TAGS, "choice": CHOICE}
LOGITS = np.array([1.0, 3.0, 2.0], dtype=np.float32)
ANNA = "Anna Lee, Paris"  # words: Anna | Lee | , | Paris


@pytest.fixture(scope="module")
def tasks(base: Base) -> dict[str, LoadedTask]:
    return {name: loaded(base, spec, task=name) for name, spec in SPECS.items()}


def _render(task: LoadedTask, logits: list[Floats], **values: Any) -> Any:
    request, reply = parse_request(values, task, limits())
    predictions = [task.codec.decode(one) for one in logits]
    return json.loads(json.dumps(render(task, request.inputs, predictions, reply)))


def _softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max())
    shares: Floats = powers / powers.sum()
    return shares


def _tag_logits() -> Floats:
    """B-PER I-PER O B-LOC."""
    logits = np.zeros((4, 4), dtype=np.float32)
    logits[np.arange(4), [1, 2, 0, 3]] = [4.0, 3.0, 2.0, 5.0]
    return logits


def test_one_text_is_answered_flat_and_best_first(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["single"], [LOGITS], inputs="a")
    assert [entry["label"] for entry in reply] == ["praise", "other", "refund"]
    assert [entry["score"] for entry in reply] == pytest.approx(_softmax(LOGITS)[[1, 2, 0]].tolist())
    assert set(reply[0]) == {"score", "label"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_is_answered_with_a_list_even_for_one_input(tasks: dict[str, LoadedTask], count: int) -> None:
    reply = _render(tasks["single"], [LOGITS, -LOGITS][:count], inputs=[["a"], ["b"]][:count])
    assert [entries[0]["label"] for entries in reply] == ["praise", "refund"][:count]


def test_hugging_face_classification_is_nested(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["single"], [LOGITS], inputs="a", parameters={})
    assert len(reply) == 1
    assert [entry["label"] for entry in reply[0]] == ["praise", "other", "refund"]
    batch = _render(tasks["single"], [LOGITS, -LOGITS], inputs=["a", "b"], parameters={})
    assert [entries[0]["label"] for entries in batch] == ["praise", "refund"]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (50, 3), (None, 3)])
def test_top_k(tasks: dict[str, LoadedTask], top_k: int | None, count: int) -> None:
    (entries,) = _render(tasks["single"], [LOGITS], inputs="a", parameters={"top_k": top_k})
    assert [entry["label"] for entry in entries] == ["praise", "other", "refund"][:count]


def test_raw_scores_are_the_logits(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["single"], [LOGITS], inputs="a", raw_scores=True)
    assert [entry["score"] for entry in reply] == [3.0, 2.0, 1.0]
    (entries,) = _render(tasks["single"], [LOGITS], inputs="a", parameters={"function_to_apply": "none"})
    assert [entry["score"] for entry in entries] == [3.0, 2.0, 1.0]


def test_sigmoid_scores(tasks: dict[str, LoadedTask]) -> None:
    parameters = {"function_to_apply": "sigmoid"}
    (entries,) = _render(tasks["single"], [LOGITS], inputs="a", parameters=parameters)
    wanted = 1 / (1 + np.exp(-LOGITS[[1, 2, 0]]))
    assert [entry["score"] for entry in entries] == pytest.approx(wanted.tolist())


def test_sigmoid_of_extreme_logits_neither_warns_nor_overflows(tasks: dict[str, LoadedTask]) -> None:
    logits = np.array([-2000.0, 2000.0, -95.0], dtype=np.float32)
    (entries,) = _render(tasks["single"], [logits], inputs="a", parameters={"function_to_apply": "sigmoid"})
    assert [entry["score"] for entry in entries] == pytest.approx([1.0, 0.0, 0.0], abs=1e-30)


def test_equal_logits_keep_the_order_of_the_labels(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["single"], [np.zeros(3, dtype=np.float32)], inputs="a")
    assert [entry["label"] for entry in reply] == list(SINGLE.labels)


def test_a_pair(tasks: dict[str, LoadedTask]) -> None:
    logits = np.array([0.0, 1.0], dtype=np.float32)
    reply = _render(tasks["pair"], [logits], inputs=["a", "b"])
    assert [entry["label"] for entry in reply] == ["yes", "no"]


def test_choices_come_with_their_texts(tasks: dict[str, LoadedTask]) -> None:
    choices = ["ran", "slept", "ate"]
    reply = _render(tasks["choice"], [LOGITS], context="she", choices=choices)
    assert [(entry["label"], entry["text"]) for entry in reply] == [
        ("1", "slept"),
        ("2", "ate"),
        ("0", "ran"),
    ]
    (nested,) = _render(
        tasks["choice"],
        [LOGITS],
        inputs={"context": "she", "choices": choices},
        parameters={"top_k": 1},
    )
    assert [(entry["label"], entry["text"]) for entry in nested] == [("1", "slept")]


def test_questions_of_one_batch_may_have_different_numbers_of_choices(tasks: dict[str, LoadedTask]) -> None:
    questions = [{"context": "c", "choices": ["a", "b"]}, {"context": "c", "choices": ["a", "b", "d"]}]
    reply = _render(tasks["choice"], [LOGITS[:2], LOGITS], inputs=questions)
    assert [len(entries) for entries in reply] == [2, 3]


def test_words_are_answered_in_order(tasks: dict[str, LoadedTask]) -> None:
    logits = _tag_logits()
    reply = _render(tasks["tags"], [logits], tokens=["Anna", "Lee", ",", "Paris"])
    assert [(entry["word"], entry["label"]) for entry in reply] == [
        ("Anna", "B-PER"),
        ("Lee", "I-PER"),
        (",", "O"),
        ("Paris", "B-LOC"),
    ]
    assert [entry["score"] for entry in reply] == pytest.approx([_softmax(row).max() for row in logits])
    assert set(reply[0]) == {"word", "label", "score"}


def test_sentences_are_answered_with_one_list_each(tasks: dict[str, LoadedTask]) -> None:
    logits = _tag_logits()
    reply = _render(tasks["tags"], [logits[:1], logits[1:3]], tokens=[["Anna"], ["Lee", ","]])
    assert [[entry["label"] for entry in sentence] for sentence in reply] == [["B-PER"], ["I-PER", "O"]]


def test_raw_scores_of_words(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["tags"], [_tag_logits()], tokens=["a", "b", "c", "d"], raw_scores=True)
    assert [entry["score"] for entry in reply] == [4.0, 3.0, 2.0, 5.0]


def test_words_that_the_server_split_come_with_their_places(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["tags"], [_tag_logits()], inputs=ANNA)
    assert len(reply) == 4
    for entry in reply:
        assert ANNA[entry["start"] : entry["end"]] == entry["word"]


def test_hugging_face_entities(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["tags"], [_tag_logits()], inputs=ANNA, parameters={})
    assert [(entry["entity_group"], entry["word"]) for entry in reply] == [
        ("PER", "Anna Lee"),
        ("LOC", "Paris"),
    ]
    for entry in reply:
        assert set(entry) == {"entity_group", "score", "word", "start", "end"}
        assert ANNA[entry["start"] : entry["end"]] == entry["word"]
        assert 0 < entry["score"] <= 1


def test_hugging_face_words_for_the_strategy_none(tasks: dict[str, LoadedTask]) -> None:
    reply = _render(tasks["tags"], [_tag_logits()], inputs=ANNA, parameters={"aggregation_strategy": "none"})
    assert [(entry["entity"], entry["word"], entry["index"]) for entry in reply] == [
        ("B-PER", "Anna", 0),
        ("I-PER", "Lee", 1),
        ("B-LOC", "Paris", 3),
    ]


def test_ignored_labels(tasks: dict[str, LoadedTask]) -> None:
    def words(**parameters: Any) -> list[str]:
        reply = _render(tasks["tags"], [_tag_logits()], inputs=ANNA, parameters=parameters)
        return [entry["word"] for entry in reply]

    assert words(ignore_labels=["PER", "O"]) == ["Paris"]
    assert words(ignore_labels=[]) == ["Anna Lee", ",", "Paris"]
    assert words(ignore_labels=["B-LOC"], aggregation_strategy="none") == ["Anna", "Lee", ","]


def test_a_batch_of_texts_to_tag(tasks: dict[str, LoadedTask]) -> None:
    logits = _tag_logits()
    reply = _render(tasks["tags"], [logits[:2], logits[3:]], inputs=["Anna Lee", "Paris"], parameters={})
    assert [[entry["word"] for entry in entities] for entities in reply] == [["Anna Lee"], ["Paris"]]
