from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from masking import Base, Features
from masking.tasks.predictions import Floats
from masking.tasks.sequence_classification import SequenceCodec
from tests.server.http.routes.test_predict_many import NDJSON, lines_in, rounded
from tests.support.server_parts import TaskBatches, failing_at, zeros
from tests.support.serving import SPECS, TEXT, Stuck, fill, serving, wait_until

GROUPS = {"texts": ("topics", "sentiment"), "missing": ("sentiment", "nothing")}
ONE_TEXT = ["sentiment", "topics", "rating"]


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    with serving(base, place, group=GROUPS) as client:
        yield client


def ask(client: TestClient, tasks: object, **body: Any) -> list[dict[str, Any]]:
    reply = client.post("/predict", json={"tasks": tasks, **(body or {"inputs": TEXT})})
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()
    return results


@pytest.mark.parametrize(
    ("tasks", "body"),
    [
        (ONE_TEXT, {"inputs": TEXT}),
        (ONE_TEXT, {"inputs": [["good"], ["bad movie"]], "raw_scores": True}),
        ([*ONE_TEXT, "names"], {"inputs": "Anna works.", "parameters": {"ignore_labels": []}}),
        (["sentiment"], {"inputs": TEXT, "parameters": {"top_k": 1}}),
        (["names"], {"tokens": [["anna", "works"], ["paris"]]}),
        (["endings"], {"context": "she lost", "choices": ["works", "help please"]}),
        (["paraphrase", "relevance"], {"inputs": ["it is good", "it is great"]}),
        (ONE_TEXT, {"inputs": "movie " * 99, "truncate": True}),
    ],
)
def test_each_task_answers_as_alone(client: TestClient, tasks: list[str], body: dict[str, Any]) -> None:
    results = ask(client, tasks, **body)
    assert [result["task"] for result in results] == tasks
    for task, result in zip(tasks, results, strict=True):
        alone = client.post(f"/predict/{task}", json=body)
        assert result.keys() == {"task", "version", "digest", "predictions"}
        assert (str(result["version"]), result["digest"]) == (
            alone.headers["x-task-version"],
            alone.headers["x-mask-digest"],
        )
        assert rounded(result["predictions"]) == rounded(alone.json())


def test_a_task_that_cannot_answer_says_why_and_touches_no_other(client: TestClient) -> None:
    results = ask(client, ["sentiment", "sentimant", "paraphrase", "endings", "topics"])
    assert ["predictions" in result for result in results] == [True, False, False, False, True]
    said = [
        (result["task"], result["error_type"], result["error"]) for result in results if "error" in result
    ]
    assert [(task, kind) for task, kind, _ in said] == [
        ("sentimant", "NotFound"),
        ("paraphrase", "Validation"),
        ("endings", "Validation"),
    ]
    assert "did you mean 'sentiment'?" in said[0][2]


def test_every_task_and_groups(client: TestClient) -> None:
    assert [result["task"] for result in ask(client, "*")] == sorted(SPECS)
    assert [result["task"] for result in ask(client, "group:texts")] == ["topics", "sentiment"]
    good, missing = ask(client, "group:missing")
    assert ("predictions" in good, missing["error_type"]) == (True, "NotFound")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (
            {"tasks": "group:nothing", "inputs": TEXT},
            404,
            "unknown group 'nothing'; known groups: texts, missing",
        ),
        (
            {"tasks": "sentiment", "inputs": TEXT},
            422,
            'names, "*" for every task in service, or "group:NAME"',
        ),
        ({"tasks": [7], "inputs": TEXT}, 422, "tasks: must be a list of tasks' names"),
        ({"tasks": [], "inputs": TEXT}, 400, "asks no task"),
        ({"tasks": ["sentiment", "sentiment"], "inputs": TEXT}, 422, "a task is there twice"),
        (
            {"tasks": [f"task-{number}" for number in range(2049)], "inputs": TEXT},
            422,
            "2049 elements and at most 2048",
        ),
        ({"tasks": ["sentiment"]}, 422, "inputs: Field required"),
        ({"tasks": ["sentiment"], "inputs": 7}, 422, "a text"),
        ({"tasks": ["sentiment"], "inputs": TEXT, "trunkate": True}, 422, "there is no 'trunkate'"),
        ({"tasks": ["sentiment"], "inputs": [["a"]] * 3000}, 422, "3000 elements and at most 2048"),
        ({"tasks": ONE_TEXT, "inputs": [["a"]] * 700}, 422, "2100 rows and at most 2048"),
    ],
)
def test_a_body_that_is_right_for_no_task_is_refused(
    client: TestClient, body: dict[str, Any], status: int, said: str
) -> None:
    reply = client.post("/predict", json=body)
    assert (reply.status_code, said in reply.json()["error"]) == (status, True), reply.text
    streamed = client.post("/predict", json=body, headers={"accept": NDJSON})
    assert (streamed.status_code, streamed.json()) == (reply.status_code, reply.json())


