"""Keys and groups over gRPC, with the protocol's own client, against a server process; and its log."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protocol
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from masking import Base
from server.http.grpc.messages import SERVICE, message, methods
from server.tenants.__main__ import main
from server.tenants.keys_file import hash_of
from tests.support.serving import TEXT, RunningServer, bundle_of, expected_scores, running, wait_until

TASKS = ("sentiment", "topics", "rating")
ADMIN_KEY = "rumpelstilz"
KEYS = {name: f"msk_{name}-of-a-test" for name in ("team-a", "all", "slow", "narrow", "operator")}
FIELDS: dict[str, dict[str, Any]] = {
    "team-a": {"tasks": ["sentiment", "top*"]},
    "all": {"tasks": ["*"]},
    "slow": {"tasks": ["*"], "rows_per_second": 2},
    "narrow": {"tasks": ["*"], "rows_in_flight": 2},
    "operator": {"tasks": ["topics"], "admin": True},
}
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = [{"name": name, "sha256": hash_of(key).hex(), **FIELDS[name]} for name, key in KEYS.items()]
    file.write_text(json.dumps({"keys": keys}))
    return file


@pytest.fixture(scope="module")
def server(
    tiny_bert: str, base: Base, keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    options = ("--keys-file", str(keys_file), "--admin-key", ADMIN_KEY, "--grpc-port", "0")
    groups = ("--group", "own=sentiment,topics", "--group", "mixed=sentiment,rating")
    formats = ("--log-format", "json")
    folder = tmp_path_factory.mktemp("served")
    with running(tiny_bert, base, folder, TASKS, *options, *groups, *formats) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: Any) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def repository_index(channel: Any) -> Any:
    """The method of Triton's extension, which KServe's client lacks."""
    request, response = methods()["RepositoryIndex"]
    return channel.unary_unary(f"/{SERVICE}/RepositoryIndex", request.SerializeToString, response.FromString)


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[name]}"),)


def request(task: str, rows: int = 1, *outputs: str, raw: bool = False) -> Any:
    tensor = protocol.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[rows])
    asked = protocol.ModelInferRequest(model_name=task, inputs=[tensor], id="7")
    if raw:
        text = TEXT.encode()
        asked.raw_input_contents.append((len(text).to_bytes(4, "little") + text) * rows)
    else:
        asked.inputs[0].contents.bytes_contents.extend([TEXT.encode()] * rows)
    for name in outputs:
        asked.outputs.add(name=name)
    return asked


def calls(stub: GRPCInferenceServiceStub, task: str) -> tuple[tuple[Any, Any], ...]:
    return (
        (stub.ModelInfer, request(task)),
        (stub.ModelReady, protocol.ModelReadyRequest(name=task)),
        (stub.ModelMetadata, protocol.ModelMetadataRequest(name=task)),
    )


def changes(stub: GRPCInferenceServiceStub, task: str) -> tuple[tuple[Any, Any], ...]:
    return (
        (stub.RepositoryModelLoad, protocol.RepositoryModelLoadRequest(model_name=task)),
        (stub.RepositoryModelUnload, protocol.RepositoryModelUnloadRequest(model_name=task)),
    )


def refused(method: Any, asked: Any, metadata: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with pytest.raises(grpc.RpcError) as error:
        method(asked, metadata=metadata)
    trailing = {key: value for key, value in error.value.trailing_metadata()}
    return error.value.code(), error.value.details(), trailing


@pytest.mark.parametrize(
    "metadata", [(), (("authorization", "Bearer msk_wrong"),), (("x-api-key", "msk_wrong"),)]
)
def test_a_call_without_a_key_or_with_a_wrong_one_is_refused(
    stub: GRPCInferenceServiceStub, repository_index: Any, metadata: Any
) -> None:
    index = (repository_index, message("RepositoryIndexRequest"))
    for method, asked in (*calls(stub, "sentiment"), *changes(stub, "sentiment"), index):
        assert refused(method, asked, metadata)[0] == UNAUTHENTICATED
    assert stub.ServerLive(protocol.ServerLiveRequest(), metadata=metadata).live


def test_a_task_that_a_key_may_not_call_is_refused_as_one_that_there_is_not(
    stub: GRPCInferenceServiceStub,
) -> None:
    for task in ("rating", "there-is-none"):
        for method, asked in calls(stub, task):
            code, said, _ = refused(method, asked, bearer("team-a"))
            assert (code, said) == (DENIED, f"key 'team-a' may not call task '{task}'")
    assert stub.ModelInfer(request("sentiment"), metadata=(("x-api-key", KEYS["team-a"]),)).id == "7"


def test_no_message_names_a_task_that_a_key_may_not_call(stub: GRPCInferenceServiceStub) -> None:
    code, said, _ = refused(stub.ModelInfer, request("top-what"), bearer("team-a"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "rating" not in said


def test_the_index_shows_what_a_key_may_call(repository_index: Any) -> None:
    def names(key: str) -> set[str]:
        index = repository_index(message("RepositoryIndexRequest"), metadata=bearer(key))
        return {model.name for model in index.models}

    assert names("team-a") == {"sentiment", "topics", "group:own"}
    assert names("all") == {*TASKS, "group:own", "group:mixed"}


def test_only_who_may_change_a_task_changes_it(stub: GRPCInferenceServiceStub) -> None:
    for method, asked in changes(stub, "rating"):
        assert refused(method, asked, bearer("all"))[0] == UNAUTHENTICATED
        assert refused(method, asked, bearer("operator"))[0] == DENIED
    load, asked = changes(stub, "topics")[0]
    assert load(asked, metadata=bearer("operator")).isLoaded


def test_over_its_limits_a_key_is_refused(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ModelInfer(request("sentiment", 200), metadata=bearer("slow")).id == "7"
    for task in ("sentiment", "group:own"):
        code, said, trailing = refused(stub.ModelInfer, request(task), bearer("slow"))
        assert code == EXHAUSTED
        assert "key 'slow' may ask 2 rows per second" in said
        assert 60 < int(trailing["retry-after"]) <= 100
    for task, rows in (("sentiment", 3), ("group:own", 2)):
        code, said, _ = refused(stub.ModelInfer, request(task, rows), bearer("narrow"))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "key 'narrow' may have 2 in flight" in said
    assert stub.ModelInfer(request("group:own"), metadata=bearer("narrow")).id == "7"


@pytest.mark.parametrize("raw", [True, False])
def test_a_group_answers_with_the_outputs_of_its_tasks(
    stub: GRPCInferenceServiceStub, base: Base, raw: bool
) -> None:
    told = stub.ModelMetadata(protocol.ModelMetadataRequest(name="group:own"), metadata=bearer("team-a"))
    assert (list(told.versions), [one.name for one in told.inputs]) == (["1"], ["text"])
    names = ["sentiment.label", "sentiment.scores", "topics.label", "topics.scores"]
    assert [one.name for one in told.outputs] == names
    reply = stub.ModelInfer(request("group:own", raw=raw), metadata=bearer("team-a"))
    assert (reply.model_name, reply.model_version, reply.id) == ("group:own", "1", "7")
    assert [one.name for one in reply.outputs] == names
    wanted = list(expected_scores(base, bundle_of(base, "sentiment")).values())
    (chosen,) = (
        stub.ModelInfer(request("group:own", 1, "sentiment.scores"), metadata=bearer("team-a"))
    ).outputs
    assert list(chosen.contents.fp32_contents) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert bool(reply.raw_output_contents) == raw
    assert stub.ModelReady(protocol.ModelReadyRequest(name="group:own"), metadata=bearer("team-a")).ready


def test_a_group_is_for_who_may_call_all_of_it(stub: GRPCInferenceServiceStub) -> None:
    for group in ("group:mixed", "group:there-is-none"):
        for method, asked in calls(stub, group):
            code, said, _ = refused(method, asked, bearer("team-a"))
            assert code == DENIED
            assert "rating" not in said
    code, said, _ = refused(stub.ModelInfer, request("group:there-is-none"), bearer("all"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "known groups: own, mixed" in said
    other = protocol.ModelReadyRequest(name="group:own", version="2")
    assert not stub.ModelReady(other, metadata=bearer("all")).ready


def test_usage_and_changes_have_a_name_and_no_key_is_in_the_log(
    stub: GRPCInferenceServiceStub, server: RunningServer, keys_file: Path
) -> None:
    stub.ModelInfer(request("sentiment", 3), metadata=(*bearer("team-a"), ("x-request-id", "it-is-me")))
    load, asked = changes(stub, "rating")[0]
    load(asked, metadata=(("authorization", f"Bearer {ADMIN_KEY}"), ("x-request-id", "it-is-me-too")))
    for secret in (KEYS["team-a"], ADMIN_KEY):  # where a URL holds a key, it is not logged either
        httpx.get(f"{server.url}/tasks?key={secret}", headers={"x-api-key": f"{secret}-wrong"})

    def lines(logger: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in told if line["logger"] == logger]

    def of(logger: str, request_id: str) -> list[dict[str, Any]]:
        return [line for line in lines(logger) if line.get("request_id") == request_id]

    wait_until(lambda: bool(of("server.requests", "it-is-me")) and bool(lines("server.audit")))
    (line,) = of("server.requests", "it-is-me")
    assert (line["key"], line["rows"], line["status"]) == ("team-a", 3, 200)
    (line,) = of("server.audit", "it-is-me-too")
    digest = server.store.current("rating").digest
    told = [line[name] for name in ("who", "change", "task", "from_version", "to_version", "digest")]
    assert told == ["(admin)", "load", "rating", 1, 1, digest]
    told_by_metrics = httpx.get(f"{server.url}/metrics", headers=dict(bearer("all"))).text
    assert 'maskserve_key_requests_total{key="team-a",status="200"}' in told_by_metrics
    for secret in (*KEYS.values(), ADMIN_KEY, *(hash_of(key).hex() for key in KEYS.values())):
        assert secret not in server.log.read_text()
        assert secret not in told_by_metrics


def test_a_key_that_is_removed_is_refused_within_seconds(
    stub: GRPCInferenceServiceStub, server: RunningServer, keys_file: Path
) -> None:
    assert main(["remove", "--file", str(keys_file), "--name", "all"]) == 0
    asked = protocol.ModelReadyRequest(name="sentiment")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            stub.ModelReady(asked, metadata=bearer("all"))
        except grpc.RpcError as error:
            assert error.code() == UNAUTHENTICATED
            break
        time.sleep(0.1)
    else:
        pytest.fail("the key still opens")
    assert stub.ModelReady(asked, metadata=bearer("team-a")).ready
