from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore
from masking import Base
from server.engine.worker import Engine
from tests.support.serving import (
    SPECS,
    TEXT,
)


def test_memory_counts_what_is_held(client: TestClient, base: Base, place: Path) -> None:
    report = client.get("/memory").json()
    store = MaskStore.open(place)
    held_by_base = report["base"]["resident_bytes"]
    assert report["base"]["bytes"] == base.nbytes
    assert held_by_base == base.nbytes + report["base"]["lines_bytes"]
    assert report["tasks"].keys() == SPECS.keys()
    for task, held in report["tasks"].items():
        manifest = store.load(task).manifest
        of_base = [layer for layer in manifest.all_layers() if layer.name != "classifier"]
        assert held["packed_mask_bytes"] == sum(layer.rows * layer.columns // 8 for layer in of_base)
        assert held["head_bytes"] == manifest.head_bytes
        assert held["finetuned_bytes"] == manifest.finetuned_bytes
    resident = report["total"]["resident_bytes"]
    assert resident == held_by_base + sum(held["resident_bytes"] for held in report["tasks"].values())
    assert report["finetuned"]["copies"] == len(SPECS)
    assert report["finetuned"]["ratio"] == round(report["finetuned"]["bytes"] / resident, 4)


def test_metrics_are_prometheus_text(client: TestClient, base: Base) -> None:
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.text.splitlines()
    assert f"maskserve_tasks {float(len(SPECS))}" in lines
    assert "maskserve_ready 1.0" in lines
    assert "maskserve_requests_in_flight 1.0" in lines  # this one
    assert f'maskserve_bytes{{form="base"}} {float(base.nbytes)}' in lines


def test_health(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "tasks": len(SPECS), "problems": 0}


def test_not_ready_while_the_worker_is_dead(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "ready", False)
    assert client.get("/health/live").status_code == 200
    for path in ("/health/ready", "/predict/sentiment/health"):
        reply = client.get(path)
        assert reply.status_code == 503
        assert reply.json() == {"error": "the worker is not running", "error_type": "Unhealthy"}
    assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 503


def test_the_index_names_paths_that_exist(client: TestClient) -> None:
    index = client.get("/").json()
    for name in ("list_tasks", "memory", "metrics", "live", "ready", "openapi", "documentation"):
        assert client.get(index[name]).status_code == 200, name
