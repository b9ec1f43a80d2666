from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from masking import Base
from tests.support.serving import TEXT, fill, serving

OPEN = ("/", "/health/live", "/health/ready", "/metrics", "/openapi.json")
CLOSED = (
    "/tasks",
    "/tasks/sentiment",
    "/tasks/sentiment/versions",
    "/tasks/sentiment/versions/1/diff",
    "/memory",
    "/predict/sentiment/health",
    "/predict/sentiment/info",
)
ADMIN = (
    ("POST", "/tasks/sentiment/load"),
    ("POST", "/tasks/sentiment/unload"),
    ("POST", "/tasks/sentiment/pin"),
    ("POST", "/tasks/sentiment/rollback"),
    ("PUT", "/tasks/sentiment"),
    ("DELETE", "/tasks/sentiment"),
)
KEYS = ("first key", "second key")
ADMIN_KEY = "the key to everything"


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    return place


@pytest.fixture(scope="module")
def guarded(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place, api_keys=KEYS, admin_key=ADMIN_KEY) as client:
        yield client


@pytest.fixture(scope="module")
def unguarded(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def refused(reply: Response) -> bool:
    challenge = reply.headers.get("www-authenticate") == 'Bearer realm="maskserve"'
    assert challenge == (reply.status_code == 401)
    return bool(challenge)


@pytest.mark.parametrize("path", OPEN)
def test_health_and_metrics_need_no_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
def test_everything_about_tasks_needs_a_key(guarded: TestClient, path: str) -> None:
    reply = guarded.get(path)
    assert refused(reply)
    assert reply.json()["error_type"] == "Unauthorized"
    for key in (*KEYS, ADMIN_KEY):
        assert guarded.get(path, headers=bearer(key)).status_code == 200


def test_predictions_need_a_key(guarded: TestClient) -> None:
    for task in ("sentiment", "nobody"):  # who has no key does not learn which tasks there are
        assert refused(guarded.post(f"/predict/{task}", json={"inputs": TEXT}))
    reply = guarded.post("/predict/sentiment", json={"inputs": TEXT}, headers=bearer(KEYS[0]))
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "given", ["Bearer", "Bearer ", "Bearer first", "Bearer first key2", "Basic first key", "first key", ""]
)
def test_what_is_no_key(guarded: TestClient, given: str) -> None:
    assert refused(guarded.get("/tasks", headers={"authorization": given}))


@pytest.mark.parametrize(("method", "path"), ADMIN)
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(KEYS[0])])
def test_administration_needs_the_admin_key(
    guarded: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert refused(guarded.request(method, path, headers=headers))
    assert guarded.get("/tasks/sentiment", headers=bearer(ADMIN_KEY)).status_code == 200


def test_the_admin_key_opens(guarded: TestClient) -> None:
    assert guarded.post("/tasks/sentiment/load", headers=bearer(ADMIN_KEY)).status_code == 200


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_without_an_admin_key_nobody_administrates(unguarded: TestClient, method: str, path: str) -> None:
    for headers in ({}, bearer(""), bearer("anything")):
        reply = unguarded.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()["error_type"]) == (403, "Forbidden")
        assert "MASKSERVE_ADMIN_KEY" in reply.json()["error"]


@pytest.mark.parametrize("path", CLOSED)
def test_without_api_keys_everyone_may_predict(unguarded: TestClient, path: str) -> None:
    assert unguarded.get(path).status_code == 200


def test_keys_are_in_no_log(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        guarded.get("/tasks", headers=bearer(KEYS[0]))
        guarded.post("/tasks/sentiment/load", headers=bearer(ADMIN_KEY))
        guarded.get("/tasks", headers=bearer("some wrong key"))
    for key in (*KEYS, ADMIN_KEY, "some wrong key"):
        assert key not in caplog.text


def test_the_openapi_document_tells_the_keys_apart(guarded: TestClient, unguarded: TestClient) -> None:
    document = guarded.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer"}
    assert document["paths"]["/tasks/{task}/load"]["post"]["security"] == [{"admin_key": []}]
    assert document["paths"]["/predict/{task}"]["post"]["security"] == [{"client_key": []}]
    assert "security" not in document["paths"]["/health/ready"]["get"]
    document = unguarded.get("/openapi.json").json()
    assert "security" not in document["paths"]["/predict/{task}"]["post"]
    assert document["paths"]["/tasks/{task}/load"]["post"]["security"] == [{"admin_key": []}]
