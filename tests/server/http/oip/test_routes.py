import json
import struct
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from masking import Base, ChoiceInput, Features, LoadedTask, TextInput
from masking.tasks.predictions import Floats
from server.errors import InvalidBodyError, MalformedBodyError
from server.http.oip.models import parse_infer
from tests.support.models import random_bundle
from tests.support.server_parts import by_task
from tests.support.serving import SPECS, TEXT, bundle_of, expected_scores, fill, serving

EXAMPLE_TASKS = {
    "texts": "sentiment",
    "pairs": "paraphrase",
    "words": "names",
    "questions": "endings",
    "logits": "sentiment",
}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    with serving(base, place, max_body_bytes=4096) as client:
        yield client


def texts(name: str, values: list[str], shape: list[int] | None = None) -> Json:
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(values)], "data": values}


def ask(client: TestClient, task: str, *inputs: Json, **others: Any) -> Json:
    reply = client.post(f"/v2/models/{task}/infer", json={"inputs": inputs, **others})
    assert reply.status_code == 200, reply.text
    found: Json = reply.json()
    return found


def outputs_in(reply: Json) -> dict[str, Json]:
    return {output["name"]: output for output in reply["outputs"]}


def refusal(client: TestClient, body: object, task: str = "sentiment", status: int = 400) -> str:
    reply = client.post(f"/v2/models/{task}/infer", json=body)
    assert reply.status_code == status, reply.text
    assert reply.json().keys() == {"error"}
    return str(reply.json()["error"])


def test_the_server_tells_about_itself(client: TestClient) -> None:
    metadata = client.get("/v2").json()
    assert metadata["name"] == "maskserve"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(metadata["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_a_server_that_is_not_ready_says_why(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.service.Service.why_not_ready", lambda _: "the worker is not running")
    reply = client.get("/v2/health/ready")
    assert reply.status_code == 503
    assert reply.json() == {"ready": False, "error": "the worker is not running"}
    assert client.get("/v2/models/sentiment/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("task", "inputs", "outputs"),
    [
        ("sentiment", {"text": [-1]}, {"label": [-1], "scores": [-1, 3]}),
        ("paraphrase", {"text": [-1], "text_pair": [-1]}, {"label": [-1], "scores": [-1, 2]}),
        ("names", {"text": [-1]}, {"label": [-1]}),
        ("endings", {"context": [-1], "choices": [-1, -1]}, {"label": [-1], "scores": [-1, -1]}),
    ],
)
def test_metadata_and_configuration_name_the_tensors(
    client: TestClient, task: str, inputs: dict[str, list[int]], outputs: dict[str, list[int]]
) -> None:
    metadata = client.get(f"/v2/models/{task}").json()
    assert (metadata["name"], metadata["versions"]) == (task, ["1"])
    assert {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]} == inputs
    assert {tensor["name"]: tensor["shape"] for tensor in metadata["outputs"]} == outputs
    assert client.get(f"/v2/models/{task}/versions/1").json() == metadata
    configuration = client.get(f"/v2/models/{task}/config").json()
    assert {tensor["name"]: tensor["dims"] for tensor in configuration["input"]} == inputs
    assert {tensor["data_type"] for tensor in configuration["input"]} == {"TYPE_STRING"}
    labels = json.loads(configuration["parameters"]["labels"]["string_value"])
    assert labels == list(SPECS[task].labels)


def test_texts_are_classified(client: TestClient, base: Base) -> None:
    reply = ask(client, "sentiment", texts("text", [TEXT, "no"]), id="seven")
    assert (reply["model_name"], reply["model_version"], reply["id"]) == ("sentiment", "1", "seven")
    found = outputs_in(reply)
    assert (found["label"]["datatype"], found["label"]["shape"]) == ("BYTES", [2])
    assert (found["scores"]["datatype"], found["scores"]["shape"]) == ("FP32", [2, 3])
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert found["scores"]["data"][:3] == pytest.approx(list(wanted.values()), rel=1e-4, abs=1e-5)
    assert found["label"]["data"][0] == max(wanted, key=lambda label: wanted[label])
    unset = {"id": None, "parameters": None, "outputs": None}
    assert "id" not in ask(client, "sentiment", {**texts("text", [TEXT]), "parameters": None}, **unset)


