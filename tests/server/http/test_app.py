import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from server.build import build_service
from server.http.app import create_app
from tests.support.serving import TEXT, fill, serving, settings_of, wait_until


@pytest.fixture(scope="module")
def client(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    with serving(base, place) as client:
        yield client


def test_an_unknown_path_says_where_things_are(client: TestClient) -> None:
    reply = client.get("/tusks")
    assert reply.status_code == 404
    assert reply.json()["error_type"] == "NotFound"
    assert "GET /" in reply.json()["error"]


@pytest.mark.parametrize("path", ["/tasks", "/memory", "/health/ready", "/"])
def test_a_method_that_the_path_does_not_take(client: TestClient, path: str) -> None:
    reply = client.post(path)
    assert reply.status_code == 405
    assert reply.json().keys() == {"error", "error_type"}
    assert "GET" in reply.headers["allow"]


def test_a_sane_request_id_is_kept(client: TestClient) -> None:
    assert client.get("/tasks", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb"])
def test_any_other_request_id_is_replaced(client: TestClient, given: str) -> None:
    reply = client.get("/nowhere", headers={"x-request-id": given})
    assert len(reply.headers["x-request-id"]) == 32


def test_requests_are_counted_by_route_task_and_status(client: TestClient) -> None:
    client.post("/predict/sentiment", json={"inputs": TEXT})
    client.post("/predict/nobody-knows-it", json={"inputs": TEXT})
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert 'route="/predict/{task}",status="200",task="sentiment"' in text
    assert 'route="/predict/{task}",status="404",task="(unknown)"' in text
    assert "nobody-knows-it" not in text
    assert "/no/such/path" not in text


def test_an_unexpected_error_tells_the_client_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr("server.http.routes.operations.memory_report", fail)
    with caplog.at_level(logging.ERROR):
        reply = client.get("/memory", headers={"x-request-id": "lost-7"})
    assert reply.status_code == 500
    assert reply.json()["error_type"] == "Backend"
    assert "secret" not in reply.text
    assert reply.headers["x-request-id"] == "lost-7"
    assert "lost-7" in caplog.text
    assert "secret /path" in caplog.text
    assert 'route="/memory",status="500"' in client.get("/metrics").text


def test_the_openapi_document_lists_every_route_and_its_errors(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == "maskserve"
    assert document["paths"].keys() >= {"/predict/{task}", "/tasks", "/tasks/{task}", "/memory", "/metrics"}
    responses = document["paths"]["/predict/{task}"]["post"]["responses"]
    assert responses.keys() >= {"200", "400", "404", "413", "422", "424", "429", "503", "504"}
    for status, response in responses.items():
        if status != "200":
            reference = response["content"]["application/json"]["schema"]["$ref"]
            assert reference == "#/components/schemas/ErrorReply", status


def test_the_service_lives_as_long_as_the_application(
    base: Base, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    service = build_service(settings_of(place), base=base)
    assert service.why_not_ready() == "the worker is not running"
    with TestClient(create_app(service)):
        wait_until(lambda: service.engine.ready)
        assert service.watcher.alive
    assert not service.engine.ready
    assert not service.watcher.alive


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_pages_of_the_set_origins_may_call(base: Base, tmp_path: Path, method: str) -> None:
    fill(tmp_path, base, ["sentiment"])
    with serving(base, tmp_path, api_keys=["a-key"], cors_origins=["https://app.example"]) as client:
        for origin, allowed in (
            ("https://app.example", "https://app.example"),
            ("https://other.example", None),
        ):
            asked = {
                "access-control-request-method": method,
                "access-control-request-headers": "authorization",
            }
            preflight = client.options("/predict/sentiment", headers={"origin": origin, **asked})
            assert preflight.headers.get("access-control-allow-origin") == allowed
            assert preflight.status_code == (200 if allowed else 400)
            refused = client.post("/predict/sentiment", headers={"origin": origin})
            assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (401, allowed)
        assert "authorization" in preflight.headers["access-control-allow-headers"]


def test_no_page_may_call_by_default(client: TestClient) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    reply = client.options("/predict/sentiment", headers=headers)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert "access-control-allow-origin" not in client.get("/tasks", headers=headers).headers


def test_a_path_tells_all_its_methods(client: TestClient) -> None:
    reply = client.patch("/tasks/sentiment")
    assert (reply.status_code, reply.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")
    assert client.put("/predict/sentiment").headers["allow"] == "POST"


@pytest.mark.parametrize("prefix", ["", "/nlp/v3"])
def test_the_documentation_page_loads_nothing_from_elsewhere(client: TestClient, prefix: str) -> None:
    app = client.app
    with_prefix = TestClient(app, root_path=prefix)
    reply = with_prefix.get(f"{prefix}/docs")
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert "content-security-policy" not in with_prefix.get(f"{prefix}/health/live").headers
    page = reply.text
    addresses = re.findall(r"""(?:href|src|url)[=:] ?["']([^"']+)""", page)
    assert len(addresses) == 4
    for address in addresses:
        assert address.startswith(f"{prefix}/")
        reply = with_prefix.get(address)
        assert (reply.status_code, bool(reply.content)) == (200, True), address
    assert "//" not in page.replace("<!--", "").replace("// ", "")
