"""Keys of a keys file over HTTP: each refusal, and that nothing is served or shown to a key that may not."""

import json
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from mask_store import AbortRule, TrafficPlan
from masking import Base
from server.service import Service
from server.tenants.__main__ import main
from tests.support.serving import (
    SPECS,
    TEXT,
    FailingVersion,
    Stuck,
    bundle_of,
    fill,
    serving,
    wait_until,
)

ADMIN_KEY = "the key to everything"
GROUPS = {"own": ("sentiment", "topics"), "mixed": ("sentiment", "rating")}
OWN = {"sentiment", "topics", "relevance"}
OTHERS = set(SPECS) - OWN


class Keys:
    """A keys file, made by the command, and its keys by name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.by_name: dict[str, str] = {}

    def add(self, capsys: pytest.CaptureFixture[str], name: str, *options: str) -> None:
        capsys.readouterr()
        assert main(["add", "--file", str(self.file), "--name", name, *options]) == 0
        self.by_name[name] = capsys.readouterr().out.strip()

    def headers(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.by_name[name]}"}


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    keys = Keys(tmp_path / "keys.json")
    keys.add(capsys, "team-a", "--tasks", "sentiment", "top*", "relevance")
    keys.add(capsys, "all", "--tasks", "*")
    keys.add(capsys, "operator", "--tasks", "sentiment", "--admin")
    keys.add(capsys, "slow", "--tasks", "*", "--rows-per-second", "2")
    keys.add(capsys, "narrow", "--tasks", "*", "--rows-in-flight", "2")
    return keys


@pytest.fixture
def client(base: Base, place: Path, keys: Keys) -> Iterator[TestClient]:
    with serving(base, place, keys_file=keys.file, group=GROUPS, admin_key=ADMIN_KEY) as client:
        yield client


def texts(task: str, count: int = 1) -> dict[str, Any]:
    return {"task": task, "inputs": [[TEXT]] * count}


def refused(reply: Response, status: int, error_type: str) -> str:
    body = reply.json()
    assert reply.status_code == status, body
    assert body.get("error_type", error_type) == error_type
    message: str = body["error"]
    return message


CALLS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/predict/{task}", {"inputs": TEXT}),
    ("POST", "/hf/{task}", {"inputs": TEXT}),
    ("POST", "/predict/{task}/rerank", {"query": TEXT, "texts": [TEXT]}),
    ("POST", "/predict/{task}/embed", {"inputs": TEXT}),
    ("POST", "/predict/{task}/similarity", {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}}),
    ("POST", "/rerank", {"model": "{task}", "query": TEXT, "texts": [TEXT]}),
    ("POST", "/v1/rerank", {"model": "{task}", "query": TEXT, "documents": [TEXT]}),
    ("POST", "/v2/rerank", {"model": "{task}", "query": TEXT, "documents": [TEXT]}),
    ("POST", "/embed", {"model": "{task}", "inputs": TEXT}),
    ("POST", "/similarity", {"model": "{task}", "inputs": {"source_sentence": TEXT, "sentences": [TEXT]}}),
    ("POST", "/v1/embeddings", {"model": "{task}", "input": TEXT}),
    ("GET", "/predict/{task}/health", None),
    ("GET", "/predict/{task}/info", None),
    ("GET", "/hf/{task}/info", None),
    ("GET", "/tasks/{task}", None),
    ("GET", "/tasks/{task}/versions", None),
    ("GET", "/tasks/{task}/versions/1/diff", None),
    ("GET", "/tasks/{task}/traffic", None),
    ("GET", "/v2/models/{task}", None),
    ("GET", "/v2/models/{task}/ready", None),
    ("GET", "/v2/models/{task}/config", None),
    ("GET", "/v2/models/{task}/stats", None),
    ("GET", "/v2/models/{task}/versions/1", None),
    ("POST", "/v2/models/{task}/infer", {"inputs": []}),
    ("POST", "/v2/models/{task}/versions/1/infer", {"inputs": []}),
)
CHANGES = (
    ("POST", "/tasks/{task}/load"),
    ("POST", "/tasks/{task}/unload"),
    ("POST", "/tasks/{task}/pin"),
    ("POST", "/tasks/{task}/rollback"),
    ("PUT", "/tasks/{task}"),
    ("DELETE", "/tasks/{task}"),
    ("PUT", "/tasks/{task}/traffic"),
    ("POST", "/tasks/{task}/traffic/promote"),
    ("POST", "/tasks/{task}/traffic/abort"),
    ("POST", "/v2/repository/models/{task}/load"),
    ("POST", "/v2/repository/models/{task}/unload"),
)
LISTS = ("/tasks", "/memory", "/info", "/v2/models/stats", "/metrics")


def ask(client: TestClient, call: tuple[str, str, Any], task: str, headers: dict[str, str]) -> Response:
    method, path, body = call
    content = None if body is None else json.dumps(body).replace("{task}", task)
    sent = {**headers, "content-type": "application/json"}
    return client.request(method, path.replace("{task}", task), content=content, headers=sent)


def test_every_route_about_tasks_is_among_those_tried_here(client: TestClient) -> None:
    document = client.get("/openapi.json").json()["paths"]
    named = {(method.upper(), path) for path, methods in document.items() for method in methods}
    named = {(method, re.sub(r"/versions/\{version\}", "/versions/1", path)) for method, path in named}
    tried = {(method, path) for method, path, _ in CALLS} | set(CHANGES)
    tried |= {("GET", path) for path in LISTS} | {("POST", "/predict"), ("POST", "/v2/repository/index")}
    missing = {one for one in named - tried if "{task}" in one[1] and "/versions/1/" not in one[1]}
    assert missing <= {("GET", "/hf/{task}/health")}


def test_without_a_key_and_with_a_wrong_one_nothing_is_told(client: TestClient, keys: Keys) -> None:
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer msk_wrong"},
        {"x-api-key": "msk_wrong"},
    )
    lists = tuple(("GET", path, None) for path in LISTS)
    bodies: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/predict", {"inputs": [texts("sentiment")]}),
        ("POST", "/v2/repository/index", {}),
    )
    for headers in wrong:
        for call in (*CALLS, *lists, *bodies):
            reply = ask(client, call, "sentiment", headers)
            refused(reply, 401, "Unauthorized")
            assert reply.headers["www-authenticate"] == 'Bearer realm="maskserve"'
    for path in ("/", "/health/live", "/health/ready", "/openapi.json", "/docs", "/ui"):
        assert client.get(path).status_code == 200
    for given in ({"x-api-key": keys.by_name["all"]}, keys.headers("all")):
        assert client.get("/tasks", headers=given).status_code == 200


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
def test_a_task_that_a_key_may_not_call_is_refused_as_one_that_there_is_not(
    client: TestClient, keys: Keys, call: tuple[str, str, Any]
) -> None:
    told = [ask(client, call, task, keys.headers("team-a")) for task in ("rating", "there-is-none")]
    messages = [refused(reply, 403, "Forbidden") for reply in told]
    assert messages[0] == "key 'team-a' may not call task 'rating'"
    assert messages[1] == messages[0].replace("rating", "there-is-none")
    assert not any(header.startswith(("x-task", "x-mask")) for reply in told for header in reply.headers)


def test_what_a_key_may_call_is_answered(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("team-a")
    for path, body in (
        ("/predict/sentiment", {"inputs": TEXT}),
        ("/predict/topics", {"inputs": TEXT}),
        ("/rerank", {"query": TEXT, "texts": [TEXT]}),
    ):
        assert client.post(path, json=body, headers=headers).status_code == 200


def test_no_list_shows_a_task_that_a_key_may_not_call(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("team-a")
    told = [client.get(path, headers=headers) for path in LISTS[:-1]]
    told.append(client.post("/v2/repository/index", headers=headers))
    for reply in told:
        assert reply.status_code == 200
        assert not any(f'"{task}"' in reply.text for task in OTHERS), reply.url
    assert {task["task"] for task in told[0].json()["tasks"]} == OWN
    assert told[2].json()["tasks"] == len(OWN)
    assert {model["name"] for model in told[4].json()} == OWN | {"group:own"}
    assert "rating" in client.get("/tasks", headers=keys.headers("all")).text


def test_no_message_names_a_task_that_a_key_may_not_call(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("team-a")
    replies = [
        client.post("/predict/topic", json={"inputs": TEXT}, headers=headers),  # near to one that it may call
        client.post("/predict/top-something", json={"inputs": TEXT}, headers=headers),
        client.post("/embed", json={"inputs": TEXT}, headers=headers),
        client.post("/rerank", json={"model": "sentiment", "query": "a", "texts": ["b"]}, headers=headers),
        client.post("/predict", json={"inputs": TEXT, "tasks": "group:none"}, headers=headers),
    ]
    for reply in replies:
        assert reply.status_code >= 400
        assert not any(task in reply.json()["error"] for task in OTHERS)


def test_metrics_name_every_task_and_are_for_keys_that_may_call_them(client: TestClient, keys: Keys) -> None:
    refused(client.get("/metrics", headers=keys.headers("team-a")), 403, "Forbidden")
    for headers in (keys.headers("all"), {"authorization": f"Bearer {ADMIN_KEY}"}):
        assert client.get("/metrics", headers=headers).status_code == 200


def test_rows_and_tasks_of_a_body_are_refused_in_their_place(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("team-a")
    rows = [texts("sentiment"), texts("rating"), texts("there-is-none")]
    results = client.post("/predict", json={"inputs": rows}, headers=headers).json()
    assert [result.get("error_type") for result in results] == [None, "Forbidden", "Forbidden"]
    body = {"inputs": TEXT, "tasks": ["rating", "sentiment"]}
    results = client.post("/predict", json=body, headers=headers).json()
    assert [result.get("error_type") for result in results] == ["Forbidden", None]
    lines = "\n".join(json.dumps(row) for row in rows)
    sent = {**headers, "content-type": "application/x-ndjson"}
    results = client.post("/predict", content=lines, headers=sent).json()
    assert [result.get("error_type") for result in results] == [None, "Forbidden", "Forbidden"]


def test_every_task_means_those_that_a_key_may_call(client: TestClient, keys: Keys) -> None:
    body = {"inputs": TEXT, "tasks": "*"}
    results = client.post("/predict", json=body, headers=keys.headers("team-a")).json()
    assert {result["task"] for result in results} == OWN


def test_a_group_is_for_who_may_call_all_of_it(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("team-a")
    for group, status in (("own", 200), ("mixed", 403), ("there-is-none", 403)):
        body = {"inputs": TEXT, "tasks": f"group:{group}"}
        assert client.post("/predict", json=body, headers=headers).status_code == status
        assert client.get(f"/v2/models/group:{group}", headers=headers).status_code == status
        assert client.get(f"/v2/models/group:{group}/ready", headers=headers).status_code == status
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
        path = f"/v2/models/group:{group}/infer"
        assert client.post(path, json={"inputs": [tensor]}, headers=headers).status_code == status
    message = client.get("/v2/models/group:mixed", headers=headers).json()["error"]
    assert "rating" not in message


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_only_who_may_change_a_task_changes_it(
    client: TestClient, keys: Keys, method: str, path: str
) -> None:
    for task in ("sentiment", "rating"):
        for headers in ({}, keys.headers("team-a"), keys.headers("all")):
            refused(ask(client, (method, path, None), task, headers), 401, "Unauthorized")
    refused(ask(client, (method, path, None), "rating", keys.headers("operator")), 403, "Forbidden")
    tasks = client.get("/tasks", headers=keys.headers("all")).json()
    assert {task["task"] for task in tasks["tasks"]} == set(SPECS)


def test_over_its_rate_a_key_is_refused_for_a_while(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("slow")
    assert (
        client.post("/predict/sentiment", json={"inputs": [[TEXT]] * 600}, headers=headers).status_code == 200
    )
    calls = [
        ("/predict/sentiment", {"inputs": TEXT}),
        ("/predict", {"inputs": [texts("sentiment")]}),
        ("/predict", {"inputs": TEXT, "tasks": ["sentiment"]}),
        ("/rerank", {"query": TEXT, "texts": [TEXT]}),
        ("/v2/models/sentiment/infer", {"inputs": []}),
        ("/v2/models/group:own/infer", {"inputs": []}),
    ]
    for path, body in calls:
        reply = client.post(path, json=body, headers=headers)
        message = refused(reply, 429, "Overloaded")
        assert "key 'slow' may ask 2 rows per second" in message
        assert 200 < int(reply.headers["retry-after"]) <= 300  # 600 rows, two for each second
    assert client.get("/tasks", headers=headers).status_code == 200
    assert (
        client.post("/predict/sentiment", json={"inputs": TEXT}, headers=keys.headers("all")).status_code
        == 200
    )


def test_a_body_of_rows_is_charged_as_a_whole(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("slow")
    rows = [texts("sentiment", 10)] * 20
    assert client.post("/predict", json={"inputs": rows}, headers=headers).status_code == 200
    refused(client.post("/predict/sentiment", json={"inputs": TEXT}, headers=headers), 429, "Overloaded")


def test_tasks_of_a_body_are_charged_each(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("slow")
    body = {"inputs": [[TEXT]] * 50, "tasks": ["sentiment", "topics"]}
    assert client.post("/predict", json=body, headers=headers).status_code == 200
    reply = client.post("/predict", json=body, headers=headers)
    refused(reply, 429, "Overloaded")
    assert 40 < int(reply.headers["retry-after"]) <= 51


def test_more_rows_than_may_be_in_flight_are_never_let_in(client: TestClient, keys: Keys) -> None:
    headers = keys.headers("narrow")
    for path, body in (
        ("/predict/sentiment", {"inputs": [[TEXT]] * 3}),
        ("/predict", {"inputs": TEXT, "tasks": ["sentiment", "topics", "rating"]}),
    ):
        message = refused(client.post(path, json=body, headers=headers), 422, "Validation")
        assert "3 rows and key 'narrow' may have 2 in flight" in message
    rows = [texts("sentiment", 1 + number // 19 * 2) for number in range(20)]
    results = client.post("/predict", json={"inputs": rows}, headers=headers).json()  # these wait their turn
    assert ["error" in result for result in results] == [False] * 19 + [True]
    assert (
        client.post("/predict/sentiment", json={"inputs": [[TEXT]] * 2}, headers=headers).status_code == 200
    )


def test_with_its_rows_in_flight_a_key_is_refused(base: Base, place: Path, keys: Keys) -> None:
    stuck = Stuck()
    with (
        serving(base, place, compute=stuck, keys_file=keys.file) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        headers = keys.headers("narrow")
        body = {"inputs": [[TEXT]] * 2}
        first = pool.submit(client.post, "/predict/sentiment", json=body, headers=headers)
        assert stuck.started.wait(20)
        reply = client.post("/predict/sentiment", json={"inputs": TEXT}, headers=headers)
        assert "2 rows of key 'narrow' are in flight" in refused(reply, 429, "Overloaded")
        assert reply.headers["retry-after"] == "1"
        stuck.let_go.set()
        assert first.result(20).status_code == 200
        assert client.post("/predict/sentiment", json=body, headers=headers).status_code == 200


def test_usage_is_counted_and_logged_by_key(
    client: TestClient, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for body in ({"inputs": [[TEXT]] * 3}, {"inputs": 7}):
            client.post("/predict/sentiment", json=body, headers=keys.headers("team-a"))
        client.post("/predict/rating", json={"inputs": TEXT}, headers=keys.headers("team-a"))
        client.get("/tasks", headers={"authorization": f"Bearer {ADMIN_KEY}"})
        client.get("/tasks", headers={"authorization": "Bearer msk_wrong"})
        told = client.get("/metrics", headers=keys.headers("all")).text
    counted = {line for line in told.splitlines() if line.startswith("maskserve_key")}
    assert {
        'maskserve_key_requests_total{key="team-a",status="200"} 1.0',
        'maskserve_key_requests_total{key="team-a",status="422"} 1.0',
        'maskserve_key_requests_total{key="team-a",status="403"} 1.0',
        'maskserve_key_requests_total{key="(admin)",status="200"} 1.0',
        'maskserve_key_rows_total{key="team-a"} 3.0',
        "maskserve_keys 5.0",
        "maskserve_keys_file_up 1.0",
    } <= counted
    lines = [getattr(record, "fields", {}) for record in caplog.records if record.name == "server.requests"]
    assert [line.get("key") for line in lines[:5]] == ["team-a", "team-a", "team-a", "(admin)", None]
    for secret in (*keys.by_name.values(), ADMIN_KEY, "msk_wrong"):
        assert secret not in caplog.text + told + str(lines)


def test_a_change_of_the_file_is_followed_while_serving(
    client: TestClient, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.add(capsys, "late", "--tasks", "rating")
    wait_until(lambda: client.get("/tasks", headers=keys.headers("late")).status_code == 200)
    assert main(["remove", "--file", str(keys.file), "--name", "team-a"]) == 0
    wait_until(lambda: client.get("/tasks", headers=keys.headers("team-a")).status_code == 401)
    every = keys.headers("all")
    wait_until(lambda: 'key="team-a"' not in client.get("/metrics", headers=every).text)
    keys.file.write_text("{")
    wait_until(lambda: "maskserve_keys_file_up 0.0" in client.get("/metrics", headers=every).text)
    assert client.get("/tasks", headers=keys.headers("late")).status_code == 200


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [dict(record.fields) for record in caplog.records if record.name == "server.audit"]  # type: ignore[attr-defined]
    for line in lines:
        line.pop("request_id", None)
    return lines


def test_every_change_is_in_the_audit_log(
    base: Base, tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, two = (bundle_of(base, "sentiment", seed=seed) for seed in (1, 2))
    digests = one.digest, two.digest
    with serving(base, tmp_path / "masks", keys_file=keys.file, create_store=True) as client:
        own = keys.headers("operator")
        for bundle in (one, two):
            sent = client.put("/tasks/sentiment", content=bundle.to_bytes(), headers=own)
            assert sent.status_code == 201
        assert client.post("/tasks/sentiment/rollback", headers=own).status_code == 200
        assert client.post("/tasks/sentiment/pin", json={"version": 2}, headers=own).status_code == 200
        assert client.post("/tasks/sentiment/rollback", headers=own).status_code == 409
        assert client.post("/tasks/sentiment/unload", headers=own).status_code == 200
        assert client.post("/v2/repository/models/sentiment/load", headers=own).status_code == 200
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        other = service.history._store  # as another server or the command line would
        other.rollback("sentiment", 2)
        wait_until(lambda: len(audited(caplog)) == 8)
        assert client.delete("/tasks/sentiment", headers=own).status_code == 204
    first, second = {"digest": digests[0]}, {"digest": digests[1]}
    mine, store = {"task": "sentiment", "who": "operator"}, {"task": "sentiment", "who": "(store)"}
    assert audited(caplog) == [
        {"change": "publish", "to_version": 1, **first, **mine},
        {"change": "publish", "from_version": 1, "to_version": 2, **second, **mine},
        {"change": "rollback", "from_version": 2, "to_version": 1, **first, **mine},
        {"change": "pin", "from_version": 1, "to_version": 2, **second, **mine},
        {"change": "rollback", "from_version": 2, "to_version": 2, **second, **mine, "refused": "Conflict"},
        {"change": "unload", "from_version": 2, **second, **mine},
        {"change": "load", "to_version": 1, **first, **mine},
        {"change": "follow", "from_version": 1, "to_version": 2, **second, **store},
        {"change": "delete", "from_version": 2, **second, **mine},
    ]


def test_traffic_is_in_the_audit_log_whoever_set_it(
    base: Base, tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = fill(tmp_path / "masks", base, ["sentiment"])
    store.publish(bundle_of(base, "sentiment", seed=1))
    half, shadow = "version 1 50 %, version 2 50 %", "version 2 100 %, version 1 as shadow"
    with serving(base, tmp_path / "masks", keys_file=keys.file) as client:
        own = keys.headers("operator")
        route = "/tasks/sentiment/traffic"
        assert client.put(route, json={"weights": {"1": 50, "2": 50}}, headers=own).status_code == 200
        store.set_traffic("sentiment", TrafficPlan(weights={2: 100}, shadow=1))
        wait_until(lambda: len(audited(caplog)) == 2)
        store.abort_traffic("sentiment", "elsewhere")
        wait_until(lambda: len(audited(caplog)) == 3)
        assert client.put(route, json={"shadow": 1}, headers=own).status_code == 200
        assert client.post("/tasks/sentiment/rollback", headers=own).status_code == 409
        assert client.post(f"{route}/promote", headers=own).status_code == 200
    kept = {
        "task": "sentiment",
        "from_version": 2,
        "to_version": 2,
        "digest": store.version("sentiment", 2).digest,
    }
    store_did, mine = {"change": "follow", "who": "(store)", **kept}, {"who": "operator", **kept}
    assert audited(caplog) == [
        {"change": "set_traffic", "to_traffic": half, **mine},
        {"from_traffic": half, "to_traffic": shadow, **store_did},
        {"from_traffic": shadow, **store_did},
        {"change": "set_traffic", "to_traffic": shadow, **mine},
        {"change": "rollback", "from_traffic": shadow, "to_traffic": shadow, **mine, "refused": "Conflict"},
        {
            "change": "promote",
            "from_traffic": shadow,
            **mine,
            "to_version": 1,
            "digest": store.version("sentiment", 1).digest,
        },
    ]


def test_an_abort_by_a_threshold_is_in_the_audit_log(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = fill(tmp_path / "masks", base, ["sentiment"])
    store.publish(bundle_of(base, "sentiment", seed=1))
    failing = FailingVersion(base, store.version("sentiment", 1).digest)
    rule = AbortRule(errors=0.1, rows=2)
    with serving(base, tmp_path / "masks", compute=failing) as client:
        store.set_traffic("sentiment", TrafficPlan(shadow=1, abort=rule))
        wait_until(lambda: len(audited(caplog)) == 1)
        for _ in range(2):
            assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
        wait_until(lambda: len(audited(caplog)) == 2)
        wait_until(lambda: not client.get("/tasks/sentiment/traffic").json()["active"])
    kept = {
        "task": "sentiment",
        "from_version": 2,
        "to_version": 2,
        "digest": store.version("sentiment", 2).digest,
    }
    shadow = "version 2 100 %, version 1 as shadow"
    assert audited(caplog) == [
        {"change": "follow", "to_traffic": shadow, "who": "(store)", **kept},
        {
            "change": "abort_traffic",
            "from_traffic": shadow,
            "who": "(threshold)",
            "reason": "version 1 failed at 100.00% of 2 rows, more than 10.00%",
            **kept,
        },
    ]


def test_the_document_tells_that_a_key_may_be_refused(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "403" in paths["/predict/{task}"]["post"]["responses"]
    assert paths["/tasks"]["get"]["security"] == [{"client_key": []}]
