"""Clients that people already have, unmodified and with their defaults, against a server process."""

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from kserve import InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from openai import NotFoundError, OpenAI
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from masking import Base, ChoiceInput, MaskedEncoder, TaskBatch, TextInput, load_task
from masking.tasks.predictions import normalise
from tests.support.serving import (
    SPECS,
    TEXT,
    RunningServer,
    Scores,
    bundle_of,
    expected_scores,
    running,
    wait_until,
)

ADMIN_KEY = "rumpelstilz"
QUESTION = ChoiceInput("she lost the card and", ("works", "help please", "paris"))


@pytest.fixture(scope="module")
def server(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    options = ("--queue-limit", "5000", "--admin-key", ADMIN_KEY, "--group", "texts=sentiment,topics")
    with running(tiny_bert, base, folder, list(SPECS), *options) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def tensor(name: str, values: Any, *, binary: bool = True) -> triton.InferInput:
    array = np.array(values, dtype=np.object_)
    found = triton.InferInput(name, array.shape, "BYTES")
    return found.set_data_from_numpy(array, binary_data=binary)


def expected_embeddings(base: Base, *texts: str) -> Any:
    task = load_task(bundle_of(base, "semantic"), base)
    features = task.codec.encode([TextInput(text) for text in texts], truncate=False)
    return normalise(np.stack(MaskedEncoder(base).logits([TaskBatch(task, features)])[0]))


def close_to(scores: Scores) -> Any:
    return pytest.approx(list(scores.values()), rel=1e-4, abs=1e-5)


def test_hugging_face_client_classifies_texts(server: RunningServer, base: Base) -> None:
    client = InferenceClient(model=f"{server.url}/predict/sentiment")
    every = client.text_classification(TEXT)
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert {entry.label: entry.score for entry in every} == pytest.approx(wanted, abs=1e-6)
    assert [entry.label for entry in every] == sorted(wanted, key=lambda label: -wanted[label])
    assert client.text_classification(TEXT, top_k=1) == every[:1]
    raw = client.text_classification(TEXT, function_to_apply="none")
    assert [entry.label for entry in raw] == [entry.label for entry in every]
    assert sum(entry.score for entry in every) == pytest.approx(1)
    assert sum(entry.score for entry in raw) != pytest.approx(1)
    squashed = client.text_classification(TEXT, top_k=2, function_to_apply="sigmoid")
    assert len(squashed) == 2


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
def test_hugging_face_client_finds_entities(server: RunningServer, strategy: str | None) -> None:
    text = "Anna works for Acme in Paris."
    client = InferenceClient(model=f"{server.url}/predict/names")
    entities = client.token_classification(text, aggregation_strategy=strategy, ignore_labels=[])  # type: ignore[arg-type]
    assert entities
    assert {entity.entity_group for entity in entities} <= {"O", "PER", "LOC"}
    for entity in entities:
        assert entity.start is not None
        assert text[entity.start : entity.end] == entity.word


def test_hugging_face_client_gets_every_word(server: RunningServer) -> None:
    text = "Anna works for Acme in Paris."
    client = InferenceClient(model=f"{server.url}/predict/names")
    words = client.token_classification(text, aggregation_strategy="none", ignore_labels=[])
    assert [word.word for word in words] == ["Anna", "works", "for", "Acme", "in", "Paris", "."]
    assert {word["entity"] for word in words} <= set(SPECS["names"].labels)


def test_hugging_face_client_asks_about_an_endpoint(server: RunningServer) -> None:
    client = InferenceClient(model=f"{server.url}/predict/sentiment", provider="hf-inference")
    assert client.health_check()
    assert client.get_endpoint_info()["task_version"] == 1
    assert not client.health_check(model=f"{server.url}/predict/nothing")


def test_hugging_face_client_reads_a_long_text_in_windows(server: RunningServer) -> None:
    text = " ".join(["Anna works in Paris."] * 40)
    client = InferenceClient(model=f"{server.url}/predict/names")
    words = client.token_classification(text, aggregation_strategy="none", ignore_labels=[])
    assert len(words) == 200
    assert all(text[word.start : word.end] == word.word for word in words)


def test_hugging_face_client_embeds_and_compares_texts(server: RunningServer, base: Base) -> None:
    client = InferenceClient(model=f"{server.url}/predict/semantic")
    (wanted,) = expected_embeddings(base, TEXT)
    found = client.feature_extraction(TEXT)
    assert found.shape == (1, 32)
    assert found[0] == pytest.approx(wanted, abs=1e-5)
    raw = client.feature_extraction(TEXT, normalize=False, truncate=True)
    assert np.linalg.norm(raw) != pytest.approx(1, abs=0.01)
    cosines = client.sentence_similarity(TEXT, other_sentences=[TEXT, "bad"])
    unit = expected_embeddings(base, TEXT, "bad")
    assert cosines == pytest.approx([1.0, float(unit[0] @ unit[1])], abs=1e-5)


def test_openai_client_embeds_texts(server: RunningServer, base: Base) -> None:
    wanted = expected_embeddings(base, TEXT, "bad")
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        texts = [TEXT, "bad"]
        by_default = client.embeddings.create(model="semantic", input=texts)  # asks for base64
        numbers = client.embeddings.create(model="semantic", input=texts, encoding_format="float")
        for reply in (by_default, numbers):
            assert np.array([one.embedding for one in reply.data]) == pytest.approx(wanted, abs=1e-5)
            assert reply.usage.total_tokens > 0
        with pytest.raises(NotFoundError) as caught:
            client.embeddings.create(model="semantik", input=TEXT)
        assert "did you mean 'semantic'" in str(caught.value.body)


def test_triton_client_gets_embeddings(client: triton.InferenceServerClient, base: Base) -> None:
    result = client.infer("semantic", [tensor("text", [TEXT, "bad"])])
    assert result.as_numpy("embedding") == pytest.approx(expected_embeddings(base, TEXT, "bad"), abs=1e-5)


def test_triton_client_asks_about_server_and_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "maskserve"
    assert client.is_model_ready("sentiment")
    assert client.is_model_ready("sentiment", "1")
    assert not client.is_model_ready("sentiment", "2")
    assert not client.is_model_ready("nothing")
    assert client.get_model_metadata("sentiment")["outputs"][1]["shape"] == [-1, 3]
    assert client.get_model_config("sentiment", "1")["output"][1]["dims"] == [-1, 3]
    index = client.get_model_repository_index()
    models = [*sorted(SPECS), "group:texts"]
    assert [(model["name"], model["state"]) for model in index] == [(name, "READY") for name in models]
    with pytest.raises(InferenceServerException, match="did you mean 'sentiment'"):
        client.get_model_metadata("sentimant")


@pytest.mark.parametrize("binary", [True, False])
def test_triton_client_classifies_texts(
    client: triton.InferenceServerClient, base: Base, binary: bool
) -> None:
    texts = tensor("text", [TEXT, "no \N{SNOWMAN}"], binary=binary)
    result = client.infer("sentiment", [texts], request_id="seven")
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert result.as_numpy("scores").shape == (2, 3)
    assert result.as_numpy("scores")[0].tolist() == close_to(wanted)
    assert result.as_numpy("label")[0].decode() == max(wanted, key=lambda label: wanted[label])
    reply = result.get_response()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == ("seven", "sentiment", "1")
    outputs = [triton.InferRequestedOutput("scores", binary_data=False), triton.InferRequestedOutput("label")]
    again = client.infer("sentiment", [texts], model_version="1", outputs=outputs)
    assert again.as_numpy("label").tolist() == result.as_numpy("label").tolist()
    assert again.as_numpy("scores") == pytest.approx(result.as_numpy("scores"), abs=1e-5)


def test_triton_client_sends_pairs_words_and_choices(
    client: triton.InferenceServerClient, base: Base
) -> None:
    pair = [tensor("text", [["it is good"]]), tensor("text_pair", [["it is great"]])]
    wanted = expected_scores(base, bundle_of(base, "paraphrase"), TextInput("it is good", "it is great"))
    assert client.infer("paraphrase", pair).as_numpy("scores")[0].tolist() == close_to(wanted)
    question = [tensor("context", [QUESTION.context]), tensor("choices", [QUESTION.choices])]
    wanted = expected_scores(base, bundle_of(base, "endings"), QUESTION)
    assert client.infer("endings", question).as_numpy("scores")[0].tolist() == close_to(wanted)
    (element,) = client.infer("names", [tensor("text", ["Anna works."])]).as_numpy("label")
    assert [word["word"] for word in json.loads(element)] == ["Anna", "works", "."]


def test_triton_client_asks_a_group_of_tasks(client: triton.InferenceServerClient, base: Base) -> None:
    assert client.is_model_ready("group:texts")
    outputs = [output["name"] for output in client.get_model_metadata("group:texts")["outputs"]]
    assert outputs == ["sentiment.label", "sentiment.scores", "topics.label", "topics.scores"]
    result = client.infer("group:texts", [tensor("text", [TEXT])])
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert result.as_numpy("sentiment.scores")[0].tolist() == pytest.approx(list(wanted.values()), abs=1e-5)
    assert result.as_numpy("topics.scores").shape == (1, 3)
    assert not client.is_model_ready("group:nothing")


def test_triton_client_sets_parameters_and_reads_errors(client: triton.InferenceServerClient) -> None:
    long = [tensor("text", ["movie " * 100])]
    with pytest.raises(InferenceServerException, match="102 tokens") as caught:
        client.infer("sentiment", long)
    assert caught.value.status() == "400"
    scores = client.infer("sentiment", long, parameters={"truncate": True}).as_numpy("scores")
    raw = client.infer("sentiment", long, parameters={"truncate": True, "raw_scores": True})
    assert scores.sum() == pytest.approx(1)
    assert raw.as_numpy("scores").sum() != pytest.approx(1)
    with pytest.raises(InferenceServerException, match="there is no output 'logits'"):
        client.infer("sentiment", long, outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(InferenceServerException, match="served in version 1"):
        client.infer("sentiment", long, model_version="7")


def test_triton_client_unloads_and_loads_models(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Authorization"):
        client.unload_model("endings")
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    client.unload_model("endings", headers=headers)
    assert not client.is_model_ready("endings")
    assert client.is_model_ready("sentiment")
    states = {model["name"]: model["state"] for model in client.get_model_repository_index()}
    assert states["endings"] == "UNAVAILABLE"
    client.load_model("endings", headers=headers)
    assert client.is_model_ready("endings")
    with pytest.raises(InferenceServerException, match="no task 'nothing'"):
        client.load_model("nothing", headers=headers)


def test_triton_client_reads_statistics(client: triton.InferenceServerClient) -> None:
    def count() -> int:
        (model,) = client.get_inference_statistics("paraphrase")["model_stats"]
        return int(model["inference_count"])

    before = count()
    client.infer("paraphrase", [tensor("text", ["a", "b"]), tensor("text_pair", ["c", "d"])])
    assert count() == before + 2
    assert len(client.get_inference_statistics()["model_stats"]) == len(SPECS)


def ask_with_kserve(server: RunningServer, use: Callable[[InferenceRESTClient], Any]) -> Any:
    async def run() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            return await use(client)

    return asyncio.run(run())


def test_kserve_client_asks_about_server_and_models(server: RunningServer) -> None:
    async def use(client: InferenceRESTClient) -> None:
        assert await client.is_server_live(server.url)
        assert await client.is_server_ready(server.url)
        assert await client.is_model_ready(server.url, "sentiment")
        assert not await client.is_model_ready(server.url, "nothing")

    ask_with_kserve(server, use)


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_client_classifies_texts(server: RunningServer, base: Base, binary: bool) -> None:
    texts = InferInput("text", [2], "BYTES")
    texts.set_data_from_numpy(np.array([TEXT, "no"], dtype=np.object_), binary_data=binary)
    outputs = [RequestedOutput("scores", {"binary_data": binary}), RequestedOutput("label")]
    request = InferRequest("sentiment", [texts], request_id="seven", request_outputs=outputs)
    response: InferResponse = ask_with_kserve(
        server, lambda client: client.infer(server.url, request, model_name="sentiment")
    )
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert (response.id, response.model_name) == ("seven", "sentiment")
    scores, label = response.outputs
    assert scores.as_numpy()[0].tolist() == close_to(wanted)
    assert label.as_numpy()[0] == max(wanted, key=lambda name: wanted[name])


def test_kserve_client_reads_errors(server: RunningServer) -> None:
    request = InferRequest("sentiment", [InferInput("words", [1], "BYTES", data=["a"])])
    with pytest.raises(httpx.HTTPStatusError, match="takes the inputs 'text', not 'words'"):
        ask_with_kserve(server, lambda client: client.infer(server.url, request, model_name="sentiment"))


def test_binary_tensors_cut_short_on_the_wire(server: RunningServer) -> None:
    header = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}
    header["inputs"][0]["parameters"] = {"binary_data_size": 8}  # type: ignore[assignment]
    front = json.dumps(header).encode()
    reply = httpx.post(
        f"{server.url}/v2/models/sentiment/infer",
        content=front + struct.pack("<I", 4) + b"abc",
        headers={"Inference-Header-Content-Length": str(len(front))},
    )
    assert (reply.status_code, reply.json().keys()) == (400, {"error"})


def test_lines_are_sent_as_they_are_ready(server: RunningServer) -> None:
    rows = [{"task": "sentiment", "inputs": TEXT}, {"task": "nothing"}] * 500
    content = "\n".join(json.dumps(row) for row in rows)
    headers = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}
    with httpx.stream("POST", f"{server.url}/predict", content=content, headers=headers) as reply:
        results = [json.loads(line) for line in reply.iter_lines()]
    assert sorted(result["index"] for result in results) == list(range(1000))
    assert all(("error" in result) == (result["index"] % 2 == 1) for result in results)


def inputs_answered(server: RunningServer) -> int:
    (model,) = httpx.get(f"{server.url}/v2/models/sentiment/stats").json()["model_stats"]
    return int(model["inference_count"])


def bodies_ended(server: RunningServer) -> int:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith('maskserve_requests_total{route="/predict"')]
    return sum(int(float(line.split()[-1])) for line in counts)


def leave_at_once(url: str, body: object) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, timeout=httpx.Timeout(30, read=0.3))


def leave_after_a_line(url: str, body: object) -> None:
    with httpx.stream("POST", url, json=body, headers={"accept": "application/x-ndjson"}) as reply:
        assert "predictions" in json.loads(next(reply.iter_lines()))


@pytest.mark.parametrize("leave", [leave_at_once, leave_after_a_line])
def test_a_client_that_leaves_cancels_what_is_not_computed(
    server: RunningServer, leave: Callable[[str, object], None]
) -> None:
    rows = [{"task": "sentiment", "inputs": TEXT}] * 16_000  # JSON values of a body are limited
    before, ended_before = inputs_answered(server), bodies_ended(server)
    leave(f"{server.url}/predict", {"inputs": rows})
    wait_until(lambda: bodies_ended(server) > ended_before)  # the server has seen that the client left
    settled = inputs_answered(server)
    assert settled - before < len(rows)
    httpx.post(f"{server.url}/predict", json={"inputs": rows[:5]})
    assert inputs_answered(server) == settled + 5
