"""Residency, whole: more tasks in service than masks in memory."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from fastapi.testclient import TestClient

import server.tasks.watcher
from mask_store import MaskStore, VersionInfo
from mask_store.store.records import bundle_path
from masking import Base, load_task
from server.build import build_service
from server.engine.pending import Timings
from server.service import Service
from tests.support.counting import StoreReads
from tests.support.models import random_bundle
from tests.support.server_parts import SINGLE
from tests.support.serving import TEXT, predict, serving, settings_of, started, texts, wait_until

NAMES = tuple(f"task-{number}" for number in range(6))


def publish(store: MaskStore, base: Base, name: str, *, seed: int = 0) -> VersionInfo:
    return store.publish(random_bundle(base, SINGLE, task=name, seed=seed))


@pytest.fixture
def store(base: Base, tmp_path: Path) -> MaskStore:
    store = MaskStore.open(tmp_path / "store", create=True)
    for name in NAMES:
        publish(store, base, name)
    return store


@pytest.fixture(scope="module")
def size(base: Base) -> int:
    return load_task(random_bundle(base, SINGLE, task="any"), base).nbytes


@pytest.fixture
def client(base: Base, store: MaskStore, size: int) -> Iterator[TestClient]:
    """Room for two of six."""
    with serving(base, Path(str(store)), mask_memory=2 * size) as client:
        yield client


def ask(client: TestClient, name: str) -> object:
    reply = client.post(f"/predict/{name}", json={"inputs": TEXT})
    assert reply.status_code == 200, reply.text
    return reply.json()


def masks_of(client: TestClient) -> dict[str, str]:
    return {task["task"]: task["masks"] for task in client.get("/tasks").json()["tasks"]}


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def bundle_file(store: MaskStore, name: str) -> Path:
    return Path(str(store)) / bundle_path(name, store.current(name).digest)


def test_all_tasks_answer_and_few_are_in_memory(
    client: TestClient, base: Base, store: MaskStore, size: int
) -> None:
    with serving(base, Path(str(store))) as other:
        expected = {name: ask(other, name) for name in NAMES}
        assert set(masks_of(other).values()) == {"ready"}
    for _ in range(2):
        for name in NAMES:
            assert json.dumps(ask(client, name)) == json.dumps(expected[name])
            assert metric(client, "maskserve_mask_bytes") <= 2 * size
    assert masks_of(client) == {name: "ready" if name in NAMES[-2:] else "cold" for name in NAMES}
    held = client.get("/memory").json()
    assert held["mask_memory_bytes"] == 2 * size
    assert held["total"]["resident_bytes"] == held["base"]["resident_bytes"] + 2 * size
    assert [held["tasks"][name]["resident_bytes"] for name in NAMES] == [0, 0, 0, 0, size, size]
    numbers = {state: metric(client, f"maskserve_{state}_tasks") for state in ("ready", "cold", "loading")}
    assert numbers == {"ready": 2, "cold": 4, "loading": 0}
    assert metric(client, "maskserve_tasks") == len(NAMES)
    assert metric(client, 'maskserve_mask_lookups_total{result="miss"}') >= 10
    assert metric(client, "maskserve_mask_evictions_total") >= 8


def test_a_reply_tells_that_it_waited_for_masks(client: TestClient) -> None:
    cold = next(name for name, masks in masks_of(client).items() if masks == "cold")
    assert client.get(f"/tasks/{cold}").json()["masks"] == "cold"
    replies = [client.post(f"/predict/{cold}", json={"inputs": TEXT}) for _ in range(2)]
    assert ["x-mask-load-time" in reply.headers for reply in replies] == [True, False]
    assert client.get(f"/tasks/{cold}").json()["masks"] == "ready"


def test_clients_at_once_get_all_answers(client: TestClient) -> None:
    with ThreadPoolExecutor(12) as clients:
        replies = list(clients.map(lambda number: ask(client, NAMES[number % len(NAMES)]), range(60)))
    assert len(replies) == 60


def test_a_body_for_all_tasks_is_answered(client: TestClient) -> None:
    reply = client.post("/predict", json={"tasks": "*", "inputs": TEXT})
    assert reply.status_code == 200
    assert [result["task"] for result in reply.json()] == list(NAMES)
    for result in reply.json():
        alone = client.post(f"/predict/{result['task']}", json={"inputs": TEXT}).json()
        assert [one["label"] for one in result["predictions"]] == [one["label"] for one in alone]


def test_rows_of_all_tasks_are_answered(client: TestClient) -> None:
    rows = [{"task": name, "inputs": TEXT} for name in NAMES * 3]
    results = client.post("/predict", json={"inputs": rows}).json()
    assert [result["task"] for result in results] == list(NAMES * 3)
    assert all("predictions" in result for result in results)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_cold_bundle_that_can_not_be_read_is_told_and_reported(
    client: TestClient, store: MaskStore, damage: str
) -> None:
    cold = next(name for name, masks in masks_of(client).items() if masks == "cold")
    file = bundle_file(store, cold)
    contents = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(contents[:-1] + b"\xaa")
    reply = client.post(f"/predict/{cold}", json={"inputs": TEXT})
    assert reply.status_code == 503
    kind = "MissingBundleError" if damage == "gone" else "DigestMismatchError"
    assert f"task '{cold}' could not be loaded: version 1: {kind}" in reply.json()["error"]
    (told,) = [task for task in client.get("/tasks").json()["tasks"] if task["task"] == cold]
    assert kind in told["problem"]
    assert metric(client, "maskserve_task_problems") == 1
    both = client.post("/predict", json={"tasks": [cold, NAMES[-1]], "inputs": TEXT}).json()
    assert kind in both[0]["error"]
    assert "predictions" in both[1]
    file.write_bytes(contents)
    wait_until(lambda: client.post(f"/predict/{cold}", json={"inputs": TEXT}).status_code == 200)
    assert metric(client, "maskserve_task_problems") == 0


def _is_at_version_2(client: TestClient, name: str) -> bool:
    return bool(client.get(f"/tasks/{name}").json()["version"] == 2)


def test_a_new_version_of_a_ready_task_is_ready_and_of_a_cold_one_is_not(
    client: TestClient, base: Base, store: MaskStore
) -> None:
    ask(client, NAMES[0])
    ask(client, NAMES[1])
    for name in (NAMES[0], NAMES[5]):
        publish(store, base, name, seed=7)
        wait_until(partial(_is_at_version_2, client, name))
    states = masks_of(client)
    assert (states[NAMES[0]], states[NAMES[1]], states[NAMES[5]]) == ("ready", "ready", "cold")
    ask(client, NAMES[5])


def test_required_tasks_stay_and_come_first(base: Base, store: MaskStore, size: int) -> None:
    with serving(base, Path(str(store)), mask_memory=2 * size, require_task=[NAMES[3]]) as client:
        for name in NAMES:
            ask(client, name)
        assert masks_of(client)[NAMES[3]] == "ready"


def test_required_tasks_have_to_fit(base: Base, store: MaskStore, size: int) -> None:
    with started(base, Path(str(store)), mask_memory=2 * size, require_task=NAMES[:2]) as service:
        assert service.why_not_ready() is None
    little = settings_of(Path(str(store)), mask_memory=size, require_task=NAMES[:2])
    service = build_service(little, base=base)
    service.start()
    try:
        wait_until(lambda: service.watcher.first_pass_done and service.engine.ready)
        assert "has no masks in memory: there was no room for them" in (service.why_not_ready() or "")
    finally:
        service.close()


def test_a_pin_keeps_masks_and_load_brings_them(base: Base, store: MaskStore, size: int) -> None:
    with started(base, Path(str(store)), mask_memory=2 * size) as service:
        service.lifecycle.pin(NAMES[4], 1)
        state = service.masks.state
        for name in NAMES[:4]:
            asyncio.run(predict(service, texts(TEXT), task=name))
        digest = service.registry.get(NAMES[4]).digest
        assert state(digest) == "ready"
        other = service.lifecycle.load(NAMES[5])
        assert state(other.digest) == "ready"


def test_the_server_is_ready_before_all_masks_are(
    base: Base, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.tasks.watcher, "_EAGER_SECONDS", 0.0)
    go_on, load = Event(), MaskStore.load

    def slow(self: MaskStore, task: str | VersionInfo, number: int | None = None) -> object:
        name = task if isinstance(task, str) else task.task
        assert name == NAMES[2] or go_on.wait(30)
        return load(self, task, number)

    monkeypatch.setattr(MaskStore, "load", slow)
    with started(base, Path(str(store)), require_task=[NAMES[2]]) as service:
        assert service.registry.served == len(NAMES)
        states = [service.masks.state(service.registry.get(name).digest) for name in NAMES]
        assert states[2] == "ready"
        assert states.count("ready") == 1
        go_on.set()
        wait_until(lambda: service.masks.ready == len(NAMES))  # they follow without requests
        asyncio.run(predict(service, texts(TEXT), task=NAMES[0]))


def test_a_change_of_one_task_reads_that_task_only(
    base: Base, store: MaskStore, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(base, Path(str(store)), mask_memory=2 * size) as service:
        reads = StoreReads(monkeypatch)
        publish(store, base, NAMES[1], seed=3)
        wait_until(lambda: service.registry.get(NAMES[1]).version == 2)
        bundles = [path for path in reads.paths if "/bundles/" in path]
        assert {path.split("/")[1] for path in bundles} == {NAMES[1]}
        assert len(bundles) == 1
        reads.clear()
        for name in (*NAMES, *NAMES[-2:]):
            asyncio.run(predict(service, texts(TEXT), task=name))
        assert sum("/bundles/" in path for path in reads.paths) <= len(NAMES)


def test_a_request_keeps_its_version_though_another_is_served(
    base: Base, store: MaskStore, size: int
) -> None:
    async def answer(service: Service) -> None:
        before = service.registry.get(NAMES[0])
        publish(store, base, NAMES[0], seed=9)
        await asyncio.to_thread(wait_until, lambda: service.registry.get(NAMES[0]).version == 2)
        timings = Timings()
        await service.predictor.predict(before, texts(TEXT), "old", timings)
        assert timings.tokenized > 0  # its masks were gone, and came back for it
        assert service.masks.state(before.digest) == "cold"

    with started(base, Path(str(store)), mask_memory=2 * size) as service:
        asyncio.run(answer(service))
