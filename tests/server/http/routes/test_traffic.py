from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore, StoreNotWritableError, TrafficPlan
from masking import Base, MaskedEncoder, TaskSpec, TextInput, load_base
from masking.tasks.predictions import Floats
from server.service import Service
from tests.support.models import random_bundle, tiny_base
from tests.support.server_parts import TaskBatches
from tests.support.serving import (
    SPECS,
    TEXT,
    FailingVersion,
    bundle_of,
    expected_scores,
    fill,
    scores_in,
    serving,
    wait_until,
)

KEY = "admin"
TASK = "sentiment"
ROUTE = f"/tasks/{TASK}/traffic"
HALF = {"weights": {"1": 50, "2": 50}, "stable": 1}


@pytest.fixture
def store(base: Base, tmp_path: Path) -> MaskStore:
    store = fill(tmp_path, base, [TASK])
    store.publish(bundle_of(base, TASK, seed=1))
    return store


@pytest.fixture
def client(base: Base, store: MaskStore, tmp_path: Path) -> Iterator[TestClient]:
    with serving(base, tmp_path, admin_key=KEY, poll_seconds=0.05) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


def put(client: TestClient, plan: dict[str, Any], task: str = TASK) -> dict[str, Any]:
    reply = client.put(f"/tasks/{task}/traffic", json=plan)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def traffic(client: TestClient) -> dict[str, Any]:
    told: dict[str, Any] = client.get(ROUTE).json()
    return told


