import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from masking import Base, ChoiceInput, TextInput
from masking.tasks.predictions import Floats
from tests.support.server_parts import TaskBatches, zeros
from tests.support.serving import (
    SPECS,
    TEXT,
    Stuck,
    bundle_of,
    expected_scores,
    fill,
    scores_in,
    serving,
    wait_until,
)

EXAMPLE_TASKS = {
    "text": "sentiment",
    "texts": "sentiment",
    "pair": "paraphrase",
    "pairs": "paraphrase",
    "words": "names",
    "sentences": "names",
    "choices": "endings",
    "questions": "endings",
    "embedding": "semantic",
    "huggingface": "sentiment",
}
CHOICES = {"context": "she lost the card and", "choices": ["works", "help please", "paris"]}


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    with serving(base, place, max_body_bytes=4096) as client:
        yield client


def answer(client: TestClient, task: str, body: object) -> Any:
    reply = client.post(f"/predict/{task}", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal(client: TestClient, task: str, body: object) -> tuple[int, str, str]:
    reply = client.post(f"/predict/{task}", json=body)
    assert reply.json().keys() == {"error", "error_type"}
    assert "/" not in reply.json()["error"].replace("GET /tasks", "")
    return reply.status_code, reply.json()["error_type"], reply.json()["error"]


def test_one_text_is_answered_flat_and_best_first(client: TestClient, base: Base) -> None:
    entries = answer(client, "sentiment", {"inputs": TEXT})
    assert scores_in(entries) == pytest.approx(expected_scores(base, bundle_of(base, "sentiment")), abs=1e-6)
    assert [entry["score"] for entry in entries] == sorted((e["score"] for e in entries), reverse=True)


def test_a_batch_is_answered_with_one_list_per_input(client: TestClient, base: Base) -> None:
    texts = [TEXT, "no", "please help my account is locked ."]
    answers = answer(client, "sentiment", {"inputs": [[text] for text in texts]})
    bundle = bundle_of(base, "sentiment")
    for text, entries in zip(texts, answers, strict=True):
        assert scores_in(entries) == pytest.approx(
            expected_scores(base, bundle, TextInput(text)), rel=1e-4, abs=1e-5
        )


def test_a_body_too_long_for_the_event_loop_is_answered_alike(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with serving(base, tmp_path) as client:
        alone = scores_in(answer(client, "sentiment", {"inputs": TEXT}))
        answers = answer(client, "sentiment", {"inputs": [[TEXT]] * 600})
        assert len(answers) == 600
        assert all(scores_in(entries) == pytest.approx(alone, rel=1e-4, abs=1e-5) for entries in answers)
        refused = client.post("/predict/sentiment", content=b'{"inputs": ' + b"[" * 9000)
        assert refused.status_code == 400


def test_a_batch_of_one_stays_a_batch(client: TestClient) -> None:
    assert len(answer(client, "sentiment", {"inputs": [[TEXT]]})[0]) == 3


def test_two_strings_are_one_pair(client: TestClient, base: Base) -> None:
    entries = answer(client, "paraphrase", {"inputs": ["it is good", "it is great"]})
    wanted = expected_scores(base, bundle_of(base, "paraphrase"), TextInput("it is good", "it is great"))
    assert scores_in(entries) == pytest.approx(wanted, abs=1e-6)


def test_the_key_parameters_selects_the_hugging_face_shape(client: TestClient) -> None:
    flat = answer(client, "sentiment", {"inputs": TEXT})
    assert answer(client, "sentiment", {"inputs": TEXT, "parameters": {}}) == [flat]


def test_several_labels_have_scores_of_their_own_and_say_whether_they_are_predicted(
    client: TestClient, base: Base
) -> None:
    entries = answer(client, "topics", {"inputs": TEXT})
    assert scores_in(entries) == pytest.approx(expected_scores(base, bundle_of(base, "topics")), abs=1e-6)
    spec = SPECS["topics"]
    thresholds = dict(zip(spec.labels, spec.thresholds, strict=True))
    for entry in entries:
        assert entry["predicted"] == (entry["score"] >= thresholds[entry["label"]])
    assert answer(client, "topics", {"inputs": TEXT, "parameters": {"top_k": 1}}) == [entries[:1]]
    assert client.get("/tasks/topics").json()["thresholds"] == list(spec.thresholds)
    softmax = {"inputs": TEXT, "parameters": {"function_to_apply": "softmax"}}
    assert sum(scores_in(answer(client, "topics", softmax)[0]).values()) == pytest.approx(1.0)


def test_a_regression_answers_its_value(client: TestClient, base: Base) -> None:
    (entry,) = answer(client, "rating", {"inputs": TEXT})
    value = expected_scores(base, bundle_of(base, "rating"))["score"]
    assert entry == {"label": "score", "score": pytest.approx(value, abs=1e-6)}
    assert answer(client, "rating", {"inputs": TEXT, "raw_scores": True}) == [entry]
    squashed = {"inputs": TEXT, "parameters": {"function_to_apply": "sigmoid"}}
    assert answer(client, "rating", squashed)[0][0]["score"] == pytest.approx(
        1 / (1 + np.exp(-value)), abs=1e-6
    )


def test_top_k_and_function_to_apply(client: TestClient) -> None:
    body = {"inputs": TEXT, "parameters": {"top_k": 2, "function_to_apply": "none"}}
    (best,) = answer(client, "sentiment", body)
    raw = answer(client, "sentiment", {"inputs": TEXT, "raw_scores": True})
    assert best == raw[:2]
    body["parameters"] = {"function_to_apply": "sigmoid"}
    (squashed,) = answer(client, "sentiment", body)
    assert [e["score"] for e in squashed] == pytest.approx([1 / (1 + np.exp(-e["score"])) for e in raw])


def test_words_get_one_label_each(client: TestClient) -> None:
    words = ["anna", "works", "in", "paris", "."]
    entries = answer(client, "names", {"tokens": words})
    assert [entry["word"] for entry in entries] == words
    assert {entry["label"] for entry in entries} <= set(SPECS["names"].labels)
    (alone,) = answer(client, "names", {"tokens": [words]})
    assert alone == entries


def test_a_text_is_split_into_words_that_know_their_place(client: TestClient) -> None:
    text = "Anna works, in Paris."
    entries = answer(client, "names", {"inputs": text})
    assert [entry["word"] for entry in entries] == ["Anna", "works", ",", "in", "Paris", "."]
    assert all(text[entry["start"] : entry["end"]] == entry["word"] for entry in entries)


def test_a_long_sentence_is_never_cut(client: TestClient) -> None:
    words = ["movie"] * 150
    assert len(answer(client, "names", {"tokens": words})) == 150


def test_multiple_choice_ranks_the_choices(client: TestClient, base: Base) -> None:
    entries = answer(client, "endings", CHOICES)
    given = ChoiceInput(str(CHOICES["context"]), tuple(CHOICES["choices"]))
    wanted = expected_scores(base, bundle_of(base, "endings"), given)
    assert scores_in(entries) == pytest.approx(wanted, abs=1e-6)
    assert all(CHOICES["choices"][int(entry["label"])] == entry["text"] for entry in entries)
    assert answer(client, "endings", {"inputs": [CHOICES]}) == [entries]


def test_headers_name_version_digest_and_times(client: TestClient) -> None:
    headers = client.post("/predict/sentiment", json={"inputs": TEXT}).headers
    assert headers["x-task"] == "sentiment"
    assert headers["x-task-version"] == "1"
    assert headers["x-mask-digest"] == client.get("/tasks/sentiment").json()["digest"]
    assert headers["x-compute-tokens"] == "6"
    for stage in ("total", "tokenization", "queue", "inference"):
        assert headers[f"x-{stage}-time"].isdecimal()


def test_every_openapi_example_works_when_pasted(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/predict/{task}"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert examples.keys() == EXAMPLE_TASKS.keys()
    for name, example in examples.items():
        answer(client, EXAMPLE_TASKS[name], example["value"])


def test_every_reference_of_the_openapi_document_resolves(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= schemas.keys()


def test_the_example_of_each_task_works_when_pasted(client: TestClient) -> None:
    for task in SPECS:
        answer(client, task, client.get(f"/tasks/{task}").json()["example"])


def test_an_unknown_task_is_not_answered_by_another(client: TestClient) -> None:
    status, kind, message = refusal(client, "sentimant", {"inputs": TEXT})
    assert (status, kind) == (404, "NotFound")
    assert "did you mean 'sentiment'?" in message


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "%00", "x" * 3000, "%F0%9F%98%80"])
def test_strange_names_are_unknown_tasks(client: TestClient, name: str) -> None:
    reply = client.post(f"/predict/{name}", json={"inputs": TEXT})
    assert reply.status_code == 404
    assert reply.json()["error_type"] == "NotFound"
    assert len(reply.text) < 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"hello", b'{"inputs": "a"', b'{"inputs": "\xff"}', b'{"inputs": "\\ud800"}', b"[" * 4000],
)
def test_a_body_that_is_no_json(client: TestClient, body: bytes) -> None:
    reply = client.post("/predict/sentiment", content=body)
    assert reply.status_code == 400
    assert reply.json()["error_type"] == "Validation"
    assert reply.json()["error"].startswith("the body is not JSON")