def test_a_column_of_texts_is_as_good(client: TestClient) -> None:
    flat = ask(client, "sentiment", texts("text", [TEXT, "no"]))
    assert ask(client, "sentiment", texts("text", [TEXT, "no"], [2, 1])) == flat


def test_pairs_and_choices(client: TestClient, base: Base) -> None:
    pairs = ask(client, "paraphrase", texts("text_pair", ["it is great"]), texts("text", ["it is good"]))
    wanted = expected_scores(base, bundle_of(base, "paraphrase"), TextInput("it is good", "it is great"))
    assert outputs_in(pairs)["scores"]["data"] == pytest.approx(list(wanted.values()), abs=1e-6)
    given = ChoiceInput("she lost the card and", ("works", "help please", "paris"))
    context = texts("context", [given.context] * 2)
    choices = texts("choices", [*given.choices, *given.choices[::-1]], [2, 3])
    found = outputs_in(ask(client, "endings", context, choices))
    scores = list(expected_scores(base, bundle_of(base, "endings"), given).values())
    assert found["scores"]["shape"] == [2, 3]
    assert found["scores"]["data"] == pytest.approx([*scores, *scores[::-1]], rel=1e-4, abs=1e-5)
    assert found["label"]["data"] == [str(np.argmax(scores)), str(np.argmax(scores[::-1]))]


def test_every_word_is_tagged_in_one_element_per_text(client: TestClient) -> None:
    running = "Anna works, in Paris."
    (label,) = ask(client, "names", texts("text", [running, "no"]))["outputs"]
    assert (label["name"], label["datatype"], label["shape"]) == ("label", "BYTES", [2])
    tagged = [json.loads(element) for element in label["data"]]
    assert tagged[0] == client.post("/predict/names", json={"inputs": running}).json()
    assert [running[word["start"] : word["end"]] for word in tagged[0]] == [w["word"] for w in tagged[0]]
    assert len(tagged[1]) == 1


def test_parameters_ask_for_logits_and_let_texts_be_cut(client: TestClient) -> None:
    long = texts("text", ["movie " * 100])
    assert '"truncate": true' in refusal(client, {"inputs": [long]})
    ask(client, "sentiment", long, parameters={"truncate": True, "priority": 3, "anything": None})
    scores = outputs_in(ask(client, "sentiment", texts("text", [TEXT])))["scores"]["data"]
    raw = outputs_in(ask(client, "sentiment", texts("text", [TEXT]), parameters={"raw_scores": True}))
    exponentials = np.exp(raw["scores"]["data"])
    assert scores == pytest.approx(exponentials / exponentials.sum(), abs=1e-5)


def test_only_the_outputs_that_are_wanted_come_back(client: TestClient) -> None:
    wanted = [{"name": "scores"}, {"name": "label"}]
    given = texts("text", [TEXT])
    assert [o["name"] for o in ask(client, "sentiment", given, outputs=wanted)["outputs"]] == [
        "scores",
        "label",
    ]
    assert [o["name"] for o in ask(client, "sentiment", given, outputs=wanted[:1])["outputs"]] == ["scores"]