def version(client: TestClient, query: str = "", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = client.post(f"/predict/{TASK}{query}", json={"inputs": TEXT}, headers=named)
    assert reply.status_code == 200, reply.text
    return int(reply.headers["x-task-version"])


def shares(client: TestClient, requests: int, **headers: str) -> Counter[int]:
    return Counter(version(client, **headers) for _ in range(requests))


def test_without_traffic_the_current_version_is_served(client: TestClient) -> None:
    assert traffic(client) == {
        "task": TASK,
        "active": False,
        "stable": None,
        "versions": [],
        "shadow": None,
        "abort": None,
        "since": None,
        "aborted": None,
        "followed": False,
    }
    assert client.get(f"/tasks/{TASK}/versions").json()["traffic"] is None
    assert shares(client, 5) == {2: 5}


def test_requests_are_shared_by_weight_and_answered_by_the_version_told(
    client: TestClient, base: Base
) -> None:
    told = put(client, {"weights": {"1": 75, "2": 25}, "stable": 1})
    assert (told["active"], told["followed"], told["stable"]) == (True, True, 1)
    expected = {number: expected_scores(base, bundle_of(base, TASK, seed=number - 1)) for number in (1, 2)}
    seen = Counter[int]()
    for _ in range(40):
        reply = client.post(f"/predict/{TASK}", json={"inputs": TEXT})
        number = int(reply.headers["x-task-version"])
        seen[number] += 1
        assert scores_in(reply.json()) == pytest.approx(expected[number], abs=1e-5)
    assert abs(seen[2] - 10) <= 1
    counted = {one["version"]: one["rows"] for one in traffic(client)["versions"]}
    assert counted == seen


def test_a_key_meets_the_same_version_again(client: TestClient) -> None:
    put(client, HALF)
    by_key = {key: version(client, x_sticky_key=key) for key in map(str, range(20))}
    assert {*by_key.values()} == {1, 2}
    for key, met in by_key.items():
        assert shares(client, 3, x_sticky_key=key) == {met: 3}
    rows = {"inputs": [{"task": TASK, "inputs": TEXT}] * 4}
    for body in (rows, {"inputs": TEXT, "tasks": [TASK]}):
        many = client.post("/predict", json=body, headers={"x-sticky-key": "7"}).json()
        assert {row["version"] for row in many} == {by_key["7"]}


def test_rows_of_many_tasks_are_shared_too(client: TestClient) -> None:
    put(client, HALF)
    rows = [{"task": TASK, "inputs": TEXT}] * 20
    seen = Counter(row["version"] for row in client.post("/predict", json={"inputs": rows}).json())
    assert abs(seen[1] - 10) <= 1
    fan_out = [client.post("/predict", json={"inputs": TEXT, "tasks": "*"}).json() for _ in range(10)]
    assert abs(sum(reply[0]["version"] == 1 for reply in fan_out) - 5) <= 1


def test_a_version_is_asked_by_name(client: TestClient, base: Base) -> None:
    put(client, {"weights": {"2": 100, "1": 0}})
    assert shares(client, 5) == {2: 5}
    for number in (1, 2):
        assert version(client, f"?version={number}") == number
        reply = client.post(f"/hf/{TASK}?version={number}", json={"inputs": TEXT})
        assert reply.headers["x-task-version"] == str(number)
        assert client.get(f"/tasks/{TASK}?version={number}").json()["version"] == number


@pytest.mark.parametrize("name", ["3", "0", "-1", "01", "one", "", "99999999999999999999", "1.0"])
def test_a_version_that_is_not_in_service_is_not_found(client: TestClient, name: str) -> None:
    put(client, HALF)
    for reply in (
        client.post(f"/predict/{TASK}?version={name}", json={"inputs": TEXT}),
        client.get(f"/tasks/{TASK}?version={name}"),
    ):
        assert (reply.status_code, reply.json()["error_type"]) == (404, "NotFound")
    if name == "3":
        assert reply.json()["error"] == (
            "task 'sentiment' is served in versions 1, 2; no other version can be asked for"
        )


def test_versions_of_the_open_inference_protocol(client: TestClient) -> None:
    put(client, {"weights": {"2": 100, "1": 0}})
    model = f"/v2/models/{TASK}"
    assert client.get(model).json()["versions"] == ["1", "2"]
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]}
    for path, answering in ((model, "2"), (f"{model}/versions/1", "1"), (f"{model}/versions/2", "2")):
        reply = client.post(f"{path}/infer", json=body)
        assert (reply.json()["model_version"], reply.headers["x-task-version"]) == (answering, answering)
        assert client.get(f"{path}/ready").status_code == 200
        assert client.get(path).headers["x-task-version"] == answering
    for missing in ("3", "x", "01"):
        assert client.get(f"{model}/versions/{missing}/ready").status_code == 404
        assert client.post(f"{model}/versions/{missing}/infer", json=body).status_code == 404
    statistics = client.get("/v2/models/stats").json()["model_stats"]
    assert {one["version"]: one["inference_count"] for one in statistics} == {"1": 1, "2": 2}


