import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from masking import Base
from server.http.request_line import route_path
from tests.support.serving import TEXT, fill, serving

PREFIX = "/masks/v1"
GROUPS = {"guards": ["sentiment"]}


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    return place


@pytest.fixture(scope="module")
def client(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place, group=GROUPS) as client:
        yield client


@pytest.fixture(scope="module")
def prefixed(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place, root_path=f"{PREFIX}/", group=GROUPS) as client:
        yield client


def paths(client: TestClient, method: str) -> list[str]:
    assert isinstance(client.app, FastAPI)
    found: dict[str, Any] = client.app.openapi()["paths"]
    values = {"{task}": "sentiment", "{version}": "1", "{group}": "guards"}

    def filled(path: str) -> str:
        return re.sub(r"{\w+}", lambda name: values[name[0]], path)

    return [filled(path) for path in found if method in found[path]] + ["/docs", "/openapi.json"]


def test_head_is_get_without_a_body_on_every_route(client: TestClient) -> None:
    assert len(paths(client, "get")) > 20
    for path in paths(client, "get"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert "content-length" in head.headers
    assert client.head("/predict/sentiment").status_code == 405
    assert client.head("/nowhere").status_code == 404
    assert 'route="/health/live",status="200"' in client.get("/metrics").text


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_a_slash_at_the_end_says_nothing(client: TestClient, slashes: str) -> None:
    for path in paths(client, "get"):
        reply = client.get(path.rstrip("/") + slashes, follow_redirects=False)
        assert reply.status_code == client.get(path).status_code, path
    body = {"inputs": TEXT}
    assert client.post(f"/predict/sentiment{slashes}", json=body, follow_redirects=False).status_code == 200
    assert client.post(f"/v2/nothing{slashes}").json().keys() == {"error"}


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_proxy_may_cut_its_path_off_or_leave_it(prefixed: TestClient, prefix: str) -> None:
    for path in paths(prefixed, "get"):
        assert prefixed.get(prefix + path).status_code == 200, path
    assert prefixed.get(prefix).status_code == 200
    assert prefixed.post(f"{prefix}/predict/sentiment/", json={"inputs": TEXT}).status_code == 200
    assert prefixed.get(f"{prefix}/v2/nothing").json().keys() == {"error"}
    assert f"{PREFIX}/openapi.json" in prefixed.get(f"{prefix}/docs").text
    assert prefixed.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": PREFIX}]


@pytest.mark.parametrize(
    ("path", "root_path", "found"),
    [
        ("/", "", "/"),
        ("//", "", "/"),
        ("/tasks/", "", "/tasks"),
        ("/masks", "/masks", "/"),
        ("/masks/tasks/", "/masks", "/tasks"),
        ("/maskserve/tasks", "/masks", "/maskserve/tasks"),
        ("/tasks", "/masks", "/tasks"),
    ],
)
def test_paths_as_routes_have_them(path: str, root_path: str, found: str) -> None:
    assert route_path({"path": path}, root_path) == found