def test_outputs_are_binary_where_the_client_asks(client: TestClient) -> None:
    body = {
        "parameters": {"binary_data_output": True},
        "inputs": [texts("text", [TEXT])],
        "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "scores"}],
    }
    reply = client.post("/v2/models/sentiment/infer", json=body)
    length = int(reply.headers["inference-header-content-length"])
    assert reply.headers["content-type"] == "application/octet-stream"
    label, scores = json.loads(reply.content[:length])["outputs"]
    assert "parameters" not in label
    assert scores["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(reply.content[length:], "<f4").sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "text"}]}, "inputs.0.shape"),
        ({"inputs": [texts("text", [TEXT], [-1])]}, "inputs.0.shape.0"),
        ({"inputs": [texts("text", ["a"], [1, 1, 1])]}, "inputs.0.shape"),
        ({"inputs": [texts("text", ["a", "b"], [1, 2])]}, "has shape [1, 2], not [-1] or [-1, 1]"),
        ({"inputs": [texts("words", ["a"])]}, "takes the inputs 'text', not 'words'"),
        ({"inputs": [texts("text", ["a"]), texts("text_pair", ["a"])]}, "takes the inputs 'text', not"),
        ({"inputs": [texts("text", [])]}, "holds no inputs"),
        ({"inputs": [texts("text", [" "])]}, "the text is empty"),
        ({"inputs": [texts("text", ["a"])], "outputs": [{"name": "logits"}]}, "there are 'label', 'scores'"),
        ({"inputs": [texts("text", ["a"])], "outputs": [{"name": "label"}] * 2}, "wanted twice"),
        (
            {
                "inputs": [texts("text", ["a"])],
                "outputs": [{"name": "label", "parameters": {"classification": 2}}],
            },
            "as a classification",
        ),
        ({"inputs": [{**texts("text", ["a"]), "parameters": {"binary_data_size": 3}}]}, "either data or"),
    ],
)
def test_a_request_that_is_not_right_is_told_so(client: TestClient, body: object, said: str) -> None:
    assert said in refusal(client, body)


@pytest.mark.parametrize(
    ("task", "inputs", "said"),
    [
        ("paraphrase", [texts("text", ["a", "b"]), texts("text_pair", ["c"])], "'text' has 2, 'text_pair'"),
        ("endings", [texts("context", ["a"]), texts("choices", ["c"], [1, 1])], "at least two"),
        ("endings", [texts("context", ["a"]), texts("choices", ["c", "d"])], "at least two"),
        ("names", [texts("tokens", ["a"])], "takes the inputs 'text', not 'tokens'"),
    ],
)
def test_tensors_that_do_not_fit_the_task(
    client: TestClient, task: str, inputs: list[Json], said: str
) -> None:
    assert said in refusal(client, {"inputs": inputs}, task)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 4000])
def test_a_body_that_is_no_json(client: TestClient, content: bytes) -> None:
    reply = client.post("/v2/models/sentiment/infer", content=content)
    assert (reply.status_code, reply.json().keys()) == (400, {"error"})
    assert "not JSON" in reply.json()["error"]


def test_a_body_that_is_too_long(client: TestClient) -> None:
    assert "4096" in refusal(client, {"inputs": [texts("text", ["a" * 5000])]}, status=413)


def test_only_the_version_in_service_answers(client: TestClient) -> None:
    body = {"inputs": [texts("text", [TEXT])]}
    assert client.post("/v2/models/sentiment/versions/1/infer", json=body).status_code == 200
    for path in ("", "/ready", "/config", "/stats"):
        assert client.get(f"/v2/models/sentiment/versions/1{path}").status_code == 200
        reply = client.get(f"/v2/models/sentiment/versions/2{path}")
        assert reply.status_code == 404
        assert "in version 1" in reply.json()["error"]
    assert client.post("/v2/models/sentiment/versions/01/infer", json=body).status_code == 404


@pytest.mark.parametrize("path", ["/v2/models/sentimant", "/v2/models/sentimant/ready", "/v2/nothing"])
def test_what_is_not_there_is_a_404_in_the_protocols_shape(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.json().keys()) == (404, {"error"})


