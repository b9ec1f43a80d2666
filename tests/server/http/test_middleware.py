import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from masking import Base, load_base
from server.errors import InvalidBodyError
from tests.support.serving import TEXT, fill, serving


@pytest.fixture(scope="module")
def client(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place: Path = tmp_path_factory.mktemp("store")
    base: Base = load_base(tiny_bert)
    fill(place, base, ["sentiment"])
    with serving(base, place) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record.getMessage(), vars(record)["fields"])
        for record in caplog.records
        if record.name == "server.requests"
    ]


def test_each_request_leaves_one_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    body = {"inputs": [[TEXT], [TEXT]]}
    client.post("/predict/sentiment", json=body, headers={"x-request-id": "it-is-me"})
    ((title, fields),) = lines(caplog)
    assert title == "POST /predict/{task}"
    assert fields.pop("milliseconds") > 0
    assert fields == {
        "route": "/predict/{task}",
        "status": 200,
        "request_id": "it-is-me",
        "task": "sentiment",
        "version": 1,
        "rows": 2,
    }


def test_what_a_client_made_up_is_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.post("/predict/made-up", json={"inputs": TEXT}, headers={"x-request-id": "a b"})
    client.get("/made/up")
    told = lines(caplog)
    assert [(title, fields["status"]) for title, fields in told] == [
        ("POST /predict/{task}", 404),
        ("GET (none)", 404),
    ]
    assert "made" not in str(told)
    assert "a b" not in str(told)


def test_only_replies_that_are_no_error_have_timings(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "x-total-time" in client.post("/predict/sentiment", json={"inputs": TEXT}).headers

    def fail(*_: object) -> None:
        raise InvalidBodyError("no")

    monkeypatch.setattr("server.http.routes.predict.render", fail)
    reply = client.post("/predict/sentiment", json={"inputs": TEXT})
    assert (reply.status_code, reply.headers["x-task"]) == (422, "sentiment")
    assert "x-total-time" not in reply.headers


def test_probes_and_scrapes_are_quiet(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    paths = ("/health/live", "/health/ready", "/metrics")
    caplog.set_level(logging.INFO)
    for path in paths:
        client.get(path)
    assert lines(caplog) == []
    caplog.set_level(logging.DEBUG)
    for path in paths:
        client.get(path)
    assert [fields["route"] for _, fields in lines(caplog)] == list(paths)