@pytest.mark.parametrize(
    "body",
    [{}, [], "text", 3, {"inputs": 3}, {"inputs": None}, {"text": "a"}, {"inputs": {"sentence": "a"}}],
)
def test_json_of_no_known_shape(client: TestClient, body: object) -> None:
    status, kind, message = refusal(client, "sentiment", body)
    assert (status, kind) == (422, "Validation")
    assert '{"inputs": "I want my money back"}' in message


@pytest.mark.parametrize(
    ("task", "body", "example"),
    [
        ("sentiment", {"inputs": ["a", "pair"]}, '{"inputs": "I want my money back"}'),
        ("sentiment", {"tokens": ["a"]}, '{"inputs": "I want my money back"}'),
        ("paraphrase", {"inputs": "alone"}, '{"inputs": ["A man sleeps.", "Someone is asleep."]}'),
        ("paraphrase", {"inputs": [["a", "b"], ["c"]]}, '["It rains.", "It pours."]'),
        ("names", CHOICES, '{"tokens": ["Anna", "works"'),
        ("endings", {"inputs": "a"}, '"choices": ["walked in.", "ate the roof."]'),
    ],
)
def test_the_shape_of_another_kind_of_task(client: TestClient, task: str, body: object, example: str) -> None:
    status, kind, message = refusal(client, task, body)
    assert (status, kind) == (422, "Validation")
    assert example in message