def test_the_wrong_method_and_unexpected_errors_have_the_protocols_shape(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v2/models/sentiment/infer").json().keys() == {"error"}

    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("server.service.Service.why_not_ready", fail)
    reply = client.get("/v2/health/ready")
    assert (reply.status_code, reply.json().keys()) == (500, {"error"})


def test_replies_name_the_version_that_answered_errors_too(client: TestClient) -> None:
    digest = client.get("/tasks/sentiment").json()["digest"]
    for body, status in (({"inputs": [texts("text", [TEXT])]}, 200), ({}, 400)):
        reply = client.post("/v2/models/sentiment/infer", json=body)
        assert reply.status_code == status
        assert (reply.headers["x-task-version"], reply.headers["x-mask-digest"]) == ("1", digest)
    assert client.post("/predict/sentiment", json={}).headers["x-task-version"] == "1"


def test_statistics_count_what_was_asked(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "paraphrase"])
    with serving(base, tmp_path) as client:
        ask(client, "sentiment", texts("text", [TEXT, "no"]))
        client.post("/predict/sentiment", json={"inputs": TEXT})
        refusal(client, {"inputs": [texts("text", ["movie " * 100])]})
        (found,) = client.get("/v2/models/sentiment/stats").json()["model_stats"]
        everyone = client.get("/v2/models/stats").json()["model_stats"]
    assert (found["name"], found["version"], found["inference_count"]) == ("sentiment", "1", 3)
    spent = found["inference_stats"]
    assert (spent["success"]["count"], spent["fail"]["count"]) == (2, 1)
    assert 0 < spent["compute_infer"]["ns"] <= spent["success"]["ns"]
    assert [(model["name"], model["inference_count"]) for model in everyone] == [
        ("paraphrase", 0),
        ("sentiment", 3),
    ]


def test_the_repository_index_tells_what_can_not_be_served(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["paraphrase", "sentiment"])
    (damaged,) = (tmp_path / "tasks" / "paraphrase").rglob("*.safetensors")
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-10])
    served = {"name": "sentiment", "version": "1", "state": "READY", "reason": ""}
    with serving(base, tmp_path) as client:
        broken, found = client.post("/v2/repository/index").json()
        assert found == served
        assert (broken["name"], broken["version"], broken["state"]) == ("paraphrase", "1", "UNAVAILABLE")
        assert "could not be loaded" in broken["reason"]
        assert client.post("/v2/repository/index", json={"ready": True}).json() == [served]
        assert client.post("/v2/repository/index", json={"ready": "perhaps"}).status_code == 400
        reply = client.get("/v2/models/paraphrase/ready")
        assert (reply.status_code, reply.json().keys()) == (503, {"error"})


def test_models_are_unloaded_and_loaded_again(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "paraphrase"])
    with serving(base, tmp_path, admin_key="rumpelstilz") as client:
        path = "/v2/repository/models/sentiment"
        refused = client.post(f"{path}/unload")
        assert (refused.status_code, refused.json().keys()) == (401, {"error"})
        client.headers["authorization"] = "Bearer rumpelstilz"
        assert client.post(f"{path}/unload", json={"parameters": {"unload_dependents": False}}).json() == {}
        assert client.get("/v2/models/sentiment/ready").status_code == 503
        assert client.get("/v2/models/paraphrase/ready").status_code == 200
        state = {model["name"]: model for model in client.post("/v2/repository/index").json()}
        assert (state["sentiment"]["state"], state["paraphrase"]["state"]) == ("UNAVAILABLE", "READY")
        assert "is unloaded" in state["sentiment"]["reason"]
        for override in ({"config": "{}"}, {"file:1/model": "AA=="}):
            reply = client.post(f"{path}/load", json={"parameters": override})
            assert (reply.status_code, "as it is in the store" in reply.json()["error"]) == (400, True)
        assert client.post(f"{path}/load", content=b"[]").status_code == 400
        assert client.post(f"{path}/load").json() == {}
        assert client.get("/v2/models/sentiment/ready").status_code == 200
        unknown = client.post("/v2/repository/models/nothing/load")
        assert (unknown.status_code, unknown.json().keys()) == (404, {"error"})


def test_nobody_loads_models_without_an_admin_key(client: TestClient) -> None:
    for verb in ("load", "unload"):
        reply = client.post(f"/v2/repository/models/sentiment/{verb}")
        assert (reply.status_code, reply.json().keys()) == (403, {"error"})
    assert client.get("/v2/models/sentiment/ready").status_code == 200