def test_a_shadow_is_computed_in_the_same_batch_and_not_returned(
    base: Base, store: MaskStore, tmp_path: Path
) -> None:
    batches = list[set[str]]()
    real = MaskedEncoder(base).logits

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        batches.append({one.task.digest for one in batch})
        return real(batch)

    with serving(base, tmp_path, compute=compute, admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        put(client, {"shadow": 1})
        replies = [client.post(f"/predict/{TASK}", json={"inputs": [[TEXT], ["no"]]}) for _ in range(3)]
        wait_until(lambda: traffic(client)["shadow"]["rows"] == 6)
        told = traffic(client)["shadow"]
    assert {reply.headers["x-task-version"] for reply in replies} == {"2"}
    assert [*batches] == [{store.version(TASK, number).digest for number in (1, 2)}] * 3
    bundles = [bundle_of(base, TASK, seed=seed) for seed in (0, 1)]
    agree, apart = list[bool](), list[float]()
    for text in (TextInput(TEXT), TextInput("no")):
        one, other = (expected_scores(base, bundle, text) for bundle in bundles)
        agree.append(max(one, key=one.__getitem__) == max(other, key=other.__getitem__))
        apart.append(max(abs(one[label] - other[label]) for label in one))
    assert told["version"] == 1
    assert told["agreement"] == pytest.approx(np.mean(agree))
    assert told["difference"] == pytest.approx(np.mean(apart), abs=1e-5)
    assert (told["failed_rows"], told["skipped_rows"]) == (0, 0)


def test_a_fan_out_has_shadows_too(client: TestClient) -> None:
    put(client, {"shadow": 1})
    client.post("/predict", json={"inputs": TEXT, "tasks": "*"})
    rows = [{"task": TASK, "inputs": TEXT}] * 3
    client.post("/predict", json={"inputs": rows})
    wait_until(lambda: traffic(client)["shadow"]["rows"] == 4)


@pytest.mark.parametrize(
    ("plan", "status", "message"),
    [
        ({}, 422, "expected `weights`, `shadow` or both"),
        ({"weights": {"1": 90, "2": 20}}, 422, "have to be 100 together, not 110"),
        ({"weights": {"1": 50}}, 422, "have to be 100 together, not 50"),
        ({"weights": {"1": -10, "2": 110}}, 422, "weights.1: Input should be greater than or equal to 0"),
        ({"weights": {"1": 101}}, 422, "weights.1: Input should be less than or equal to 100"),
        ({"weights": {"latest": 100}}, 422, "valid integer"),
        ({"weights": {"2": "100"}}, 422, "valid number"),
        ({"shadow": 1, "canary": 2}, 422, "canary"),
        ({"weights": {"2": 100}, "abort": {"agreement": 0.9}}, 422, "there is none"),
        ({"weights": {"2": 50, "9": 50}}, 404, "no version 9, it has 1, 2"),
        ({"shadow": 9}, 404, "no version 9, it has 1, 2"),
        ({"shadow": 2}, 409, "version 2 is the stable one and can't be compared with itself"),
        ({"weights": {"1": 100}}, 409, "version 2, which is current, is not among the weights"),
        ({"weights": {"1": 100}, "stable": 2}, 409, "the stable version 2 has no weight"),
    ],
)
def test_a_plan_that_is_refused_changes_nothing(
    client: TestClient, store: MaskStore, plan: dict[str, Any], status: int, message: str
) -> None:
    reply = client.put(ROUTE, json=plan)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["error"]
    assert store.traffic(TASK) is None
    assert not traffic(client)["active"]


def test_what_does_not_fit_the_base_or_the_task_is_refused(
    client: TestClient, store: MaskStore, base: Base, tmp_path: Path
) -> None:
    other = load_base(tiny_base(tmp_path / "other", "bert", seed=7))
    store.publish(random_bundle(other, SPECS[TASK], task=TASK))
    reply = client.put(ROUTE, json={"weights": {"2": 90, "3": 10}, "stable": 2})
    assert (reply.status_code, "base" in reply.json()["error"]) == (422, True)
    store.publish(random_bundle(base, SPECS["names"], task=TASK))
    reply = client.put(ROUTE, json={"weights": {"2": 90, "4": 10}, "stable": 2})
    assert (reply.status_code, "takes other inputs" in reply.json()["error"]) == (409, True)
    assert store.traffic(TASK) is None


def test_a_damaged_version_is_refused(client: TestClient, store: MaskStore, tmp_path: Path) -> None:
    digest = store.version(TASK, 1).digest.removeprefix("sha256:")
    (tmp_path / "tasks" / TASK / "bundles" / f"{digest}.safetensors").unlink()
    reply = client.put(ROUTE, json={"shadow": 1})
    assert (reply.status_code, reply.json()["error_type"]) == (409, "Conflict")
    assert str(tmp_path) not in reply.text


def test_agreement_needs_labels(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, ["rating"])
    store.publish(bundle_of(base, "rating", seed=1))
    with serving(base, tmp_path, admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        plan = {"shadow": 1, "abort": {"agreement": 0.9}}
        reply = client.put("/tasks/rating/traffic", json=plan)
        assert (reply.status_code, "no labels" in reply.json()["error"]) == (409, True)
        put(client, {"shadow": 1, "abort": {"errors": 0.5}}, "rating")
        client.post("/predict/rating", json={"inputs": TEXT})
        wait_until(lambda: client.get("/tasks/rating/traffic").json()["shadow"]["rows"] == 1)
        told = client.get("/tasks/rating/traffic").json()["shadow"]
        assert told["agreement"] is None
        assert told["difference"] > 0


@pytest.mark.parametrize("path", ["", "/promote", "/abort"])
@pytest.mark.parametrize(("key", "status"), [("", 401), ("Bearer client", 401), ("Bearer wrong", 401)])
def test_changes_need_the_admin_key(
    base: Base, store: MaskStore, tmp_path: Path, path: str, key: str, status: int
) -> None:
    with serving(base, tmp_path, admin_key=KEY, api_keys=["client"]) as client:
        method = "POST" if path else "PUT"
        headers = {"authorization": key} if key else {}
        reply = client.request(
            method, f"{ROUTE}{path}", json={"shadow": 1} if not path else {}, headers=headers
        )
        assert reply.status_code == status
        assert client.get(ROUTE).status_code == 401
        assert client.get(ROUTE, headers={"authorization": "Bearer client"}).status_code == 200
    assert store.traffic(TASK) is None


@pytest.mark.parametrize("path", ["", "/promote", "/abort"])
def test_no_such_task(client: TestClient, path: str) -> None:
    method = "POST" if path else "PUT"
    reply = client.request(method, f"/tasks/nobody/traffic{path}", json={"shadow": 1} if not path else {})
    assert reply.status_code == 404
    assert client.get("/tasks/nobody/traffic").status_code == 404


def test_promoting_serves_the_version_alone_everywhere(client: TestClient, store: MaskStore) -> None:
    put(client, {"weights": {"2": 90, "1": 10}})
    reply = client.post(f"{ROUTE}/promote")
    assert (reply.status_code, reply.json()["version"]) == (200, 1)
    assert store.current(TASK).number == 1
    assert store.traffic(TASK) is None
    assert not traffic(client)["active"]
    assert shares(client, 5) == {1: 5}
    reply = client.post(f"{ROUTE}/promote")
    assert (reply.status_code, "has no traffic" in reply.json()["error"]) == (409, True)


def test_aborting_returns_to_the_stable_version_everywhere(client: TestClient, store: MaskStore) -> None:
    put(client, HALF)
    reply = client.post(f"{ROUTE}/abort", json={"reason": "complaints"})
    assert (reply.status_code, reply.json()["version"]) == (200, 1)
    assert store.current(TASK).number == 1
    told = traffic(client)
    assert (told["active"], told["followed"], told["aborted"]["reason"]) == (False, False, "complaints")
    assert shares(client, 5) == {1: 5}
    reply = client.post(f"{ROUTE}/abort")
    assert (reply.status_code, "was aborted at" in reply.json()["error"]) == (409, True)


@pytest.mark.parametrize("body", [{"reason": "x" * 501}, {"reason": 1}, {"why": "typo"}])
def test_a_reason_that_is_none(client: TestClient, body: dict[str, Any]) -> None:
    put(client, HALF)
    assert client.post(f"{ROUTE}/abort", json=body).status_code == 422
    assert traffic(client)["active"]


def test_what_is_published_meanwhile_gets_no_requests(
    client: TestClient, store: MaskStore, base: Base
) -> None:
    put(client, {"weights": {"2": 100}})
    upload = bundle_of(base, TASK, seed=2).to_bytes()
    reply = client.put(f"/tasks/{TASK}", content=upload)
    assert (reply.status_code, reply.json()["version"], reply.json()["served_version"]) == (201, 3, 2)
    store.publish(bundle_of(base, TASK, seed=3))
    for act in ("load", "rollback"):
        reply = client.post(f"/tasks/{TASK}/{act}")
        assert reply.status_code == (200 if act == "load" else 409), reply.text
    assert shares(client, 10) == {2: 10}
    put(client, {"weights": {"2": 50, "4": 50}})
    assert {*shares(client, 10)} == {2, 4}


def test_a_pinned_server_serves_one_version_alone(client: TestClient, store: MaskStore) -> None:
    put(client, HALF)
    client.post(f"/tasks/{TASK}/pin", json={"version": 2})
    assert shares(client, 6) == {2: 6}
    assert not traffic(client)["followed"]
    for method, path in (("PUT", ""), ("POST", "/promote")):
        reply = client.request(method, f"{ROUTE}{path}", json=HALF if not path else {})
        assert (reply.status_code, "is pinned to version 2" in reply.json()["error"]) == (409, True)
    client.post(f"/tasks/{TASK}/pin", json={"version": None})
    wait_until(lambda: traffic(client)["followed"])
    assert {*shares(client, 6)} == {1, 2}
    client.post(f"/tasks/{TASK}/pin", json={"version": 2})
    assert client.post(f"{ROUTE}/abort").status_code == 200
    assert version(client) == 2
    assert not store.traffic(TASK).active  # type: ignore[union-attr]


def test_what_another_process_sets_is_followed(client: TestClient, store: MaskStore, base: Base) -> None:
    store.set_traffic(TASK, TrafficPlan(weights={1: 50, 2: 50}))
    wait_until(lambda: traffic(client)["followed"])
    assert {*shares(client, 6)} == {1, 2}
    store.set_traffic(TASK, TrafficPlan(weights={2: 100}, shadow=1))
    wait_until(lambda: traffic(client)["followed"])
    assert shares(client, 6) == {2: 6}
    store.promote(TASK)
    wait_until(lambda: version(client) == 1)
    assert shares(client, 6) == {1: 6}


def test_a_version_that_a_server_can_not_load_is_answered_for(
    client: TestClient, store: MaskStore, tmp_path: Path
) -> None:
    digest = store.version(TASK, 1).digest.removeprefix("sha256:")
    bundle = tmp_path / "tasks" / TASK / "bundles" / f"{digest}.safetensors"
    store.set_traffic(TASK, TrafficPlan(weights={1: 50, 2: 50}))
    wait_until(lambda: traffic(client)["followed"])
    bundle.rename(tmp_path / "kept")
    store.set_traffic(TASK, TrafficPlan(weights={2: 100}))  # version 1 is let go
    wait_until(lambda: traffic(client)["followed"])
    record = store.traffic(TASK)
    assert record is not None
    store._folder(TASK).write_order(record.model_copy(update={"weights": {1: 50.0, 2: 50.0}}))
    wait_until(lambda: traffic(client)["followed"])
    lost = traffic(client)["versions"][0]
    assert (lost["version"], lost["in_service"]) == (1, False)
    assert lost["problem"] == "MissingBundleError: the store could not hand out this version"
    assert shares(client, 6) == {2: 6}
    (tmp_path / "kept").rename(bundle)
    wait_until(lambda: traffic(client)["versions"][0]["in_service"])
    assert {*shares(client, 6)} == {1, 2}


def test_traffic_that_can_not_be_read_changes_nothing(
    client: TestClient, store: MaskStore, tmp_path: Path
) -> None:
    put(client, HALF)
    file = tmp_path / "orders" / f"{TASK}.traffic.json"
    file.write_text("{}")
    wait_until(lambda: client.get(ROUTE).status_code == 409)
    assert {*shares(client, 6)} == {1, 2}
    found = client.get(f"/tasks/{TASK}/versions").json()
    assert (found["traffic"], len(found["problems"])) == (None, 1)
    assert str(tmp_path) not in str(found)
    put(client, {"weights": {"2": 100}})
    assert shares(client, 6) == {2: 6}


@pytest.mark.parametrize("how", ["weight", "shadow"])
def test_failures_of_a_version_abort_its_traffic(
    base: Base, store: MaskStore, tmp_path: Path, how: str
) -> None:
    digest = store.version(TASK, 1).digest
    plan = {"weights": {"2": 50, "1": 50}} if how == "weight" else {"shadow": 1}
    with serving(base, tmp_path, compute=FailingVersion(base, digest), admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        put(client, {**plan, "abort": {"errors": 0.1, "rows": 5}})
        statuses = Counter[int]()
        for _ in range(40):
            statuses[client.post(f"/predict/{TASK}", json={"inputs": TEXT}).status_code] += 1
        assert statuses == ({200: 35, 424: 5} if how == "weight" else {200: 40})
        wait_until(lambda: not traffic(client)["active"])
        reason = traffic(client)["aborted"]["reason"]
        assert 'maskserve_traffic_aborts_total{task="sentiment"} 1.0' in client.get("/metrics").text
    assert reason == "version 1 failed at 100.00% of 5 rows, more than 10.00%"
    kept = store.traffic(TASK)
    assert kept is not None
    assert kept.aborted is not None
    assert kept.aborted.reason == reason
    assert store.current(TASK).number == 2


def test_a_shadow_that_disagrees_aborts_its_traffic(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, [TASK])
    stable = store.publish(bundle_of(base, TASK, seed=1)).digest
    labels = np.eye(3, dtype=np.float32)

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        return [[labels[int(one.task.digest == stable)]] * len(one.features) for one in batch]

    with serving(base, tmp_path, compute=compute, admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        put(client, {"shadow": 1, "abort": {"agreement": 0.9, "rows": 10}})
        for count in range(1, 11):
            assert traffic(client)["active"]
            assert version(client) == 2
            if count < 10:
                wait_until(lambda count=count: traffic(client)["shadow"]["rows"] == count)  # type: ignore[misc]
        wait_until(lambda: not traffic(client)["active"])
        told = traffic(client)
        assert (
            told["aborted"]["reason"]
            == "version 1 agrees with version 2 on 0.00% of 10 rows, less than 90.00%"
        )
        assert version(client) == 2


def test_a_store_that_can_not_be_written_does_not_keep_traffic_going(
    base: Base, store: MaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.version(TASK, 1).digest
    with serving(base, tmp_path, compute=FailingVersion(base, digest), admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        put(client, {"weights": {"2": 50, "1": 50}, "abort": {"errors": 0.1, "rows": 2}})
        tries = list[str]()

        def refuse(_store: MaskStore, task: str, reason: str, **_: Any) -> None:
            tries.append(task)
            raise StoreNotWritableError("read-only")

        monkeypatch.setattr(MaskStore, "abort_traffic", refuse)
        for _ in range(10):
            client.post(f"/predict/{TASK}", json={"inputs": TEXT})
        wait_until(lambda: bool(tries))
        assert shares(client, 10) == {2: 10}
        assert traffic(client)["active"]


def test_metrics_by_version_are_there_while_the_traffic_is(client: TestClient) -> None:
    put(client, {"weights": {"2": 75, "1": 25}, "shadow": 1})
    for _ in range(8):
        version(client)
    wait_until(lambda: traffic(client)["shadow"]["rows"] >= 5)
    text = client.get("/metrics").text
    assert 'maskserve_version_weight{task="sentiment",version="1"} 25.0' in text
    assert 'maskserve_version_rows_total{task="sentiment",version="2"}' in text
    assert 'maskserve_shadow_agreed_rows_total{task="sentiment",version="1"}' in text
    client.post(f"{ROUTE}/abort")
    assert 'version="1"' not in client.get("/metrics").text


def test_a_shadow_may_have_other_labels(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, [TASK])
    more = TaskSpec("sequence-classification", ("mixed", "bad", "good", "odd"), max_length=32)
    store.publish(random_bundle(base, more, task=TASK, seed=4))
    with serving(base, tmp_path, admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        put(client, {"shadow": 1})
        version(client)
        wait_until(lambda: traffic(client)["shadow"]["rows"] == 1)
        assert 0 < traffic(client)["shadow"]["difference"] <= 1


def masks_of(client: TestClient, store: MaskStore) -> list[str]:
    """Versions whose masks are in memory."""
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    states = [service.masks.state(version.digest) for version in store.versions(TASK)]
    return [str(number) for number, state in enumerate(states, 1) if state == "ready"]


def test_masks_are_in_memory_while_their_version_is_in_service(client: TestClient, store: MaskStore) -> None:
    assert masks_of(client, store) == ["2"]
    put(client, HALF)
    assert masks_of(client, store) == ["1", "2"]
    put(client, {"weights": {"1": 100}})
    assert masks_of(client, store) == ["1"]
    put(client, {"weights": {"1": 100}, "shadow": 2})
    client.post(f"{ROUTE}/promote")
    assert masks_of(client, store) == ["2"]
    put(client, {"shadow": 1})
    client.post(f"/tasks/{TASK}/pin", json={"version": 2})
    assert masks_of(client, store) == ["2"]
    assert client.put(ROUTE, json={"weights": {"1": 100}, "stable": 2}).status_code == 409
    client.post(f"/tasks/{TASK}/pin", json={"version": None})
    wait_until(lambda: masks_of(client, store) == ["1", "2"])
    client.post(f"/tasks/{TASK}/unload")
    assert masks_of(client, store) == []


def test_what_is_refused_leaves_no_masks_in_memory(client: TestClient, store: MaskStore, base: Base) -> None:
    put(client, {"weights": {"2": 100}})  # holds back what is published
    store.publish(random_bundle(base, SPECS["names"], task=TASK))
    reply = client.put(ROUTE, json={"weights": {"2": 90, "1": 5, "3": 5}})
    assert (reply.status_code, "takes other inputs" in reply.json()["error"]) == (409, True)
    assert masks_of(client, store) == ["2"]


def test_a_shadow_waits_for_its_masks_and_clients_do_not(client: TestClient, store: MaskStore) -> None:
    put(client, {"shadow": 1})
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    service.masks.drop(store.version(TASK, 1).digest)
    assert version(client) == 2
    told = traffic(client)["shadow"]
    assert (told["rows"], told["skipped_rows"]) == (0, 1)
    wait_until(lambda: masks_of(client, store) == ["1", "2"])
    assert version(client) == 2
    wait_until(lambda: traffic(client)["shadow"]["rows"] == 1)


def test_the_memory_of_every_version_is_counted(client: TestClient, store: MaskStore) -> None:
    store.publish(store.load(TASK, 1))  # version 3 is version 1 again, and has its masks
    put(client, {"weights": {"2": 50, "1": 25, "3": 25}, "stable": 2})
    report = client.get("/memory").json()
    stable = report["tasks"][TASK]
    (other,) = stable.pop("others")
    digests = [store.version(TASK, number).digest for number in (1, 2)]
    assert [(one["version"], one["digest"]) for one in (other, stable)] == [*enumerate(digests, 1)]
    assert (other["masks"], stable["masks"]) == ("ready", "ready")
    assert other["resident_bytes"] == other["packed_mask_bytes"] + other["head_bytes"] > 0
    assert {**other, "version": 2, "digest": digests[1]} == stable  # of the same shape
    masks = report["total"]["resident_bytes"] - report["base"]["resident_bytes"]
    assert masks == 2 * stable["resident_bytes"]
    assert (report["finetuned"]["copies"], report["finetuned"]["bytes"]) == (2, 2 * stable["finetuned_bytes"])
    told = client.get("/metrics").text
    assert f"maskserve_mask_bytes {float(masks)}" in told
    assert f"maskserve_finetuned_bytes {float(report['finetuned']['bytes'])}" in told
    assert "maskserve_cold_tasks 0.0" in told
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    service.masks.drop(digests[0])
    assert "maskserve_cold_tasks 1.0" in client.get("/metrics").text
    (other,) = client.get("/memory").json()["tasks"][TASK]["others"]
    assert (other["masks"], other["resident_bytes"]) == ("cold", 0)
    client.post(f"{ROUTE}/abort")
    assert client.get("/memory").json()["tasks"][TASK]["others"] == []