def test_results_come_line_by_line(client: TestClient) -> None:
    body = {"inputs": TEXT, "tasks": ["sentiment", "nothing", "topics"]}
    reply = client.post("/predict", json=body, headers={"accept": NDJSON})
    assert reply.headers["content-type"].startswith(NDJSON)
    lines = lines_in(reply.text)
    assert [line.pop("index") for line in lines] == [0, 1, 2]
    assert rounded(lines) == rounded(ask(client, body["tasks"]))


def test_a_text_is_tokenised_once_and_computed_in_one_batch(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base)
    encoded: list[str] = []
    real = SequenceCodec.encode_steps

    def counting(codec: SequenceCodec, inputs: Any, **options: Any) -> Any:
        encoded.append(codec.spec.kind)
        return real(codec, inputs, **options)

    monkeypatch.setattr(SequenceCodec, "encode_steps", counting)
    batches: list[list[Features]] = []

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        batches.append([item for one in batch for item in one.features])
        return zeros(batch)

    with serving(base, tmp_path, compute=compute) as client:
        encoded.clear()
        batches.clear()
        results = ask(client, ["sentiment", "topics"])
    assert all("predictions" in result for result in results)
    assert encoded == ["sequence-classification"]
    (items,) = batches
    assert len(items) == 2
    assert len({id(item) for item in items}) == 1


def test_all_tasks_are_refused_while_there_is_no_room_for_all(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base)
    stuck = Stuck()
    with serving(base, tmp_path, compute=stuck, queue_limit=4) as client, ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, "/predict/sentiment", json={"inputs": TEXT})
        assert stuck.started.wait(20)
        waiting = pool.submit(client.post, "/predict/sentiment", json={"inputs": [[TEXT], [TEXT]]})
        service = client.app.state.service  # type: ignore[attr-defined]
        wait_until(lambda: service.engine.queue.waiting == 2)
        refused = client.post("/predict", json={"inputs": TEXT, "tasks": ONE_TEXT})
        assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
        assert refused.headers["retry-after"]
        assert service.engine.queue.waiting == 2
        stuck.let_go.set()
        assert {running.result().status_code, waiting.result().status_code} == {200}
        assert len(ask(client, ONE_TEXT)) == 3


def test_a_task_whose_computation_fails_touches_no_other(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base)
    with serving(base, tmp_path, compute=failing_at("topics")) as client:
        results = ask(client, ONE_TEXT)
        statistics = client.get("/v2/models/stats").json()["model_stats"]
    assert ["predictions" in result for result in results] == [True, False, True]
    assert (results[1]["error_type"], "secret" in results[1]["error"]) == ("Backend", False)
    counts = {one["name"]: one["inference_stats"] for one in statistics}
    assert [counts[task]["success"]["count"] for task in ONE_TEXT] == [1, 0, 1]
    assert [counts[task]["fail"]["count"] for task in ONE_TEXT] == [0, 1, 0]


def test_tasks_that_take_too_long_say_so(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "topics"])
    stuck = Stuck()
    with serving(base, tmp_path, compute=stuck, request_timeout_ms=100) as client:
        results = ask(client, ["sentiment", "topics"])
        stuck.let_go.set()
    assert [result["error_type"] for result in results] == ["Timeout", "Timeout"]