def test_three_strings_are_no_input(client: TestClient) -> None:
    status, _, message = refusal(client, "sentiment", {"inputs": ["a", "b", "c"]})
    assert status == 422
    assert '{"inputs": [["one text"], ["another"]]}' in message


def test_a_token_of_white_space_is_passed_over_in_its_place(client: TestClient) -> None:
    seen = answer(client, "names", {"tokens": ["anna", "works"]})
    white = [{"word": "", "label": "O", "score": 1.0}]
    entries = answer(client, "names", {"tokens": ["anna", "\n", " works ", "\u00a0"]})
    assert entries == [seen[0], *white, seen[1], *white]
    assert answer(client, "names", {"tokens": [["anna", "works"], [" ", "anna", "works"]]}) == [
        seen,
        [*white, *seen],
    ]


@pytest.mark.parametrize(
    ("task", "body"),
    [("sentiment", {"inputs": []}), ("names", {"tokens": []}), ("names", {"tokens": ["\n"]})],
)
def test_nothing_to_predict(client: TestClient, task: str, body: object) -> None:
    assert refusal(client, task, body)[:2] == (400, "Empty")


def test_a_text_over_the_limit_is_refused_unless_it_may_be_cut(client: TestClient) -> None:
    text = "movie " * 100
    status, kind, message = refusal(client, "sentiment", {"inputs": [[TEXT], [text]]})
    assert (status, kind) == (422, "Validation")
    assert message.startswith("input 1")
    assert "102" in message
    assert "32" in message
    answer(client, "sentiment", {"inputs": text, "truncate": True})
    answer(client, "sentiment", {"inputs": text, "parameters": {"truncation": True}})


