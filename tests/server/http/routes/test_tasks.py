from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mask_store import BinInfo, ClassInfo, EvaluationInfo, MaskBundle, MaskStore, TaskManifest
from masking import Base, load_base
from tests.support.models import finetuned, sign_bundle, tiny_base
from tests.support.serving import (
    SPECS,
    TEXT,
    bundle_of,
    expected_scores,
    fill,
    scores_in,
    serving,
    wait_until,
)


def test_every_task_is_listed(client: TestClient, place: Path) -> None:
    listed = client.get("/tasks").json()
    assert [entry["task"] for entry in listed["tasks"]] == sorted(SPECS)
    assert listed["not_served"] == []
    for entry in listed["tasks"]:
        assert entry["kind"] == SPECS[entry["task"]].kind
        assert entry["labels"] == len(SPECS[entry["task"]].labels)
        assert entry["version"] == 1
        assert entry["digest"] == MaskStore.open(place).current(entry["task"]).digest
        assert entry["problem"] is None
        assert entry["pair"] == SPECS[entry["task"]].pair
        assert (entry["metric"], entry["metric_value"]) == ("accuracy", 0.5)


def test_the_list_tells_how_busy_a_task_is_and_how_slow(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "rating"])
    with serving(base, tmp_path) as client:
        for _ in range(3):
            assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
        listed = {entry["task"]: entry for entry in client.get("/tasks").json()["tasks"]}
    assert (listed["rating"]["requests_per_second"], listed["rating"]["p95_ms"]) == (0, None)
    assert listed["sentiment"]["requests_per_second"] == pytest.approx(0.1)
    assert listed["sentiment"]["p95_ms"] > 0


@pytest.mark.parametrize("task", SPECS)
def test_a_task_tells_what_its_manifest_says(client: TestClient, place: Path, task: str) -> None:
    bundle = MaskStore.open(place).load(task)
    manifest, details = bundle.manifest, client.get(f"/tasks/{task}").json()
    assert isinstance(manifest, TaskManifest)
    assert details["labels"] == list(manifest.labels)
    assert details["pair"] == manifest.pair
    assert details["metrics"] == manifest.metrics
    assert details["digest"] == bundle.digest
    assert details["sparsity"] == pytest.approx(manifest.sparsity)
    assert details["flipped_share"] == pytest.approx(manifest.flipped_share)
    assert details["mask_bytes"] == manifest.mask_bytes
    assert details["max_length"] == manifest.max_length
    assert details["seed"] == 0
    assert details["metric"] == "accuracy"
    assert details["base_checked"] == ["weights", "tokenizer", "configuration"]
    assert details["ensemble"] is None


def test_a_task_tells_how_it_answered_its_dev_set(base: Base, tmp_path: Path) -> None:
    plain = bundle_of(base, "sentiment")
    figures = ClassInfo(precision=0.5, recall=1.0, f1=2 / 3, count=2)
    told = EvaluationInfo(
        metric="accuracy",
        examples=6,
        baseline=1 / 3,
        baseline_answer="'bad' for everything",
        classes=(figures,) * 3,
        confusion=((2, 0, 0), (1, 1, 0), (1, 0, 1)),
        calibration_error=0.25,
        bins=(BinInfo(low=0.5, high=0.6, count=6, confidence=0.55, accuracy=0.8),),
    )
    manifest = plain.manifest.model_copy(update={"evaluation": told})
    assert isinstance(manifest, TaskManifest)
    store = fill(tmp_path, base, ["sentiment"])
    store.publish(MaskBundle.create(manifest, plain.members[0].masks, plain.members[0].head))
    store.publish(bundle_of(base, "names"))
    with serving(base, tmp_path) as client:
        details, other = (client.get(f"/tasks/{task}").json() for task in ("sentiment", "names"))
    assert details["evaluation"] == told.model_dump(mode="json")
    assert other["evaluation"] is None


def test_an_ensemble_names_its_members_and_its_rule(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, ["sentiment"])
    store.publish(bundle_of(base, "sentiment", seed=1))
    store.publish_ensemble("both", "probabilities", [("sentiment", 1), ("sentiment", 2)])
    with serving(base, tmp_path) as client:
        details = client.get("/tasks/both").json()
        answer = client.post("/predict/both", json={"inputs": TEXT}).json()
        held = client.get("/memory").json()["tasks"]
    assert (details["seed"], details["metric"], details["training"]) == (None, None, None)
    assert details["mask_bytes"] == 2 * store.load("sentiment").manifest.mask_bytes
    assert details["ensemble"]["combine"] == "probabilities"
    members = [(m["task"], m["version"], m["digest"], m["seed"]) for m in details["ensemble"]["members"]]
    assert members == [("sentiment", v.number, v.digest, v.number - 1) for v in store.versions("sentiment")]
    assert all(member["metrics"] == {"accuracy": 0.5} for member in details["ensemble"]["members"])
    alone = [expected_scores(base, store.load("sentiment", number)) for number in (1, 2)]
    means = {label: (alone[0][label] + alone[1][label]) / 2 for label in alone[0]}
    assert scores_in(answer) == pytest.approx(means, abs=1e-5)
    assert held["both"]["members"] == 2
    for size in ("packed_mask_bytes", "head_bytes", "finetuned_bytes"):
        assert held["both"][size] == 2 * held["sentiment"][size]


