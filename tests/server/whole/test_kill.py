"""What breaks while the server runs: readiness and the list of tasks tell the truth, the rest answers on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore
from masking import Base, MaskedEncoder
from server.build import build_service
from server.http.app import create_app
from server.service import Service
from tests.support.serving import TEXT, bundle_of, fill, settings_of, wait_until

VICTIM, OTHER = "sentiment", "names"


@dataclass
class Running:
    client: TestClient
    service: Service
    place: Path
    store: MaskStore

    def ready(self) -> bool:
        return bool(self.client.get("/health/ready").status_code == 200)

    def predict(self, task: str) -> Any:
        return self.client.post(f"/predict/{task}", json={"inputs": TEXT})

    def told(self, task: str) -> dict[str, Any]:
        """What GET /tasks says about a task."""
        reply = self.client.get("/tasks").json()
        (entry,) = [line for line in reply["tasks"] + reply["not_served"] if line["task"] == task]
        return dict(entry)


@pytest.fixture
def running(base: Base, tmp_path: Path) -> Iterator[Running]:
    place = tmp_path / "store"
    store = fill(place, base, [VICTIM, OTHER])
    service = build_service(settings_of(place), base=base)
    with TestClient(create_app(service)) as client:
        running = Running(client, service, place, store)
        wait_until(running.ready)
        yield running


def bundle_file(running: Running, task: str) -> Path:
    digest = running.store.current(task).digest.removeprefix("sha256:")
    return running.place / "tasks" / task / "bundles" / f"{digest}.safetensors"


def flip_bytes(file: Path) -> bytes:
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + bytes(byte ^ 0xFF for byte in whole[-4:]))
    return whole


def test_a_killed_worker(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    died, revive = Event(), Event()

    def kill(*_: object) -> None:
        died.set()
        raise SystemExit("killed")

    def hold(*_: object) -> None:
        assert revive.wait(20)

    with monkeypatch.context() as broken:
        broken.setattr(MaskedEncoder, "_hidden", kill)
        broken.setattr("server.build._warm_up", hold)
        assert running.predict(VICTIM).status_code == 503
        assert died.is_set()
        wait_until(lambda: not running.ready())
        assert running.client.get("/health/ready").json()["error"] == "the worker is not running"
        assert running.predict(OTHER).status_code == 503
        assert running.told(VICTIM)["state"] == "serving"
        wait_until(lambda: running.service.engine.worker.restarts == 1)
        assert not running.ready()
    revive.set()
    wait_until(running.ready)
    for task in (VICTIM, OTHER):
        assert running.predict(task).status_code == 200


def test_a_store_that_goes_away_and_comes_back(running: Running, base: Base) -> None:
    away = running.place.rename(running.place.with_name("aside"))
    wait_until(lambda: "maskserve_store_up 0.0" in running.client.get("/metrics").text)
    for task in (VICTIM, OTHER):
        assert running.told(task)["state"] == "serving"
        assert running.predict(task).status_code == 200
    assert running.ready()
    away.rename(running.place)
    wait_until(lambda: "maskserve_store_up 1.0" in running.client.get("/metrics").text)
    running.store.publish(bundle_of(base, VICTIM, seed=1))
    wait_until(lambda: running.predict(VICTIM).headers["x-task-version"] == "2")


@pytest.mark.parametrize("mend", ["rollback", "publish", "repair"])
def test_a_corrupt_version_beside_the_one_served(running: Running, base: Base, mend: str) -> None:
    running.service.lifecycle.pin(VICTIM, 1)  # until the new version is damaged, nobody is to load it
    running.store.publish(bundle_of(base, VICTIM, seed=1))
    file = bundle_file(running, VICTIM)
    whole = flip_bytes(file)
    running.store.release(VICTIM)
    wait_until(lambda: running.told(VICTIM)["problem"] is not None)
    assert running.told(VICTIM)["problem"].startswith("version 2: DigestMismatchError")
    assert running.told(VICTIM)["version"] == 1
    assert running.client.get("/health/ready").json() == {"status": "ready", "tasks": 2, "problems": 1}
    for task in (VICTIM, OTHER):
        assert running.predict(task).headers["x-task-version"] == "1"
    if mend == "rollback":
        running.store.rollback(VICTIM)
    elif mend == "publish":
        running.store.publish(bundle_of(base, VICTIM, seed=2))
    else:
        file.write_bytes(whole)
    wanted = {"rollback": 1, "publish": 3, "repair": 2}[mend]
    wait_until(lambda: running.told(VICTIM)["version"] == wanted and not running.told(VICTIM)["problem"])
    assert running.predict(VICTIM).headers["x-task-version"] == str(wanted)


def test_a_corrupt_version_with_nothing_served_before(running: Running) -> None:
    running.service.lifecycle.unload(VICTIM)
    whole = flip_bytes(bundle_file(running, VICTIM))
    running.store.release(VICTIM)
    wait_until(lambda: VICTIM in running.service.registry.problems)
    assert running.told(VICTIM)["state"] == "failed"
    assert "DigestMismatchError" in running.told(VICTIM)["problem"]
    refused = running.predict(VICTIM)
    assert (refused.status_code, refused.json()["error_type"]) == (503, "Unhealthy")
    assert running.predict(OTHER).status_code == 200
    assert running.ready()
    bundle_file(running, VICTIM).write_bytes(whole)
    wait_until(lambda: running.predict(VICTIM).status_code == 200)
