"""Embeddings, in the shapes of text-embeddings-inference and OpenAI."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore
from masking import Base, MaskedEncoder, TaskBatch, TaskSpec, TextInput, load_task
from masking.tasks.predictions import Floats, normalise
from tests.support.models import random_bundle
from tests.support.serving import bundle_of, serving

TEXTS = ["the movie was good", "bad acting", "good"]


@pytest.fixture(scope="module")
def raw(base: Base) -> Floats:
    task = load_task(bundle_of(base, "semantic"), base)
    features = task.codec.encode([TextInput(text) for text in TEXTS], truncate=True)
    return np.stack(MaskedEncoder(base).logits([TaskBatch(task, features)])[0])


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("masks")
    store = MaskStore.open(place, create=True)
    for task in ("semantic", "sentiment"):
        store.publish(bundle_of(base, task))
    with serving(base, place, queue_limit=64) as client:
        yield client


def _post(client: TestClient, path: str, **body: Any) -> Any:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def close(wanted: Floats) -> Any:
    return pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("path", ["/embed", "/predict/semantic/embed", "/predict/semantic", "/hf/semantic"])
def test_embeddings_have_length_one_unless_they_are_wanted_raw(
    client: TestClient, raw: Floats, path: str
) -> None:
    assert np.array(_post(client, path, inputs=TEXTS)) == close(normalise(raw))
    assert np.array(_post(client, path, inputs=TEXTS[0])) == close(normalise(raw[:1]))
    assert np.array(_post(client, path, inputs=TEXTS, normalize=False)) == close(raw)
    nested = _post(client, path, inputs=TEXTS, parameters={"normalize": False, "truncate": True})
    assert np.array(nested) == close(raw)


@pytest.mark.parametrize("path", ["/similarity", "/predict/semantic/similarity", "/predict/semantic"])
def test_a_text_is_compared_with_others(client: TestClient, raw: Floats, path: str) -> None:
    asked = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    unit = normalise(raw)
    assert np.array(_post(client, path, inputs=asked)) == close(unit[1:] @ unit[0])


def test_openai(client: TestClient, raw: Floats) -> None:
    reply = _post(client, "/v1/embeddings", model="semantic", input=TEXTS, dimensions=32, user="me")
    assert (reply["object"], reply["model"]) == ("list", "semantic")
    assert [one["index"] for one in reply["data"]] == [0, 1, 2]
    assert {one["object"] for one in reply["data"]} == {"embedding"}
    assert np.array([one["embedding"] for one in reply["data"]]) == close(normalise(raw))
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] > 6
    coded = _post(client, "/v1/embeddings", model="semantic", input=TEXTS[1], encoding_format="base64")
    found = np.frombuffer(b64decode(coded["data"][0]["embedding"]), "<f4")
    assert found == close(normalise(raw)[1])


def test_long_texts_are_cut_unless_a_refusal_is_wanted(client: TestClient) -> None:
    long = "good " * 100
    assert len(_post(client, "/embed", inputs=[long])) == 1
    assert len(_post(client, "/v1/embeddings", model="semantic", input=long)["data"]) == 1
    refused = client.post("/embed", json={"inputs": long, "truncate": False})
    assert refused.status_code == 422
    assert "takes at most 32" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {}, 422, "inputs"),
        ("/embed", {"inputs": []}, 400, ""),
        ("/embed", {"inputs": ["a", " "]}, 400, "input 1"),
        ("/embed", {"inputs": [[1, 2]]}, 422, "a text or a list of texts"),
        ("/embed", {"inputs": "a", "model": "sentiment"}, 422, "can't embed"),
        ("/embed", {"inputs": "a", "model": "semantik"}, 404, "did you mean 'semantic'"),
        ("/embed", {"inputs": "a", "normalise": True}, 422, "there is no 'normalise'"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, 422, "prompt_name"),
        ("/embed", {"inputs": "a", "truncation_direction": "left"}, 422, "truncation_direction"),
        ("/embed", {"inputs": "a", "dimensions": 16}, 422, "embeddings of this task have 32"),
        ("/embed", {"inputs": "a", "parameters": {"dimensions": 16}}, 422, "have 32"),
        ("/embed", {"inputs": ["a"] * 65}, 422, "inputs: has 65 elements and at most 64 are read"),
        ("/embed", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, 422, "a text or a list"),
        ("/similarity", {"inputs": "a"}, 422, "{source_sentence, sentences}"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, ""),
        (
            "/predict/semantic",
            {"inputs": {"source_sentence": "a"}},
            422,
            "an example of what this task takes",
        ),
        ("/predict/semantic", {"tokens": ["a"]}, 422, "there is no 'tokens'"),
        ("/predict/sentiment/embed", {"inputs": "a"}, 422, "tasks of the kind embedding can: semantic"),
        ("/v1/embeddings", {"model": "nothing", "input": "a"}, 404, "nothing"),
        ("/v1/embeddings", {"input": "a"}, 422, "model"),
        ("/v1/embeddings", {"model": "semantic", "input": [1, 2]}, 422, "ids of tokens are not supported"),
        ("/v1/embeddings", {"model": "semantic", "input": "a", "dimensions": 8}, 422, "have 32"),
        ("/v1/embeddings", {"model": "semantic", "input": "a", "encoding_format": "hex"}, 422, "encoding"),
    ],
)
def test_bodies_that_are_not_right_are_refused(
    client: TestClient, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    reply = client.post(path, json=body)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["error"]
    assert reply.json()["error_type"]


def test_rows_of_other_tasks_stand_beside_embeddings(client: TestClient, raw: Floats) -> None:
    rows = [
        {"task": "semantic", "inputs": TEXTS[:2]},
        {"task": "sentiment", "inputs": TEXTS[0]},
        {"task": "semantic", "inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[:1]}},
    ]
    embedded, classified, compared = _post(client, "/predict", inputs=rows)
    assert np.array(embedded["predictions"]) == close(normalise(raw)[:2])
    assert len(classified["predictions"]) == 3
    assert compared["predictions"] == pytest.approx([1.0], abs=1e-5)


def test_a_task_tells_what_it_is(client: TestClient) -> None:
    info = client.get("/predict/semantic/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["model_pipeline_tag"] == "feature-extraction"
    about = client.get("/tasks/semantic").json()
    assert (about["kind"], about["pooling"], about["labels"]) == ("embedding", "mean", [])
    assert np.array(_post(client, "/predict/semantic", **about["example"])).shape == (1, 32)


def test_tensors(client: TestClient, raw: Floats) -> None:
    model = client.get("/v2/models/semantic").json()
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 32]}]
    text = {"name": "text", "datatype": "BYTES", "shape": [3], "data": TEXTS}
    for parameters, wanted in (({}, normalise(raw)), ({"raw_scores": True}, raw)):
        (output,) = _post(client, "/v2/models/semantic/infer", inputs=[text], parameters=parameters)[
            "outputs"
        ]
        assert output["shape"] == [3, 32]
        assert np.array(output["data"]).reshape(3, 32) == close(wanted)


def test_with_several_such_tasks_one_has_to_be_named(base: Base, tmp_path: Path) -> None:
    store = MaskStore.open(tmp_path, create=True)
    store.publish(bundle_of(base, "sentiment"))
    with serving(base, tmp_path) as client:
        assert client.post("/embed", json={"inputs": "a"}).status_code == 404
    store.publish(bundle_of(base, "semantic"))
    spec = TaskSpec("embedding", (), max_length=16, pooling="cls")
    store.publish(random_bundle(base, spec, task="other"))
    with serving(base, tmp_path) as client:
        reply = client.post("/embed", json={"inputs": "a"})
        assert (reply.status_code, reply.json()["error"][-15:]) == (422, "other, semantic")
        assert len(_post(client, "/embed", inputs="a", model="other")) == 1