def test_an_unknown_task_is_helped(client: TestClient) -> None:
    reply = client.get("/tasks/endungs")
    assert reply.status_code == 404
    assert "did you mean 'endings'?" in reply.json()["error"]


def _not_served(client: TestClient) -> dict[str, Any]:
    return {entry["task"]: entry for entry in client.get("/tasks").json()["not_served"]}


def test_trouble_with_some_tasks_is_reported_and_others_answer(base: Base, tmp_path: Path) -> None:
    place = tmp_path / "store"
    store = fill(place, base, ["names", "sentiment"])
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    store.publish(bundle_of(other, "endings"))
    (bundle,) = (place / "tasks" / "names" / "bundles").iterdir()
    bundle.chmod(0o644)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with serving(base, place) as client:
        problems = _not_served(client)
        assert problems.keys() == {"endings", "names"}
        assert "BaseMismatchError" in problems["endings"]["problem"]
        refused = client.post("/predict/names", json={"tokens": ["anna"]})
        assert (refused.status_code, refused.json()["error_type"]) == (503, "Unhealthy")
        assert str(tmp_path) not in refused.text + client.get("/tasks").text
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
        store.publish(bundle_of(base, "names", seed=1))
        wait_until(lambda: client.post("/predict/names", json={"tokens": ["anna"]}).status_code == 200)
        assert _not_served(client).keys() == {"endings"}


def test_a_broken_new_version_is_reported_beside_the_one_served(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, ["sentiment"])
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    with serving(base, tmp_path) as client:
        store.publish(bundle_of(other, "sentiment"))
        wait_until(lambda: client.get("/tasks/sentiment").json()["problem"] is not None)
        details = client.get("/tasks/sentiment").json()
        assert details["version"] == 1
        assert details["problem"].startswith("version 2: BaseMismatchError")
        assert client.get("/tasks").json()["tasks"][0]["problem"] == details["problem"]
        reply = client.post("/predict/sentiment", json={"inputs": TEXT})
        assert reply.headers["x-task-version"] == "1"


def test_a_bundle_that_knows_the_weights_of_its_base_alone_is_served_and_told(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = base.info.model_copy(update={"tokenizer": None, "configuration": None})
    fill(tmp_path, replace(base, info=info), ["sentiment"])
    with serving(base, tmp_path) as client:
        assert client.get("/tasks/sentiment").json()["base_checked"] == ["weights"]
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
    assert sum("task sentiment: its bundle is of a release" in line for line in caplog.messages) == 1


def test_a_task_learned_with_another_tokenizer_is_not_served(base: Base, tmp_path: Path) -> None:
    info = base.info.model_copy(update={"name": "cased", "tokenizer": "sha256:" + "0" * 64})
    fill(tmp_path, replace(base, info=info), ["sentiment"])
    with serving(base, tmp_path) as client:
        problem = _not_served(client)["sentiment"]["problem"]
    assert "learned on base 'cased', not on base 'tiny-bert', which differs in tokenizer" in problem


def test_a_store_that_vanishes_and_comes_back(base: Base, tmp_path: Path) -> None:
    place, away = tmp_path / "store", tmp_path / "away"
    store = fill(place, base, ["sentiment"])
    with serving(base, place) as client:
        place.rename(away)
        wait_until(lambda: "maskserve_store_up 0.0" in client.get("/metrics").text)
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
        assert client.get("/health/ready").status_code == 200
        away.rename(place)
        digest = store.publish(bundle_of(base, "sentiment", seed=1)).digest
        wait_until(lambda: client.get("/tasks/sentiment").json()["digest"] == digest)
        assert "maskserve_store_up 1.0" in client.get("/metrics").text


def test_signs_are_served_beside_masks_and_tell_what_copy_they_are_of(
    base: Base, tiny_bert: str, tmp_path: Path
) -> None:
    store = fill(tmp_path / "store", base, ["sentiment"])
    store.publish(sign_bundle(base, finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")))
    with serving(base, tmp_path / "store") as client:
        details = client.get("/tasks/copied").json()
        answer = client.post("/predict/copied", json={"inputs": TEXT}).json()
        masked = client.get("/tasks/sentiment").json()
    assert details["signs"]["name"] == "copy"
    assert details["sparsity"] is details["flipped_share"] is details["seed"] is None
    assert masked["signs"] is None
    assert scores_in(answer) == pytest.approx(expected_scores(base, store.load("copied")), abs=1e-5)
