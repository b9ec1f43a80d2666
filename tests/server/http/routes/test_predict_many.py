import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from masking import Base, Features, LoadedTask
from masking.tasks.predictions import Floats
from server.http.routes import predict_many
from server.http.routes.predict_many import Row
from server.service import Service
from server.tenants.caller import EVERYONE, Caller
from tests.support.server_parts import by_task, failing_at
from tests.support.serving import SPECS, TEXT, Stuck, fill, serving, wait_until

NDJSON = "application/x-ndjson"
ROWS: list[dict[str, Any]] = [
    {"task": "sentiment", "inputs": TEXT},
    {"task": "paraphrase", "inputs": ["it is good", "it is great"]},
    {"task": "names", "tokens": ["anna", "works"]},
    {"task": "endings", "context": "she lost the card and", "choices": ["works", "help please"]},
    {"task": "sentiment", "inputs": TEXT, "raw_scores": True},
    {"task": "names", "inputs": "Anna works.", "parameters": {"ignore_labels": []}},
    {"task": "sentiment", "inputs": [["no"], ["yes"]]},
]


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    with serving(base, place, max_body_bytes=8192) as client:
        yield client


def ask(client: TestClient, rows: Sequence[object]) -> list[dict[str, Any]]:
    reply = client.post("/predict", json={"inputs": rows})
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()
    assert len(results) == len(rows)
    return results


def lines_in(text: str) -> list[dict[str, Any]]:
    """The results of an NDJSON reply, in the order of the rows."""
    results: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert sorted(result["index"] for result in results) == list(range(len(results)))
    return sorted(results, key=lambda result: int(result["index"]))


def as_lines(rows: Sequence[object]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def alone(client: TestClient, row: dict[str, Any]) -> Any:
    body = {key: value for key, value in row.items() if key != "task"}
    return client.post(f"/predict/{row['task']}", json=body).json()


def rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda number: round(float(number), 4))


def test_each_row_is_answered_as_alone(client: TestClient) -> None:
    for row, result in zip(ROWS, ask(client, ROWS), strict=True):
        assert result.keys() == {"task", "version", "digest", "predictions"}
        assert (result["task"], result["version"]) == (row["task"], 1)
        assert result["digest"] == client.get(f"/tasks/{row['task']}").json()["digest"]
        assert rounded(result["predictions"]) == rounded(alone(client, row))


@pytest.mark.parametrize(
    ("row", "task", "kind", "said"),
    [
        ({"task": "sentimant", "inputs": TEXT}, "sentimant", "NotFound", "did you mean 'sentiment'?"),
        ({"task": "sentiment", "inputs": 3}, "sentiment", "Validation", "what this task takes"),
        ({"task": "sentiment", "inputs": ["a", "b"]}, "sentiment", "Validation", "one text per input"),
        ({"task": "sentiment", "inputs": " "}, "sentiment", "Empty", "the text is empty"),
        ({"task": "sentiment", "inputs": "movie " * 99}, "sentiment", "Validation", "101"),
        ({"task": ["a"], "inputs": TEXT}, None, "Validation", "no `task`"),
        ({"inputs": TEXT}, None, "Validation", "no `task`"),
        (7, None, "Validation", "a row is an object"),
    ],
)
def test_a_bad_row_says_why_and_touches_no_other(
    client: TestClient, row: object, task: str | None, kind: str, said: str
) -> None:
    good, bad, other = ask(client, [ROWS[0], row, ROWS[1]])
    assert bad.keys() == {"task", "error", "error_type"}
    assert (bad["task"], bad["error_type"]) == (task, kind)
    assert said in bad["error"]
    assert "predictions" in good
    assert "predictions" in other


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 422, "Validation"),
        ({"inputs": 3}, 422, "Validation"),
        ({"inputs": ROWS[:1], "parameters": {}}, 422, "Validation"),
        ([], 422, "Validation"),
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": [{"task": "sentiment", "inputs": "a" * 9000}]}, 413, "Validation"),
    ],
)
def test_a_body_that_is_wrong_is_refused_whole(
    client: TestClient, body: object, status: int, kind: str
) -> None:
    reply = client.post("/predict", json=body)
    assert (reply.status_code, reply.json()["error_type"]) == (status, kind)
    assert client.post("/predict", content=b"{").status_code == 400


