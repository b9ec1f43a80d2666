from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import maskserve
from mask_store import MaskStore, StoreNotFoundError
from masking import Base, load_base
from tests.support.models import COPY_LABELS, finetuned
from tests.support.serving import fill, wait_until
from training.errors import OptionsError


def test_a_store_is_opened_or_made(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        maskserve.open_store(tmp_path / "masks")
    assert isinstance(maskserve.open_store(tmp_path / "masks", create=True), MaskStore)
    assert maskserve.open_store(tmp_path / "masks").tasks() == ()


def test_wrong_options_of_learning_are_all_named() -> None:
    with pytest.raises(OptionsError) as raised:
        maskserve.learn(task="x", kind="sequence-classification", base="b", epochs=0, batch_size=0)
    assert "--epochs" in str(raised.value)
    assert "--batch-size" in str(raised.value)


def test_learning_is_given_the_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    given: dict[str, Any] = {"task": "x", "kind": "sequence-classification", "base": "b", "store": "s"}
    given |= {"train": str(rows), "dev": str(rows)}
    received: list[Any] = []
    monkeypatch.setattr("training.learn", lambda *options, callbacks: received.extend([*options, callbacks]))
    maskserve.learn(**given)
    assert received == [maskserve.LearnOptions(**given), ()]


def test_the_server_is_an_asgi_application(tiny_bert: str, tmp_path: Path) -> None:
    fill(tmp_path / "masks", load_base(tiny_bert), ["sentiment"])
    app = maskserve.create_app(base=tiny_bert, store=str(tmp_path / "masks"), device="cpu", threads=1)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200, 60)
        answer = client.post("/predict/sentiment", json={"inputs": "good"}).json()
    assert {entry["label"] for entry in answer} == {"bad", "good", "mixed"}


def test_the_server_leaves_cores_free_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("server.threads.compute.leave_cores_free", lambda: calls.append("threads"))
    monkeypatch.setattr("server.build_service", lambda _: calls.append("service"))
    monkeypatch.setattr("server.create_app", lambda _: None)
    maskserve.create_app(base="b", store="s")
    assert calls == ["threads", "service"]


def test_a_finetuned_model_becomes_a_task(base: Base, tiny_bert: str, tmp_path: Path) -> None:
    model = finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")
    report = maskserve.import_model(model, base=base, task="mood", store=tmp_path / "store", factor=1.0)
    assert (report.version, report.factor, report.compared) == (1, 1.0, None)
    tasks = maskserve.load(base, store=tmp_path / "store")
    assert {one["label"] for one in tasks("mood", "a great film")} == set(COPY_LABELS)