def test_a_body_over_the_limit(client: TestClient) -> None:
    status, kind, message = refusal(client, "sentiment", {"inputs": "a" * 5000})
    assert (status, kind) == (413, "Validation")
    assert "4096" in message


def test_a_body_over_the_limit_that_announces_no_length(client: TestClient) -> None:
    chunks = (b"x" * 1000 for _ in range(10))
    assert client.post("/predict/sentiment", content=chunks).status_code == 413


def test_the_wrong_method(client: TestClient) -> None:
    reply = client.get("/predict/sentiment")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert reply.json() == {"error": "this path takes POST", "error_type": "Validation"}


def test_one_bad_request_among_good_ones_hurts_nobody(client: TestClient) -> None:
    bodies = [{"inputs": TEXT}, {"inputs": 3}] * 8
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda body: client.post("/predict/sentiment", json=body), bodies))
    assert [reply.status_code for reply in replies] == [200, 422] * 8


def test_tasks_called_at_once_answer_as_alone(client: TestClient) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("sentiment", {"inputs": TEXT}),
        ("paraphrase", {"inputs": ["it is good", "it is great"]}),
        ("names", {"tokens": ["anna", "works"]}),
        ("endings", CHOICES),
    ]

    def label(call: tuple[str, dict[str, Any]]) -> list[tuple[str, float]]:
        return [(entry["label"], round(entry["score"], 4)) for entry in answer(client, *call)]

    alone = [label(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(label, calls * 10)) == alone * 10


def test_health_and_info_of_one_task(client: TestClient) -> None:
    assert client.get("/predict/names/health").json() == {"status": "ok", "task": "names"}
    info = client.get("/predict/names/info").json()
    assert info["task"] == "names"
    assert info["task_version"] == 1
    assert info["model_type"]["classifier"]["label2id"]["B-LOC"] == 3
    assert client.get("/predict/nomes/health").status_code == 404


def test_health_and_info_of_the_server(client: TestClient) -> None:
    assert client.get("/health").json() == client.get("/health/ready").json()
    info = client.get("/info").json()
    assert info["tasks"] == len(SPECS)
    assert info.items() >= {"model_dtype": "float32", "model_device_type": "cpu"}.items()
    of_a_task = client.get("/predict/names/info").json()
    assert {key: of_a_task[key] for key in info.keys() & of_a_task.keys()}.items() <= info.items()


def test_a_deadline_drops_the_request(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    let_go = Event()

    def stuck(batch: TaskBatches) -> list[list[Floats]]:
        let_go.wait(20)
        return zeros(batch)

    with serving(base, tmp_path, compute=stuck, request_timeout_ms=100) as client:
        reply = client.post("/predict/sentiment", json={"inputs": TEXT})
        let_go.set()
        assert reply.status_code == 504
        assert reply.json()["error_type"] == "Timeout"
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200


def test_a_full_queue_says_when_to_come_back(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    started, let_go = Event(), Event()

    def stuck(batch: TaskBatches) -> list[list[Floats]]:
        started.set()
        let_go.wait(20)
        return zeros(batch)

    body = {"inputs": [[TEXT], [TEXT]]}
    with (
        serving(base, tmp_path, compute=stuck, queue_limit=3) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(client.post, "/predict/sentiment", json=body)
        assert started.wait(10)
        second = pool.submit(client.post, "/predict/sentiment", json=body)
        wait_until(lambda: "maskserve_queue_rows 2.0" in client.get("/metrics").text)
        refused = client.post("/predict/sentiment", json=body)
        let_go.set()
        assert refused.status_code == 429
        assert refused.json()["error_type"] == "Overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_nothing_is_read_for_a_queue_that_is_full(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with serving(base, tmp_path, compute=stuck, queue_limit=1) as client, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.post, "/predict/sentiment", json={"inputs": TEXT})]
        assert stuck.started.wait(20)
        calls.append(pool.submit(client.post, "/predict/sentiment", json={"inputs": TEXT}))
        wait_until(lambda: "maskserve_queue_rows 1.0" in client.get("/metrics").text)
        for path in ("/predict/sentiment", "/v2/models/sentiment/infer"):
            refused = client.post(path, content=b"no JSON")
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        stuck.let_go.set()
        assert [call.result().status_code for call in calls] == [200, 200]


def test_a_failed_batch_is_a_clear_error(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])

    def broken(_: TaskBatches) -> list[list[Floats]]:
        raise RuntimeError("CUDA error: secret/path")

    with serving(base, tmp_path, compute=broken) as client:
        reply = client.post("/predict/sentiment", json={"inputs": TEXT})
        assert (reply.status_code, reply.json()["error_type"]) == (424, "Backend")
        assert "secret" not in reply.text


JAVASCRIPT = {"user-agent": "@huggingface/inference/4.13.30 Node.js/20"}


@pytest.mark.parametrize(
    ("path", "headers"), [("/predict", JAVASCRIPT), ("/hf", {}), ("/hf", {"user-agent": "Mozilla/5.0"})]
)
def test_the_javascript_client_of_hugging_face_gets_its_shape_without_parameters(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    def ask(task: str, text: str) -> Any:
        return client.post(f"{path}/{task}", content=json.dumps({"inputs": text}), headers=headers).json()

    (scores,) = ask("sentiment", TEXT)
    assert scores == answer(client, "sentiment", {"inputs": TEXT})
    text = "anna works for acme in paris ."
    entities = ask("names", text)
    assert entities == answer(client, "names", {"inputs": text, "parameters": {}})
    assert all(entity.keys() == {"entity_group", "score", "word", "start", "end"} for entity in entities)


def test_the_route_of_hugging_face_has_health_and_info(client: TestClient) -> None:
    assert client.get("/hf/names/health").json() == {"status": "ok", "task": "names"}
    assert client.get("/hf/names/info").json() == client.get("/predict/names/info").json()


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("sentiment", {"inputs": [["a", "a" * 3000, "a"]]}),
        ("sentiment", {"inputs": TEXT, "parameters": {"x" * 3000: 1}}),
        ("sentiment", {"inputs": TEXT, **{f"key{i}": 1 for i in range(300)}}),
        ("sentiment", {"inputs": TEXT, "parameters": {"ignore_labels": [1] * 1000}}),
        ("x" * 3000, {"inputs": TEXT}),
    ],
)
def test_a_refusal_is_short_and_one_line_whatever_was_sent(
    client: TestClient, task: str, body: object
) -> None:
    reply = client.post(f"/predict/{task}", json=body)
    assert reply.status_code in {404, 422}
    assert len(reply.content) < 1200
    assert reply.json()["error"].isprintable()


@pytest.mark.parametrize(("max_length", "words"), [(5, 3), (10, 8), (512, 30)])
def test_a_text_is_cut_to_the_length_that_hugging_faces_client_wants(
    client: TestClient, base: Base, max_length: int, words: int
) -> None:
    parameters = {"truncation": True, "max_length": max_length}
    reply = client.post("/predict/sentiment", json={"inputs": "movie good " * 40, "parameters": parameters})
    wanted = expected_scores(
        base, bundle_of(base, "sentiment"), TextInput("movie good " * (words // 2) + "movie" * (words % 2))
    )
    assert scores_in(reply.json()[0]) == pytest.approx(wanted, abs=1e-5)
    assert int(reply.headers["x-compute-tokens"]) == words + 2
