import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from masking import Base
from tests.support.serving import TEXT, fill, serving

ADMIN = {"authorization": "Bearer open sesame"}
FORM = {"content-type": "application/x-www-form-urlencoded"}  # what `curl -d` says
_TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
BODIES: dict[str, dict[str, Any]] = {
    "/predict/sentiment": {"inputs": TEXT},
    "/predict": {"inputs": [{"task": "sentiment", "inputs": TEXT}]},
    "/v2/models/sentiment/infer": {"inputs": [_TENSOR]},
    "/v2/repository/index": {"ready": True},
    "/v2/repository/models/sentiment/load": {"parameters": {}},
    "/tasks/sentiment/pin": {"version": None},
    "/tasks/sentiment/rollback": {"version": 1},
}


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    with serving(base, place, admin_key="open sesame", max_body_bytes=4096, max_body_values=100) as client:
        client.headers.update(ADMIN)
        yield client


def send(client: TestClient, path: str, content: bytes, **headers: str) -> tuple[int, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = client.post(path, content=content, headers=FORM | names)
    return reply.status_code, reply.json()


@pytest.mark.parametrize("path", BODIES)
def test_every_route_takes_a_body_as_it_is_sent(client: TestClient, path: str) -> None:
    body = json.dumps(BODIES[path]).encode()
    for content, coding in (
        (body, "Identity"),
        (b"\xef\xbb\xbf" + body, "identity"),
        (gzip.compress(body), "GZIP"),
        (zlib.compress(b"\xef\xbb\xbf" + body), "deflate"),
    ):
        status, reply = send(client, path, content, content_encoding=coding)
        assert status == 200, (coding, reply)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", ["ab", 0, [], {"a": None}, [["ab"]]])
def test_every_route_refuses_a_body_of_too_many_values(client: TestClient, path: str, value: object) -> None:
    body = json.dumps(BODIES[path] | {"options": [value] * 101}).encode()
    status, reply = send(client, path, body)
    assert (status, "more than 100 JSON values" in reply["error"]) == (413, True)


def test_a_line_of_too_many_values_fails_alone(client: TestClient) -> None:
    row = json.dumps({"task": "sentiment", "inputs": TEXT})
    long = json.dumps({"task": "sentiment", "inputs": [["a"]] * 60})
    reply = client.post(
        "/predict", content="\n".join([row, long] * 2), headers={"content-type": "application/x-ndjson"}
    )
    good, refused, *_ = reply.json()
    assert "predictions" in good
    assert "more than 100 JSON values" in refused["error"]


@pytest.mark.parametrize("path", BODIES)
def test_every_route_refuses_alike_what_it_cannot_decode(client: TestClient, path: str) -> None:
    body = json.dumps(BODIES[path]).encode()
    told = {
        415: send(client, path, body, content_encoding="br"),
        400: send(client, path, body, content_encoding="gzip"),
        413: send(client, path, gzip.compress(bytes(5000)), content_encoding="gzip"),
    }
    assert {status: status for status in told} == {status: reply[0] for status, reply in told.items()}
    assert told[415][1]["error"].startswith("the Content-Encoding of a body is gzip or deflate")
    assert told[400][1]["error"] == "the body is not gzip, though its Content-Encoding says so"
    assert told[413][1]["error"] == "the body is longer than 4096 bytes"
    assert send(client, path, body.decode().encode("utf-16"))[0] == 415
    assert send(client, path, b"{")[0] == 400


def test_no_route_leaves_its_body_to_fastapi(client: TestClient) -> None:
    """FastAPI would read it before it asks for a key."""
    assert isinstance(client.app, FastAPI)
    routes = list(routes_of(client.app.router.routes))
    assert len(routes) > 20
    assert [route.path for route in routes if route.body_field is not None] == []


def routes_of(routes: Any) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (included := getattr(route, "original_router", None)) is not None:
            yield from routes_of(included.routes)


@pytest.mark.parametrize("name", ["application/jsonl", "Application/X-NDJSON", "application/x-jsonlines"])
def test_json_lines_by_any_name(client: TestClient, name: str) -> None:
    line = json.dumps({"task": "sentiment", "inputs": TEXT}).encode()
    content = b"\xef\xbb\xbf" + line + b"\r\n" + line
    headers = {"content-type": name, "accept": f"text/html, {name}"}
    reply = client.post("/predict", content=content, headers=headers)
    assert (reply.status_code, reply.headers["content-type"].lower()) == (200, name.lower())
    assert ["predictions" in json.loads(line) for line in reply.text.splitlines()] == [True, True]


def test_binary_tensors_are_no_text(client: TestClient) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}
    head = b"\xef\xbb\xbf" + json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference_header_content_length": str(len(head)), "content_encoding": "gzip"}
    content = gzip.compress(head + b"\x04\0\0\0good")
    assert send(client, "/v2/models/sentiment/infer", content, **headers)[0] == 200


@pytest.mark.parametrize("path", ["/health/live", "/tasks", "/"])
def test_a_body_that_nobody_reads_does_no_harm(client: TestClient, path: str) -> None:
    for method in ("GET", "HEAD"):
        reply = client.request(method, path, content=b"x" * 10_000, headers={"content-encoding": "br"})
        assert reply.status_code == 200
