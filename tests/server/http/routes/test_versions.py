from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore
from masking import Base
from tests.support.serving import bundle_of, fill, serving, wait_until

KEY = "admin"
TASK = "sentiment"


@pytest.fixture
def store(base: Base, tmp_path: Path) -> MaskStore:
    store = fill(tmp_path, base, [TASK])
    store.publish(bundle_of(base, TASK, seed=1))
    return store


@pytest.fixture
def client(base: Base, store: MaskStore, tmp_path: Path) -> Iterator[TestClient]:
    with serving(base, tmp_path, admin_key=KEY) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


def versions(client: TestClient) -> dict[str, Any]:
    reply = client.get(f"/tasks/{TASK}/versions")
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def test_versions_are_those_of_the_store(client: TestClient, store: MaskStore) -> None:
    found = versions(client)
    assert (found["current"], found["served"], found["pinned"], found["problems"]) == (2, 2, None, [])
    for told, kept in zip(found["versions"], store.versions(TASK), strict=True):
        assert (told["version"], told["digest"], told["bytes"]) == (kept.number, kept.digest, kept.size)


def test_what_an_operator_wants_is_told(client: TestClient) -> None:
    client.post(f"/tasks/{TASK}/pin", json={"version": 1})
    found = versions(client)
    assert (found["current"], found["served"], found["pinned"]) == (2, 1, 1)
    client.post(f"/tasks/{TASK}/unload")
    found = versions(client)
    assert (found["current"], found["served"], found["pinned"]) == (2, None, None)


def test_a_damaged_record_is_told_and_hides_no_other(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / TASK
    for name in ("current.json", "versions/00000001.json"):
        (folder / name).unlink()
        (folder / name).write_text("{}")
    wait_until(lambda: versions(client)["current"] is None)
    found = versions(client)
    assert [one["version"] for one in found["versions"]] == [2]
    assert len(found["problems"]) == 2
    assert str(tmp_path) not in str(found)


def test_a_diff_counts_the_bits_that_differ(client: TestClient, store: MaskStore) -> None:
    found = client.get(f"/tasks/{TASK}/versions/1/diff").json()  # to the current one
    expected = store.diff(TASK, 1, 2)
    assert found["differing"] == expected.differing > 0
    assert found["bits"] == sum(layer.bits for layer in expected.layers)
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in expected.layers]
    assert found["versions"] == [1, 2]
    assert (found["same_base"], found["same_labels"], found["same_head"]) == (True, True, expected.same_head)
    assert found["metrics"] == {"accuracy": [0.5, 0.5]}
    same = client.get(f"/tasks/{TASK}/versions/2/diff", params={"to": 2}).json()
    assert (same["differing"], same["same_head"]) == (0, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nobody/versions", 404),
        ("nobody/versions/1/diff", 404),
        (f"{TASK}/versions/1/diff?to=9", 404),
        (f"{TASK}/versions/9/diff", 404),
        (f"{TASK}/versions/0/diff", 422),
        (f"{TASK}/versions/1/diff?to=one", 422),
    ],
)
def test_what_is_not_there_or_no_number_is_refused(client: TestClient, path: str, status: int) -> None:
    reply = client.get(f"/tasks/{path}")
    assert (reply.status_code, reply.json().keys()) == (status, {"error", "error_type"})


def test_a_damaged_version_is_not_compared(client: TestClient, store: MaskStore, tmp_path: Path) -> None:
    digest = store.version(TASK, 1).digest.removeprefix("sha256:")
    bundle = tmp_path / "tasks" / TASK / "bundles" / f"{digest}.safetensors"
    bundle.chmod(0o644)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    reply = client.get(f"/tasks/{TASK}/versions/2/diff", params={"to": 1})
    assert reply.status_code == 409
    assert str(tmp_path) not in reply.text
