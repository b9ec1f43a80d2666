import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskBundle, MaskStore, TaskManifest
from masking import Base
from server.build import build_service
from server.http.app import create_app
from tests.support.serving import TEXT, bundle_of, look, serving, settings_of, wait_until

pytestmark = pytest.mark.slow
TASKS = 1000
WITH_METRICS = 20


def name_of(number: int) -> str:
    return f"task-{number:04d}"


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand tasks; nothing is to survive a crash here, so nothing is synced."""
    place, one = tmp_path_factory.mktemp("store"), bundle_of(base, "sentiment")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        store = MaskStore.open(place, create=True)
        assert isinstance(one.manifest, TaskManifest)
        (member,) = one.members
        for number in range(TASKS):
            manifest = one.manifest.model_copy(update={"task": name_of(number)})
            store.publish(MaskBundle.create(manifest, member.masks, member.head))
    return place


@pytest.fixture(scope="module")
def client(base: Base, place: Path) -> Iterator[TestClient]:
    with serving(base, place, metrics_max_tasks=WITH_METRICS) as client:
        yield client


def test_all_are_served(client: TestClient) -> None:
    listed = client.get("/tasks").json()
    assert [entry["task"] for entry in listed["tasks"]] == [name_of(number) for number in range(TASKS)]
    assert listed["not_served"] == []
    for number in range(0, TASKS, 50):
        reply = client.post(f"/predict/{name_of(number)}", json={"inputs": TEXT})
        assert (reply.status_code, reply.headers["x-task"]) == (200, name_of(number))


def test_metrics_name_only_some(client: TestClient) -> None:
    for number in range(0, TASKS, 10):
        client.get(f"/tasks/{name_of(number)}")
    text = client.get("/metrics").text
    assert len(set(re.findall(r'task="(task-\d+)"', text))) == WITH_METRICS
    assert f"maskserve_tasks {float(TASKS)}" in text
    (others,) = re.findall(r'^maskserve_swaps_total\{task="\(other\)"\} (\S+)$', text, re.MULTILINE)
    assert float(others) == TASKS - WITH_METRICS
    assert len(text.splitlines()) < 500


def test_memory_counts_every_one(client: TestClient, base: Base, place: Path) -> None:
    report, manifest = client.get("/memory").json(), MaskStore.open(place).load(name_of(0)).manifest
    assert len(report["tasks"]) == report["finetuned"]["copies"] == TASKS
    of_base = sum(layer.bits // 8 for layer in manifest.all_layers() if layer.name != "classifier")
    total = report["total"]
    assert total["packed_mask_bytes"] == TASKS * of_base
    assert total["resident_bytes"] == base.nbytes + TASKS * (of_base + manifest.head_bytes)


def test_a_start_tells_how_far_it_is(base: Base, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        service = build_service(settings_of(place), base=base)
        with TestClient(create_app(service)):
            wait_until(lambda: service.watcher.first_pass_done)
    assert f"500 of {TASKS} tasks loaded or reported" in caplog.text


def test_a_look_at_what_did_not_change_loads_nothing(
    base: Base, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service(settings_of(place), base=base)
    look(service.watcher)

    def fail(*_: object) -> None:
        raise AssertionError("read a bundle")

    monkeypatch.setattr(MaskStore, "load", fail)
    before = service.registry.tasks
    look(service.watcher)
    assert service.registry.tasks == before
    assert not service.registry.problems
