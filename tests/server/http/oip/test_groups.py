from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from masking import Base, Features, LoadedTask
from masking.tasks.predictions import Floats
from server.engine import retry
from server.errors import BackendFailedError
from tests.server.http.oip.test_routes import outputs_in, texts
from tests.support.server_parts import by_task, failing_at
from tests.support.serving import SPECS, TEXT, fill, serving

GROUPS = {
    "texts": ("topics", "sentiment", "rating"),
    "pairs": ("paraphrase", "relevance"),
    "mixed": ("sentiment", "paraphrase"),
    "missing": ("sentiment", "nothing"),
}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    with serving(base, place, group=GROUPS) as client:
        yield client


def ask(client: TestClient, model: str, *inputs: Json, **others: Any) -> Json:
    reply = client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **others})
    assert reply.status_code == 200, reply.text
    found: Json = reply.json()
    return found


def test_a_group_has_the_outputs_of_each_of_its_tasks(client: TestClient) -> None:
    given = texts("text", [TEXT, "bad movie"])
    reply = ask(client, "group:texts", given, id="7")
    assert {key: reply[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "group:texts",
        "model_version": "1",
        "id": "7",
    }
    found = outputs_in(reply)
    for task in GROUPS["texts"]:
        for name, alone in outputs_in(ask(client, task, given)).items():
            together = found.pop(f"{task}.{name}")
            assert together["shape"] == alone["shape"]
            if alone["datatype"] == "FP32":
                np.testing.assert_allclose(together["data"], alone["data"], atol=1e-4)
            else:
                assert together["data"] == alone["data"]
    assert not found


def test_metadata_and_index_name_groups(client: TestClient) -> None:
    metadata = client.get("/v2/models/group:pairs").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["text", "text_pair"]
    assert [tensor["name"] for tensor in metadata["outputs"]] == [
        "paraphrase.label",
        "paraphrase.scores",
        "relevance.scores",
    ]
    assert client.get("/v2/models/group%3Atexts/ready").json() == {"name": "group:texts", "ready": True}
    models = {model["name"]: model for model in client.post("/v2/repository/index").json()}
    assert set(models) == set(SPECS) | {f"group:{name}" for name in GROUPS}
    assert (models["group:texts"]["state"], models["group:missing"]["state"]) == ("READY", "UNAVAILABLE")
    assert models["group:missing"]["reason"] == "not in service: nothing"
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert "group:missing" not in {model["name"] for model in ready}


def test_only_tasks_whose_outputs_are_wanted_are_computed(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base)
    computed: list[str] = []

    def compute(task: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        computed.append(task.manifest.task)
        return [np.zeros(len(task.spec.labels), np.float32) for _ in features]

    with serving(base, tmp_path, compute=by_task(compute), group=GROUPS) as client:
        computed.clear()
        wanted = [{"name": "rating.scores"}, {"name": "sentiment.label"}]
        reply = ask(client, "group:texts", texts("text", [TEXT]), outputs=wanted)
    assert [output["name"] for output in reply["outputs"]] == ["rating.scores", "sentiment.label"]
    assert sorted(computed) == ["rating", "sentiment"]


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("group:nothing", {"inputs": [texts("text", [TEXT])]}, 404, "unknown group 'nothing'"),
        ("group:missing", {"inputs": [texts("text", [TEXT])]}, 404, "unknown task 'nothing'"),
        ("group:mixed", {"inputs": [texts("text", [TEXT])]}, 409, "'paraphrase' takes text, text_pair"),
        ("group:texts", {"inputs": [texts("words", [TEXT])]}, 400, "takes the inputs 'text', not 'words'"),
        ("group:texts", {"inputs": [texts("text", [" "])]}, 400, "task 'topics': input 0: the text is empty"),
        (
            "group:texts",
            {"inputs": [texts("text", [TEXT])], "outputs": [{"name": "label"}]},
            400,
            "there is no output 'label'; there are 'topics.label'",
        ),
        ("group:texts", {"inputs": [texts("text", [TEXT] * 700)]}, 400, "2100 rows"),
    ],
)
def test_what_a_group_can_not_answer(
    client: TestClient, model: str, body: Json, status: int, said: str
) -> None:
    reply = client.post(f"/v2/models/{model}/infer", json=body)
    assert (reply.status_code, reply.json().keys()) == (status, {"error"})
    assert said in reply.json()["error"]


def test_a_task_that_fails_fails_the_request_with_its_name(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base)
    with serving(base, tmp_path, compute=failing_at("rating"), group=GROUPS) as client:
        reply = client.post("/v2/models/group:texts/infer", json={"inputs": [texts("text", [TEXT])]})
    assert reply.status_code == 424
    assert reply.json()["error"].startswith("task 'rating': ")
    assert "secret" not in reply.text


def test_requests_that_fail_of_one_error_tell_it_alike(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base)
    shared = BackendFailedError()  # as the requests of a batch have it
    monkeypatch.setattr(retry, "BackendFailedError", lambda: shared)
    body = {"inputs": [texts("text", [TEXT])]}
    with serving(base, tmp_path, compute=failing_at("rating"), group=GROUPS) as client:
        told = [client.post("/v2/models/group:texts/infer", json=body).json()["error"] for _ in range(2)]
    assert told[0] == told[1]
    assert told[0].count("task 'rating'") == 1