def test_a_key_is_asked_for_where_there_are_keys(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    body = {"inputs": [texts("text", [TEXT])]}
    with serving(base, tmp_path, api_keys=["a-key-of-a-client"]) as client:
        for path in ("", "/health/live", "/health/ready"):
            assert client.get(f"/v2{path}").status_code == 200
        for path in ("/models/stats", "/models/sentiment", "/models/sentiment/versions/1/ready"):
            assert client.get(f"/v2{path}").status_code == 401
        assert client.post("/v2/repository/index").status_code == 401
        assert client.post("/predict", json={"inputs": []}).status_code == 401
        refused = client.post("/v2/models/sentiment/infer", json=body)
        assert (refused.status_code, refused.json().keys()) == (401, {"error"})
        client.headers["authorization"] = "Bearer a-key-of-a-client"
        ask(client, "sentiment", *body["inputs"])


def test_a_failed_batch_is_an_error_in_the_protocols_shape(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])

    def broken(_: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        raise RuntimeError("CUDA error: secret/path")

    with serving(base, tmp_path, compute=by_task(broken)) as client:
        assert "secret" not in refusal(client, {"inputs": [texts("text", [TEXT])]}, status=424)


def test_the_openapi_document_has_the_protocols_errors_only(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {path for path in paths if path.endswith("/versions/{version}/stats")}
    others = ("/v2/health/ready", "/v2/rerank")
    for path, operations in paths.items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if path.startswith("/v2") and status != "200" and path not in others:
                    reference = response["content"]["application/json"]["schema"]["$ref"]
                    assert reference == "#/components/schemas/OipError", (path, status)


def test_every_openapi_example_works_when_pasted(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/v2/models/{task}/infer", "/v2/models/{task}/versions/{version}/infer"):
        operation = document["paths"][path]["post"]
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        assert examples.keys() == EXAMPLE_TASKS.keys()
        for name, example in examples.items():
            body = dict(example["value"])
            ask(client, EXAMPLE_TASKS[name], *body.pop("inputs"), **body)


def as_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def test_texts_in_base64_are_decoded(client: TestClient) -> None:
    wanted = ask(client, "sentiment", texts("text", [TEXT, "caf\u00e9"]))
    coded = texts("text", [as_base64(TEXT), as_base64("caf\u00e9")])
    assert ask(client, "sentiment", {**coded, "parameters": {"content_type": "base64"}}) == wanted
    plain = {**texts("text", [TEXT, "caf\u00e9"]), "parameters": {"content_type": "str"}}
    assert ask(client, "sentiment", plain, parameters={"content_type": "str"}) == wanted
    unsaid = {**texts("text", [TEXT, "caf\u00e9"]), "parameters": {"content_type": None}}
    assert ask(client, "sentiment", unsaid) == wanted


def test_texts_in_base64_and_binary_are_decoded(client: TestClient) -> None:
    element = as_base64(TEXT).encode()
    content = struct.pack("<I", len(element)) + element
    parameters = {"content_type": "base64", "binary_data_size": len(content)}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    header = json.dumps({"inputs": [tensor]}).encode()
    reply = client.post(
        "/v2/models/sentiment/infer",
        content=header + content,
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert reply.json() == ask(client, "sentiment", texts("text", [TEXT]))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"parameters": {"content_type": "np"}}, "this server knows no 'np', only: str"),
        ({"parameters": {"content_type": "base64"}}, "knows no 'base64', only: str"),
        ({"parameters": {"sequence_id": 7, "sequence_start": True}}, "no sequences"),
        ({"outputs": [{"name": "label", "parameters": {"content_type": "pd"}}]}, "only: str"),
    ],
)
def test_parameters_that_change_what_data_mean_are_not_ignored(
    client: TestClient, body: Json, said: str
) -> None:
    assert said in refusal(client, {"inputs": [texts("text", [TEXT])], **body})


@pytest.mark.parametrize("content_type", ["np", "pd", "hf_str", "datetime", "x" * 3000])
def test_content_types_of_inputs_that_are_not_texts(client: TestClient, content_type: str) -> None:
    tensor = {**texts("text", [TEXT]), "parameters": {"content_type": content_type}}
    said = refusal(client, {"inputs": [tensor]})
    assert "only: str, base64" in said
    assert len(said) < 200


