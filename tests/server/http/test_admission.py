"""Requests to a server whose queue is full: what is asked before its room, and what is told of a refusal."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from tests.support.serving import TEXT, Stuck, fill, serving, wait_until

KEY = {"authorization": "Bearer client-key"}
ROUTES = ("/predict/{task}", "/hf/{task}")


@pytest.fixture(scope="module")
def full(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place: Path = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    stuck = Stuck()
    with (
        serving(base, place, compute=stuck, queue_limit=1, api_keys=("client-key",)) as client,
        ThreadPoolExecutor(2) as pool,
    ):

        def ask() -> int:
            return client.post("/predict/sentiment", json={"inputs": TEXT}, headers=KEY).status_code

        calls = [pool.submit(ask)]
        assert stuck.started.wait(20)
        calls.append(pool.submit(ask))
        wait_until(lambda: "maskserve_queue_rows 1.0" in client.get("/metrics").text)
        yield client
        stuck.let_go.set()
        assert [call.result() for call in calls] == [200, 200]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("end", ["", "/", "?version=1"])
def test_a_refusal_names_the_version_and_is_counted(full: TestClient, route: str, end: str) -> None:
    series = f'maskserve_requests_total{{route="{route}",status="429",task="sentiment"}} '

    def counted() -> float:
        lines = full.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))

    before = counted()
    reply = full.post(route.format(task="sentiment") + end, content=b"never read", headers=KEY)
    assert (reply.status_code, reply.json()["error_type"]) == (429, "Overloaded")
    assert int(reply.headers["retry-after"]) >= 1
    assert (reply.headers["x-task"], reply.headers["x-task-version"]) == ("sentiment", "1")
    assert reply.headers["x-request-id"]
    assert counted() == before + 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("task", "headers", "status"),
    [
        ("sentiment", {}, 401),
        ("sentiment", {"x-api-key": "wrong"}, 401),
        ("unknown", {}, 401),
        ("unknown", KEY, 404),
        ("sentiment?version=9", KEY, 404),
        ("sentiment?version=x", KEY, 404),
    ],
)
def test_key_task_and_version_come_before_the_room(
    full: TestClient, route: str, task: str, headers: dict[str, str], status: int
) -> None:
    assert full.post(route.format(task=task), content=b"never read", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/predict/sentiment", "/hf/sentiment"])
def test_another_method_is_not_for_the_queue_to_refuse(full: TestClient, path: str) -> None:
    reply = full.get(path, headers=KEY)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
