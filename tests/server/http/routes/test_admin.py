import errno
import gzip
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskBundle, MaskStore, StoreNotWritableError
from masking import Base, TaskSpec
from server.tasks.lifecycle import Lifecycle
from tests.support.bundles import bundle_of as small_bundle
from tests.support.bundles import forge, set_item
from tests.support.models import random_bundle
from tests.support.serving import TEXT, bundle_of, fill, serving, wait_until

KEY = "open sesame"
ADMIN = {"authorization": f"Bearer {KEY}"}
TASK = "sentiment"


@pytest.fixture(scope="module")
def bundle(base: Base) -> MaskBundle:
    return bundle_of(base, TASK, seed=1)


@pytest.fixture
def client(base: Base, tmp_path: Path) -> Iterator[TestClient]:
    fill(tmp_path / "store", base, [TASK, "names"])
    with serving(base, tmp_path / "store", admin_key=KEY, max_bundle_bytes=1 << 20) as client:
        client.headers.update(ADMIN)
        yield client


@pytest.fixture
def store(client: TestClient, tmp_path: Path) -> MaskStore:
    return MaskStore.open(tmp_path / "store")


def predict(client: TestClient, task: str = TASK) -> Any:
    return client.post(f"/predict/{task}", json={"inputs": TEXT})


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    reply = client.get("/tasks").json()
    return {entry["task"]: entry for entry in [*reply["tasks"], *reply["not_served"]]}


def test_unload_and_load(client: TestClient) -> None:
    reply = client.post(f"/tasks/{TASK}/unload")
    assert (reply.status_code, reply.json()["state"]) == (200, "unloaded")
    assert listed(client)[TASK]["state"] == "unloaded"
    refused = predict(client)
    assert (refused.status_code, refused.json()["error_type"]) == (503, "Unhealthy")
    assert f"POST /tasks/{TASK}/load" in refused.json()["error"]
    assert client.get(f"/tasks/{TASK}").status_code == 503
    assert predict(client, "names").status_code == 200
    assert client.get("/health/ready").json()["tasks"] == 1
    reply = client.post(f"/tasks/{TASK}/load")
    assert (reply.status_code, reply.json()["state"], reply.json()["version"]) == (200, "serving", 1)
    assert predict(client).status_code == 200


def test_the_list_tells_what_a_task_took_and_holds(client: TestClient) -> None:
    entry, held = listed(client)[TASK], client.get("/memory").json()["tasks"][TASK]
    assert entry["state"] == "serving"
    assert entry["load_ms"] > 0
    assert entry["bytes"] == (held["packed_mask_bytes"] + held["head_bytes"])


def test_pin_and_unpin(client: TestClient, store: MaskStore, bundle: MaskBundle) -> None:
    reply = client.post(f"/tasks/{TASK}/pin", json={"version": 1})
    assert (reply.status_code, reply.json()["pinned"]) == (200, 1)
    reply = client.put(f"/tasks/{TASK}", content=bundle.to_bytes())
    assert (reply.json()["version"], reply.json()["served_version"]) == (2, 1)
    assert predict(client).headers["x-task-version"] == "1"
    assert listed(client)[TASK]["pinned"] == 1
    assert client.get(f"/tasks/{TASK}").json()["pinned"] == 1
    refused = client.post(f"/tasks/{TASK}/rollback")
    assert (refused.status_code, refused.json()["error_type"]) == (409, "Conflict")
    reply = client.post(f"/tasks/{TASK}/pin", json={"version": None})
    assert (reply.json()["pinned"], reply.json()["version"]) == (None, 2)
    assert predict(client).headers["x-task-version"] == "2"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("nonsense", 400),
        ("{" * 5000, 400),
        ("{}", 422),
        ('{"version": 0}', 422),
        ('{"version": "x"}', 422),
        ('{"verison": 1}', 422),
        (f'{{"version": {10**300}}}', 422),
        ('{"version": 100000000}', 422),
        ('{"version": 99999999}', 404),
        ('{"version": 99}', 404),
    ],
)
def test_what_is_no_version_is_refused(client: TestClient, body: str, status: int) -> None:
    for verb in ("pin", "rollback"):
        if (verb, body) not in (("rollback", ""), ("rollback", "{}")):  # those mean the version before
            assert client.post(f"/tasks/{TASK}/{verb}", content=body).status_code == status, verb
    assert (listed(client)[TASK]["pinned"], listed(client)[TASK]["version"]) == (None, 1)