@pytest.mark.parametrize("element", ["not base64", "Z29v", "gICA", "\u00e9"])
def test_what_is_not_a_text_in_base64(client: TestClient, element: str) -> None:
    tensor = {**texts("text", [element]), "parameters": {"content_type": "base64"}}
    reply = client.post("/v2/models/sentiment/infer", json={"inputs": [tensor]})
    assert (reply.status_code, "in base64" in reply.text) == (
        (200, False) if element == "Z29v" else (400, True)
    )


@pytest.mark.parametrize("digits", [10, 19, 1000, 5000])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_shapes_beyond_any_tensor_are_refused_in_few_words(digits: int, dimensions: int) -> None:
    shape = ", ".join(["9" * digits] * dimensions)
    body = f'{{"inputs": [{{"name": "text", "datatype": "BYTES", "shape": [{shape}], "data": ["a"]}}]}}'
    with pytest.raises((InvalidBodyError, MalformedBodyError)) as caught:
        parse_infer(body.encode())
    assert len(caught.value.message) < 300


def test_more_tensors_than_any_task_has(client: TestClient) -> None:
    assert "at most 16 items" in refusal(client, {"inputs": [{} for _ in range(1000)]})


def test_a_task_may_be_called_as_a_route_is(base: Base, tmp_path: Path) -> None:
    names = ["stats", "ready", "infer", "config", "index", "versions", "health", "info", "models"]
    store = fill(tmp_path, base, ["sentiment"])
    for name in names:
        store.publish(random_bundle(base, SPECS["sentiment"], task=name, seed=3))
    with serving(base, tmp_path) as client:
        for name in names:
            metadata = client.get(f"/v2/models/{name}").json()
            assert (metadata["name"], metadata["versions"]) == (name, ["1"])
            assert client.get(f"/v2/models/{name}/versions/1").json() == metadata
            assert client.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
            assert client.get(f"/v2/models/{name}/stats").json()["model_stats"][0]["name"] == name
            assert ask(client, name, texts("text", [TEXT]))["model_name"] == name
            assert client.get(f"/tasks/{name}").json()["task"] == name
            assert client.post(f"/predict/{name}", json={"inputs": TEXT}).headers["x-task"] == name
            assert client.get(f"/predict/{name}/health").json()["task"] == name


def test_tasks_and_versions_are_named_to_those_with_a_key_only(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with serving(base, tmp_path, api_keys=("key",), require_task=("sentiment",)) as client:
        for task in ("sentiment", "nothing"):
            reply = client.get(f"/v2/models/{task}/versions/7")
            assert (reply.status_code, "sentiment" in reply.text) == (401, False)


def test_kinds_without_one_class_have_tensors_of_their_own(client: TestClient, base: Base) -> None:
    reply = ask(client, "topics", texts("text", [TEXT, "no"]))
    labels, scores = reply["outputs"]
    assert (labels["name"], labels["shape"], scores["shape"]) == ("label", [2], [2, 3])
    known = list(expected_scores(base, bundle_of(base, "topics")).values())
    assert scores["data"][:3] == pytest.approx(known, abs=1e-6)
    spec = SPECS["topics"]
    reached = zip(spec.labels, scores["data"][:3], spec.thresholds, strict=True)
    assert json.loads(labels["data"][0]) == [name for name, score, least in reached if score >= least]
    pair = [texts("text", ["a"]), texts("text_pair", ["b"])]
    for task, inputs in {"rating": pair[:1], "relevance": pair}.items():
        (values,) = ask(client, task, *inputs)["outputs"]
        assert (values["name"], values["datatype"], values["shape"]) == ("scores", "FP32", [1, 1])
        outputs = client.get(f"/v2/models/{task}").json()["outputs"]
        assert outputs == [{"name": "scores", "datatype": "FP32", "shape": [-1, 1]}]