def test_results_come_as_lines_with_the_index_of_their_row(client: TestClient) -> None:
    rows = [*ROWS, {"task": "nothing"}]
    reply = client.post("/predict", json={"inputs": rows}, headers={"accept": NDJSON})
    assert reply.headers["content-type"].startswith(NDJSON)
    found = [{k: v for k, v in line.items() if k != "index"} for line in lines_in(reply.text)]
    assert rounded(found) == rounded(ask(client, rows))


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_rows_may_come_as_lines_in_pieces_of_any_size(client: TestClient, size: int) -> None:
    content = f"{as_lines(ROWS)}\n \r\n{{\n{json.dumps(ROWS[0])}".encode()
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    headers = {"content-type": f"{NDJSON}; charset=utf-8"}
    results = client.post("/predict", content=iter(pieces), headers=headers).json()
    assert rounded([*results[:-2], results[-1]]) == rounded(ask(client, [*ROWS, ROWS[0]]))
    assert results[-2]["task"] is None
    assert results[-2]["error"].startswith("the row is not JSON")


def test_lines_over_the_limit_or_none_at_all(client: TestClient) -> None:
    headers = {"content-type": NDJSON}
    pieces = (as_lines(ROWS).encode() for _ in range(50))
    assert client.post("/predict", content=pieces, headers=headers).status_code == 413
    reply = client.post("/predict", content=b" \n\n", headers=headers)
    assert (reply.status_code, reply.json()["error_type"]) == (400, "Empty")


def test_more_rows_than_any_body_may_have(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_many, "MOST_ROWS", 5)
    reply = client.post("/predict", json={"inputs": [ROWS[0]] * 6})
    assert reply.status_code == 422
    assert "more than 5 rows" in reply.json()["error"]
    assert len(ask(client, [ROWS[0]] * 5)) == 5


