"""Ranking of documents, in the shapes of text-embeddings-inference, Cohere and Jina."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskBundle, MaskStore
from masking import Base, MaskedEncoder, TaskBatch, TaskSpec, TextInput, load_task
from tests.support.models import random_bundle
from tests.support.serving import bundle_of, serving

SPEC = TaskSpec("reranking", ("relevance",), max_length=24, pair=True)
QUERY, TEXTS = "the movie", ["it was good", "bad acting", "the plot of the film is great", "good"]


@pytest.fixture(scope="module")
def bundle(base: Base) -> MaskBundle:
    return random_bundle(base, SPEC, task="relevance", seed=3)


@pytest.fixture(scope="module")
def scores(base: Base, bundle: MaskBundle) -> list[float]:
    task = load_task(bundle, base)
    features = task.codec.encode([TextInput(QUERY, text) for text in TEXTS], truncate=True)
    (logits,) = MaskedEncoder(base).logits([TaskBatch(task, features)])
    return [float(task.codec.decode(one).scores[0]) for one in logits]


@pytest.fixture(scope="module")
def client(base: Base, bundle: MaskBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("masks")
    store = MaskStore.open(place, create=True)
    store.publish(bundle)
    store.publish(bundle_of(base, "paraphrase"))
    with serving(base, place) as client:
        yield client


def _post(client: TestClient, path: str, **body: Any) -> Any:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("path", ["/rerank", "/predict/relevance/rerank"])
def test_documents_come_best_first_with_the_scores_of_the_task(
    client: TestClient, scores: list[float], path: str
) -> None:
    ranks = _post(client, path, query=QUERY, texts=TEXTS)
    order = sorted(range(4), key=lambda index: -scores[index])
    assert [rank["index"] for rank in ranks] == order
    assert [rank["score"] for rank in ranks] == pytest.approx([scores[index] for index in order], rel=1e-5)
    assert set(ranks[0]) == {"index", "score"}


def test_documents_of_a_query_share_a_batch(client: TestClient) -> None:
    reply = client.post("/rerank", json={"query": QUERY, "texts": TEXTS})
    assert reply.headers["x-task"] == "relevance"
    alone = client.post("/rerank", json={"query": QUERY, "texts": TEXTS[:1]})
    assert int(reply.headers["x-compute-tokens"]) > 3 * int(alone.headers["x-compute-tokens"]) / 2
    metrics = client.get("/metrics").text
    assert 'maskserve_batch_rows_bucket{le="4.0"}' in metrics


def test_raw_scores_and_texts_as_tei(client: TestClient, scores: list[float]) -> None:
    ranks = _post(client, "/rerank", query=QUERY, texts=TEXTS, raw_scores=True, return_text=True)
    best = ranks[0]
    assert best["text"] == TEXTS[best["index"]]
    assert 1 / (1 + 2.718281828 ** -best["score"]) == pytest.approx(max(scores), rel=1e-4)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_cohere_and_jina(client: TestClient, scores: list[float], path: str) -> None:
    documents = [*TEXTS[:2], {"text": TEXTS[2]}, TEXTS[3]]
    reply = _post(client, path, model="relevance", query=QUERY, documents=documents, top_n=2)
    order = sorted(range(4), key=lambda index: -scores[index])[:2]
    assert [one["index"] for one in reply["results"]] == order
    assert [one["relevance_score"] for one in reply["results"]] == pytest.approx(
        [scores[index] for index in order], rel=1e-5
    )
    assert set(reply["results"][0]) == {"index", "relevance_score"}
    assert reply["model"] == "relevance"
    assert reply["usage"]["total_tokens"] > 0


def test_documents_come_back_where_they_are_wanted(client: TestClient) -> None:
    fields = [{"title": "good", "body": "it was", "year": 3}, {"title": "bad"}]
    body = {"query": QUERY, "documents": fields, "rank_fields": ["title", "body"], "return_documents": True}
    results = _post(client, "/v1/rerank", model="relevance", **body)["results"]
    assert {one["index"]: one["document"]["text"] for one in results} == {0: "good\nit was", 1: "bad"}


def test_long_documents_are_cut_unless_a_refusal_is_wanted(client: TestClient) -> None:
    long = "good " * 100
    assert len(_post(client, "/rerank", query=QUERY, texts=[long])) == 1
    assert _post(client, "/v1/rerank", model="relevance", query=QUERY, documents=[long])["results"]
    refused = client.post("/rerank", json={"query": QUERY, "texts": [long], "truncate": False})
    assert refused.status_code == 422
    assert "takes at most 24" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/rerank", {"texts": TEXTS}, 422, "query"),
        ("/rerank", {"query": QUERY, "texts": []}, 400, ""),
        ("/rerank", {"query": QUERY, "texts": ["a", " "]}, 400, "input 1"),
        ("/rerank", {"query": QUERY, "texts": ["a"], "model": "paraphrase"}, 422, "can't rank"),
        ("/rerank", {"query": QUERY, "texts": ["a"], "modle": "x"}, 422, "there is no 'modle'"),
        ("/predict/paraphrase/rerank", {"query": QUERY, "texts": ["a"]}, 422, "relevance"),
        ("/predict/relevanze/rerank", {"query": QUERY, "texts": ["a"]}, 404, "did you mean 'relevance'"),
        ("/v1/rerank", {"model": "nothing", "query": QUERY, "documents": ["a"]}, 404, "nothing"),
        ("/v2/rerank", {"model": "nothing", "query": QUERY, "documents": ["a"]}, 404, "nothing"),
        ("/v1/rerank", {"query": QUERY, "documents": ["a"]}, 422, "model"),
        ("/v1/rerank", {"model": "relevance", "query": QUERY, "documents": [{"a": 1}]}, 422, "under text"),
        ("/v1/rerank", {"model": "relevance", "query": QUERY, "documents": ["a"], "top_n": 0}, 422, "top_n"),
    ],
)
def test_bodies_that_are_not_right_are_refused(
    client: TestClient, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    reply = client.post(path, json=body)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["error"]
    assert reply.json()["error_type"]


def test_a_pair_can_be_asked_alone(client: TestClient, scores: list[float]) -> None:
    (entry,) = _post(client, "/predict/relevance", inputs=[QUERY, TEXTS[0]])
    assert entry == {"label": "relevance", "score": pytest.approx(scores[0], rel=1e-5)}
    info = client.get("/predict/relevance/info").json()
    assert info["model_type"] == {"reranker": {"id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}}
    assert info["model_pipeline_tag"] == "text-ranking"


def test_with_several_such_tasks_one_has_to_be_named(base: Base, bundle: MaskBundle, tmp_path: Path) -> None:
    store = MaskStore.open(tmp_path, create=True)
    body = {"query": QUERY, "texts": TEXTS}
    store.publish(bundle_of(base, "paraphrase"))
    with serving(base, tmp_path) as client:
        assert client.post("/rerank", json=body).status_code == 404
    store.publish(bundle)
    store.publish(random_bundle(base, SPEC, task="other"))
    with serving(base, tmp_path) as client:
        reply = client.post("/rerank", json=body)
        assert (reply.status_code, reply.json()["error"][-16:]) == (422, "other, relevance")
        assert len(_post(client, "/rerank", model="other", **body)) == 4