def test_a_temporary_folder_that_is_full_is_told(
    client: TestClient, bundle: MaskBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def none(**_: object) -> BytesIO:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    for temporary_file in (lambda **_: Full(), none):
        monkeypatch.setattr("tempfile.TemporaryFile", temporary_file)
        reply = client.put(f"/tasks/{TASK}", content=bundle.to_bytes())
        assert (reply.status_code, reply.json()["error_type"]) == (507, "Storage")
        assert "temporary folder" in reply.json()["error"]
    assert listed(client)[TASK]["version"] == 1


def test_an_upload_may_be_compressed_and_its_limit_is_its_own(client: TestClient, bundle: MaskBundle) -> None:
    headers = {"content-encoding": "gzip"}
    reply = client.put(f"/tasks/{TASK}", content=gzip.compress(bundle.to_bytes()), headers=headers)
    assert (reply.status_code, reply.json()["version"]) == (201, 2)
    bomb = gzip.compress(bytes((1 << 20) + 1))
    assert client.put(f"/tasks/{TASK}", content=bomb, headers=headers).status_code == 413


def test_upload_and_rollback(client: TestClient, store: MaskStore, bundle: MaskBundle) -> None:
    reply = client.put(f"/tasks/{TASK}", content=bundle.to_bytes())
    assert reply.status_code == 201
    assert reply.json() == {
        "task": TASK,
        "version": 2,
        "digest": bundle.digest,
        "created": True,
        "served_version": 2,
    }
    assert predict(client).headers["x-mask-digest"] == bundle.digest
    again = client.put(f"/tasks/{TASK}", content=bundle.to_bytes())
    assert (again.status_code, again.json()["version"], again.json()["created"]) == (200, 2, False)
    assert client.post(f"/tasks/{TASK}/rollback").json()["version"] == 1
    assert predict(client).headers["x-mask-digest"] == store.version(TASK, 1).digest
    assert store.current(TASK).number == 1
    assert client.post(f"/tasks/{TASK}/rollback", json={"version": 2}).json()["version"] == 2
    refused = client.post(f"/tasks/{TASK}/rollback", json={"version": 9})
    assert (refused.status_code, refused.json()["error_type"]) == (404, "NotFound")
    assert "it has 1, 2" in refused.json()["error"]


def test_an_upload_in_pieces(client: TestClient, bundle: MaskBundle) -> None:
    data = bundle.to_bytes()
    pieces = (data[start : start + 1000] for start in range(0, len(data), 1000))
    assert client.put(f"/tasks/{TASK}", content=pieces).status_code == 201


@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_upload_that_is_too_long(client: TestClient, in_pieces: bool) -> None:
    data = b"x" * ((1 << 20) + 1)
    reply = client.put(f"/tasks/{TASK}", content=iter([data]) if in_pieces else data)
    assert reply.status_code == 413
    assert str(1 << 20) in reply.json()["error"]


@pytest.mark.parametrize(
    "data",
    [
        forge(
            small_bundle(),
            fields=lambda f: f.update({"mask.\ud800\n2026 forged": f.pop("mask.pooler.dense")}),
        ),
        forge(small_bundle(), manifest=set_item("created", to="0001-01-01T00:00:00+14:00")),
        forge(small_bundle(), manifest=set_item("layers", 0, "rows", to=10**4000)),
        forge(small_bundle(), manifest=set_item("labels", to=[1] * 100_000)),
        forge(small_bundle(), manifest=set_item("base", "name", to="x\n" * 100_000)),
    ],
    ids=["name of a tensor", "date", "digits", "labels", "name of the base"],
)
def test_a_refusal_is_one_short_line_whatever_the_upload_holds(client: TestClient, data: bytes) -> None:
    reply = client.put("/tasks/demo", content=data)
    assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")
    assert reply.json()["error"].isprintable()
    assert len(reply.json()["error"]) < 600


def test_wrong_uploads_are_explained(client: TestClient, base: Base, store: MaskStore) -> None:
    garbage = client.put(f"/tasks/{TASK}", content=b"garbage")
    assert (garbage.status_code, garbage.json()["error_type"]) == (422, "Validation")
    other = client.put(f"/tasks/{TASK}", content=bundle_of(base, "names").to_bytes())
    assert other.status_code == 422
    assert other.json()["error"] == f"this is a bundle of task 'names', not of '{TASK}'"
    assert len(store.versions(TASK)) == 1


def test_a_bundle_whose_rows_hold_no_text_is_refused(client: TestClient, base: Base) -> None:
    spec = TaskSpec("token-classification", ("O", "B"), max_length=1)
    refused = client.put("/tasks/short", content=random_bundle(base, spec, task="short").to_bytes())
    assert refused.status_code == 422
    assert "up to 1 tokens" in refused.json()["error"]
    assert "short" not in listed(client)


def test_a_store_that_takes_no_uploads(
    client: TestClient, bundle: MaskBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise StoreNotWritableError(f"{tmp_path} is read-only")

    monkeypatch.setattr(MaskStore, "publish", refuse)
    reply = client.put(f"/tasks/{TASK}", content=bundle.to_bytes())
    assert (reply.status_code, reply.json()["error_type"]) == (409, "Conflict")
    assert str(tmp_path) not in reply.text


def test_delete(client: TestClient, store: MaskStore) -> None:
    assert client.delete(f"/tasks/{TASK}").status_code == 204
    assert predict(client).status_code == 404
    assert list(listed(client)) == ["names"]
    assert store.tasks() == ("names",)
    assert client.delete(f"/tasks/{TASK}").status_code == 404


@pytest.mark.parametrize("task", ["nobody", "..etc", "%2e%2e%2fetc", "A" * 80, "a%0Ab"])
def test_names_that_are_no_tasks(client: TestClient, task: str, tmp_path: Path) -> None:
    for action in ("load", "unload", "rollback"):
        reply = client.post(f"/tasks/{task}/{action}")
        assert reply.status_code == 404
        assert str(tmp_path) not in reply.text
    assert client.post(f"/tasks/{task}/pin", json={"version": 1}).status_code == 404
    assert client.delete(f"/tasks/{task}").status_code == 404


def test_a_damaged_version_can_not_be_loaded(client: TestClient, tmp_path: Path) -> None:
    client.post(f"/tasks/{TASK}/unload")
    (file,) = (tmp_path / "store" / "tasks" / TASK / "bundles").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    reply = client.post(f"/tasks/{TASK}/load")
    assert (reply.status_code, reply.json()["error_type"]) == (503, "Unhealthy")
    assert "version 1" in reply.json()["error"]
    file.write_bytes(whole)
    assert client.post(f"/tasks/{TASK}/load").status_code == 200


def test_a_version_published_elsewhere_is_still_followed(
    client: TestClient, store: MaskStore, bundle: MaskBundle
) -> None:
    client.post(f"/tasks/{TASK}/unload")
    client.post(f"/tasks/{TASK}/load")
    store.publish(bundle)
    wait_until(lambda: predict(client).headers["x-task-version"] == "2")


@pytest.mark.parametrize(
    ("operation", "body"),
    [("load", None), ("pin", {"version": 1}), ("rollback", {"version": 1}), ("unload", None)],
)
def test_a_task_that_is_removed_before_the_reply(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, operation: str, body: dict[str, int] | None
) -> None:
    real = getattr(Lifecycle, operation)

    def then_remove(lifecycle: Lifecycle, name: str, *others: object) -> object:
        done = real(lifecycle, name, *others)
        lifecycle.delete(name)
        return done

    monkeypatch.setattr(Lifecycle, operation, then_remove)
    reply = client.post(f"/tasks/{TASK}/{operation}", json=body)
    assert (reply.status_code, reply.json()["task"]) == (200, TASK)
    assert client.get(f"/tasks/{TASK}").status_code == 404