def test_rows_share_batches(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    batches: list[int] = []

    def counting(_: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        batches.append(len(features))
        return [np.zeros(3, np.float32) for _ in features]

    with serving(base, tmp_path, compute=by_task(counting), max_wait_ms=200, max_batch_rows=8) as client:
        ask(client, [ROWS[0]] * 8)
    assert max(batches) > 1


@pytest.mark.parametrize(("accept", "count"), [("application/json", 1000), (NDJSON, 2000)])
def test_a_body_has_many_more_rows_than_may_wait(base: Base, tmp_path: Path, accept: str, count: int) -> None:
    fill(tmp_path, base, ["sentiment", "endings"])

    def quick(task: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        labels = len(task.spec.labels) or 2
        return [np.arange(labels, dtype=np.float32) for _ in features]

    rows = [ROWS[0], ROWS[3]] * (count // 2)
    with serving(base, tmp_path, compute=by_task(quick), queue_limit=50) as client:
        reply = client.post("/predict", json={"inputs": rows}, headers={"accept": accept})
    results = lines_in(reply.text) if accept == NDJSON else reply.json()
    assert [result["task"] for result in results] == ["sentiment", "endings"] * (count // 2)
    assert [result["predictions"][0]["label"] for result in results] == ["mixed", "1"] * (count // 2)


def test_a_queue_that_others_filled_is_waited_for(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["names"])

    def quick(_: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        return [np.zeros((len(item.positions), 4), np.float32) for item in features]

    long = {"task": "names", "tokens": ["movie"] * 150}  # six windows, which nobody can foresee
    with serving(base, tmp_path, compute=by_task(quick), queue_limit=8) as client:
        assert all("predictions" in result for result in ask(client, [long] * 20))
        (statistics,) = client.get("/v2/models/names/stats").json()["model_stats"]
    counts = {name: spent["count"] for name, spent in statistics["inference_stats"].items()}
    assert (counts["success"], counts["fail"]) == (20, 0)


def test_the_time_of_a_row_runs_from_its_admission(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])

    def slow(_: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        time.sleep(0.02)
        return [np.zeros(3, np.float32) for _ in features]

    options = {"max_batch_rows": 1, "queue_limit": 4, "request_timeout_ms": 1000}
    with serving(base, tmp_path, compute=by_task(slow), **options) as client:
        assert all("predictions" in result for result in ask(client, [ROWS[0]] * 100))


def test_rows_of_many_bodies_take_turns_and_leave_room_for_others(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    one_by_one = {"queue_limit": 8, "max_batch_rows": 1}  # so one row is computed, and the others wait
    with serving(base, tmp_path, compute=stuck, **one_by_one) as client, ThreadPoolExecutor(4) as pool:
        bodies = [pool.submit(ask, client, [ROWS[0]] * 50) for _ in range(3)]
        assert stuck.started.wait(20)
        row = {"inputs": TEXT}
        single = pool.submit(client.post, "/predict/sentiment", json=row)
        try:
            wait_until(lambda: "maskserve_queue_rows 4.0" in client.get("/metrics").text)
        finally:
            stuck.let_go.set()
        assert single.result().status_code == 200
        assert all("predictions" in result for body in bodies for result in body.result())


def test_no_more_is_read_once_the_client_has_left(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = predict_many.read_rows

    def counting(
        items: Sequence[object], service: Service, caller: Caller, *, start: int, key: str | None
    ) -> list[Row]:
        read.append(start)
        return real(items, service, caller, start=start, key=key)

    monkeypatch.setattr(predict_many, "read_rows", counting)
    monkeypatch.setattr(predict_many, "_ROWS_AT_ONCE", 2)
    results = ask(client, [{"task": f"unknown-{number}"} for number in range(7)])
    assert read == [0, 2, 4, 6]
    assert [result["task"] for result in results] == [f"unknown-{number}" for number in range(7)]

    async def leave() -> None:
        body = {"inputs": [{"task": "unknown"}] * 50}
        reading = asyncio.create_task(
            predict_many._read_json(body, 1 << 20, client.app.state.service, EVERYONE, None)  # type: ignore[attr-defined]
        )
        while len(read) < 6:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(leave())
    assert len(read) < 20


def test_rows_that_take_too_long_say_so(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    let_go = Event()

    def stuck(_: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        let_go.wait(20)
        return [np.zeros(3, np.float32) for _ in features]

    with serving(base, tmp_path, compute=by_task(stuck), request_timeout_ms=100) as client:
        results = ask(client, ROWS[:1] * 3)
        let_go.set()
        assert {result["error_type"] for result in results} == {"Timeout"}


def test_a_failed_batch_fails_its_rows_only(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "paraphrase"])
    with serving(base, tmp_path, compute=failing_at("sentiment")) as client:
        failed, good = ask(client, ROWS[:2])
        assert (failed["error_type"], "secret" in failed["error"]) == ("Backend", False)
        assert "predictions" in good


def test_an_unexpected_error_in_a_row_tells_the_client_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret/path")

    monkeypatch.setattr(predict_many, "render", fail)
    (result,) = ask(client, ROWS[:1])
    assert result["error_type"] == "Backend"
    assert "secret" not in result["error"]
    assert "secret/path" in caplog.text


def test_every_openapi_example_works_when_pasted(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    content = operation["requestBody"]["content"]
    named = dict(zip(("routing", "same-request", "entities", "best-reply"), SPECS, strict=False))
    examples = content["application/json"]["examples"]
    rows = examples["rows"]["value"]["inputs"]
    results = ask(client, [{**row, "task": named[row["task"]]} for row in rows])
    assert all("predictions" in result for result in results)
    tasks = {"routing": "sentiment"}
    body = examples["tasks"]["value"]
    body = {**body, "tasks": [tasks.get(task, task) for task in body["tasks"]]}
    assert ["predictions" in one for one in client.post("/predict", json=body).json()] == [True, False]
