"""Interpreter: no request leaves the garbage collector anything to find, so that it seldom has to look."""

import asyncio
import gc
import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from masking import Base
from server.engine.room import Room
from server.http.app import create_app
from server.service import Service
from tests.support.serving import TEXT, FailingVersion, fill, started

TIMES = 20
UNKNOWN = 401
KEY = "the-admin-key"
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
REQUESTS: dict[str, tuple[str, str, object, int]] = {
    "predict": ("POST", "/predict/sentiment", {"inputs": TEXT}, 200),
    "words": ("POST", "/predict/names", {"tokens": ["anna", "works"]}, 200),
    "long body": ("POST", "/predict/sentiment", {"inputs": "a " * 9000, "truncate": True}, 200),
    "Hugging Face": ("POST", "/hf/sentiment", {"inputs": TEXT}, 200),
    "fan-out": ("POST", "/predict", {"inputs": TEXT, "tasks": ["sentiment", "topics"]}, 200),
    "rows": ("POST", "/predict", {"inputs": [{"task": "sentiment", "inputs": TEXT}]}, 200),
    "Open Inference Protocol": ("POST", "/v2/models/sentiment/infer", {"inputs": [TENSOR]}, 200),
    "embeddings": ("POST", "/v1/embeddings", {"model": "semantic", "input": TEXT}, 200),
    "liveness": ("GET", "/health/live", None, 200),
    "tasks": ("GET", "/tasks", None, 200),
    "pin": ("POST", "/tasks/topics/pin", {"version": 1}, 200),
    "wrong key": ("POST", "/tasks/topics/unload", None, UNKNOWN),
    "wrong upload": ("PUT", "/tasks/topics", "no bundle", 422),
    "wrong version": ("POST", "/tasks/topics/rollback", {"version": 7}, 409),
    "unknown task": ("POST", "/predict/nothing", {"inputs": TEXT}, 404),
    "wrong input": ("POST", "/predict/sentiment", {"inputs": 3}, 422),
    "too long": ("POST", "/predict/sentiment", {"inputs": "a " * 90}, 422),
    "failed": ("POST", "/predict/rating", {"inputs": TEXT}, 424),
    "nothing there": ("GET", "/nothing", None, 404),
}


class Exchange:
    """One request as an ASGI server hands it over: what reads the body knows the scope."""

    def __init__(self, method: str, path: str, body: object, key: str) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self._content: bytes | None = content
        self.status = 0
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"test"),
                (b"content-length", b"%d" % len(content)),
                (b"x-api-key", key.encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }

    async def receive(self) -> dict[str, Any]:
        content, self._content = self._content, None
        if content is None:  # the client stays
            await asyncio.Event().wait()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)

    async def run(self, app: FastAPI) -> int:
        await app(self.scope, self.receive, self.send)
        return self.status


@pytest.fixture(scope="module")
def service(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("store")
    store = fill(place, base, ["sentiment", "names", "topics", "semantic", "rating"])
    failing = FailingVersion(base, store.current("rating").digest)
    with started(base, place, compute=failing, poll_seconds=60, admin_key=KEY) as service:
        yield service


@pytest.fixture
def only_asked() -> Iterator[None]:
    """The collector collects when it is asked, and keeps what it finds."""
    gc.disable()
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def cyclic_objects(app: FastAPI, method: str, path: str, body: object, status: int) -> float:
    """Objects for each request that only the collector can free."""
    key = "" if status == UNKNOWN else KEY

    async def ask() -> None:
        for _ in range(TIMES):
            assert await Exchange(method, path, body, key).run(app) == status
        await asyncio.sleep(0.01)  # what was scheduled has run, and is let go

    async def measure() -> int:
        await ask()  # the first ones make what stays
        gc.collect()
        await ask()
        gc.set_debug(gc.DEBUG_SAVEALL)
        return gc.collect()

    return asyncio.run(measure()) / TIMES


@pytest.mark.usefixtures("only_asked")
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_freed_without_the_collector(service: Service, name: str) -> None:
    assert cyclic_objects(create_app(service), *REQUESTS[name]) < 1


@pytest.mark.usefixtures("only_asked")
def test_a_refusal_is_freed_without_the_collector(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "rows", 1 << 20)
    assert cyclic_objects(create_app(service), "POST", "/predict/sentiment", {"inputs": TEXT}, 429) < 1


@pytest.mark.parametrize(("collections", "looked"), [(9, False), (10, True)])
def test_what_a_large_body_left_is_looked_at_piece_by_piece(
    service: Service, monkeypatch: pytest.MonkeyPatch, collections: int, looked: bool
) -> None:
    generations = list[int]()
    monkeypatch.setattr("gc.get_count", lambda: (0, collections, 0))
    monkeypatch.setattr("gc.collect", generations.append)
    run_by_size = service.predictor.run_by_size
    assert asyncio.run(run_by_size(100, lambda: "few")) == "few"
    assert not generations
    assert asyncio.run(run_by_size(1 << 20, lambda: "many")) == "many"
    assert generations == [1] * looked
