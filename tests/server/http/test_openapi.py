"""The OpenAPI document, and a client that a generator makes of it."""

import asyncio
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from masking import Base
from server.http.app import create_app
from tests.support.serving import SPECS, TEXT, serving, started

KEY = "client"


@pytest.fixture(scope="module")
def client(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place, api_keys=(KEY,)) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    paths = document["paths"].items()
    return [(f"{method} {path}", one) for path, entries in paths for method, one in entries.items()]


def enums(part: object) -> Iterator[list[object]]:
    match part:
        case dict():
            yield from ([part["enum"]] if isinstance(part.get("enum"), list) else [])
            for inner in part.values():
                yield from enums(inner)
        case list():
            for inner in part:
                yield from enums(inner)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_operations_have_short_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 30


def test_every_reply_has_a_schema(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, reply in operation["responses"].items():
            for kind, content in reply.get("content", {}).items():
                assert content["schema"], (name, status, kind)
            assert reply.get("content") or status == "204", (name, status)


def test_no_enumeration_has_a_value_twice_in_any_spelling(document: dict[str, Any]) -> None:
    for values in enums(document):
        assert len({str(value).lower() for value in values}) == len(values), values


def test_every_reference_leads_somewhere_and_everything_is_referred_to(document: dict[str, Any]) -> None:
    text, schemas = json.dumps(document), document["components"]["schemas"]
    assert {name for name in schemas if f'"#/components/schemas/{name}"' not in text} == set()
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes of the document."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yaml").write_text("post_hooks: []\n")  # by default it formats what it writes
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--meta",
        "none",
        "--fail-on-warning",
    ]
    command += ["--path", "openapi.json", "--config", "config.yaml", "--output-path", "maskserve_client"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module("maskserve_client")
    sys.path.remove(str(folder))


def test_a_generated_client_asks_a_task_of_every_kind(generated: ModuleType, base: Base, place: Path) -> None:
    models = importlib.import_module("maskserve_client.models")

    def function(name: str) -> Any:
        return importlib.import_module(f"maskserve_client.api.{name}")

    async def use(app: Any) -> None:
        client = generated.AuthenticatedClient(base_url="http://server", token=KEY)
        transport = httpx.ASGITransport(app=app)
        headers = {"authorization": f"Bearer {KEY}"}
        client.set_async_httpx_client(
            httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers)
        )

        async def predict(task: str, body: Any) -> Any:
            return await function("predict.predict").asyncio(task, client=client, body=body)

        scores = await predict("sentiment", models.TeiBody(inputs=TEXT))
        assert {type(one) for one in scores} == {models.LabelScore}
        assert {one.label for one in scores} == {"bad", "good", "mixed"}
        batch = await predict("paraphrase", models.TeiBody(inputs=[["a", "b"], ["c", "d"]]))
        assert [len(scores) for scores in batch] == [2, 2]
        words = await predict("names", models.TokensBody(tokens=["anna", "works"]))
        assert [(type(one), one.word) for one in words] == [
            (models.WordLabel, name) for name in ("anna", "works")
        ]
        choices = await predict("endings", models.ChoicesBody(context="a", choices=["b", "c"]))
        assert {(type(one), one.text) for one in choices} == {(models.ChoiceScore, name) for name in "bc"}
        topics = await predict("topics", models.TeiBody(inputs=TEXT))
        assert {(type(one), type(one.predicted)) for one in topics} == {(models.LabelDecision, bool)}
        hits = models.RerankBody(query="a", texts=["b", "c"])
        ranks = await function("rerank.rerank").asyncio(client=client, body=hits)
        assert sorted(one.index for one in ranks) == [0, 1]
        parameters = models.HfParameters(top_k=1)
        (best,) = await predict("sentiment", models.HfBody(inputs=TEXT, parameters=parameters))
        assert best == scores[:1]
        ignored = models.HfParameters(ignore_labels=[])
        entities = await predict("names", models.HfBody(inputs="anna works", parameters=ignored))
        assert {type(one) for one in entities} == {models.Entity}

        refused = await predict("nothing", models.TeiBody(inputs=TEXT))
        assert (type(refused), refused.error_type) == (models.ErrorReply, "NotFound")
        rows = models.PredictManyBody(inputs=[{"task": "sentiment", "inputs": TEXT}, {"task": "nothing"}])
        answer, error = await function("predict.predict_many").asyncio(client=client, body=rows)
        assert (answer.predictions, error.error_type) == (scores, "NotFound")
        tasks = models.FanOutBody(inputs=TEXT, tasks=["sentiment", "nothing"])
        answer, error = await function("predict.predict_many").asyncio(client=client, body=tasks)
        assert (answer.predictions, error.error_type) == (scores, "NotFound")

        tensor = models.InputTensor(name="text", datatype="BYTES", shape=[1], data=[TEXT])
        infer = function("open_inference_protocol.infer")
        reply = await infer.asyncio("sentiment", client=client, body=models.InferRequest(inputs=[tensor]))
        assert reply.outputs[0].data == [scores[0].label]
        listed = await function("tasks.list_tasks").asyncio(client=client)
        assert {task.task for task in listed.tasks} == set(SPECS)
        health = await function("operations.ready").asyncio(client=client)
        assert health.status == "ready"

    with started(base, place, api_keys=(KEY,)) as service:
        asyncio.run(use(create_app(service)))
