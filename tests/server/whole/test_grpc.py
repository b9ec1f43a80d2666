"""gRPC clients that people already have, unmodified, against a server process."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protocol
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from masking import Base, ChoiceInput, TextInput
from tests.support.serving import (
    SPECS,
    TEXT,
    RunningServer,
    bundle_of,
    expected_scores,
    running,
    wait_until,
)

ADMIN_KEY = "rumpelstilz"
CLIENT_KEY = "pumpernickel"
QUESTION = ChoiceInput("she lost the card and", ("works", "help please", "paris"))
TRITON = Path(__file__).with_name("triton_grpc.py")


@pytest.fixture(scope="module")
def server(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    options = ("--admin-key", ADMIN_KEY, "--api-keys", CLIENT_KEY, "--grpc-port", "0")
    with running(tiny_bert, base, folder, list(SPECS), *options) as server:
        yield server


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield GRPCInferenceServiceStub(channel)


def ask_with_kserve(
    server: RunningServer, ask: Callable[[InferenceGRPCClient], Coroutine[Any, Any, InferResponse]]
) -> InferResponse:
    async def asked() -> InferResponse:
        client = InferenceGRPCClient(server.grpc_address)
        try:
            return await ask(client)
        finally:
            await client.close()

    return asyncio.run(asked())


def infer(*inputs: InferInput, task: str = "sentiment", **others: Any) -> InferRequest:
    return InferRequest(task, list(inputs), **others)


async def infer_by(asked: InferRequest, client: InferenceGRPCClient) -> InferResponse:
    return await client.infer(asked, headers=bearer(CLIENT_KEY))


def request(*texts: bytes, shape: Sequence[int] = (), name: str = "text", **others: Any) -> Any:
    tensor = protocol.ModelInferRequest.InferInputTensor(
        name=name, datatype="BYTES", shape=shape or [len(texts)]
    )
    tensor.contents.bytes_contents.extend(texts)
    return protocol.ModelInferRequest(model_name="sentiment", inputs=[tensor], **others)


@pytest.mark.parametrize("raw", [True, False])
def test_kserve_client_infers_every_kind(server: RunningServer, base: Base, raw: bool) -> None:
    def text(name: str, values: Any) -> InferInput:
        array = np.array(values, np.object_)
        one = InferInput(name, list(array.shape), "BYTES")
        one.set_data_from_numpy(array, binary_data=raw)
        return one

    asked = {
        "sentiment": ([text("text", [TEXT])], None),
        "paraphrase": (
            [text("text", [TEXT]), text("text_pair", ["she works"])],
            TextInput(TEXT, "she works"),
        ),
        "endings": (
            [text("context", [QUESTION.context]), text("choices", [list(QUESTION.choices)])],
            QUESTION,
        ),
    }
    for task, (inputs, given) in asked.items():
        wanted = expected_scores(base, bundle_of(base, task), given)
        asking = partial(infer_by, infer(*inputs, task=task))
        response = ask_with_kserve(server, asking)
        label, scores = (output.as_numpy() for output in response.outputs)
        assert scores[0].tolist() == pytest.approx(list(wanted.values()), rel=1e-4, abs=1e-5)
        assert label[0].decode() == max(wanted, key=lambda name: wanted[name])


def test_words_are_json(server: RunningServer) -> None:
    one = InferInput("text", [1], "BYTES", data=["Anna works in Paris."])
    response = ask_with_kserve(server, partial(infer_by, infer(one, task="names")))
    (label,) = response.outputs
    assert {"word", "start", "end"} <= json.loads(label.as_numpy()[0])[0].keys()


def test_triton_client_speaks_with_every_method(server: RunningServer, base: Base) -> None:
    # In a process of its own: its messages have the same names as those of kserve.
    command = [sys.executable, str(TRITON), server.grpc_address, CLIENT_KEY, ADMIN_KEY, TEXT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert told["scores"] == pytest.approx(list(wanted.values()), rel=1e-4, abs=1e-5)
    assert told["label"] == max(wanted, key=lambda name: wanted[name])
    assert told["metadata"]["inputs"][0]["name"] == "text"
    assert told["version"] == "1"
    assert set(told["index"]) == set(SPECS)
    assert told["unloaded"] == [False, True]
    assert told["error"].startswith("[StatusCode.NOT_FOUND] unknown task")


def test_a_reply_names_what_computed_it(stub: GRPCInferenceServiceStub, server: RunningServer) -> None:
    reply, call = stub.ModelInfer.with_call(
        request(TEXT.encode(), id="7"), metadata=(*bearer(CLIENT_KEY), ("x-request-id", "it-is-me"))
    )
    metadata = dict(call.initial_metadata())
    assert (reply.id, reply.model_version) == ("7", "1")
    assert metadata["x-request-id"] == "it-is-me"
    assert metadata["x-task-version"] == "1"
    assert metadata["x-mask-digest"] == server.store.current("sentiment").digest
    wait_until(lambda: "gRPC ModelInfer" in server.log.read_text())
    (line,) = (line for line in server.log.read_text().splitlines() if "it-is-me" in line)
    assert "status=200" in line
    assert "rows=1" in line
    counts = httpx.get(f"{server.url}/metrics").text
    assert 'route="/inference.GRPCInferenceService/ModelInfer",status="200",task="sentiment"' in counts


def test_parameters_are_those_of_http(stub: GRPCInferenceServiceStub) -> None:
    long = request(b"good " * 2000)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(long, metadata=bearer(CLIENT_KEY))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "truncate" in refused.value.details()
    long.parameters["truncate"].bool_param = True
    long.parameters["raw_scores"].bool_param = True
    long.outputs.add(name="scores")
    (scores,) = stub.ModelInfer(long, metadata=bearer(CLIENT_KEY)).outputs
    assert scores.name == "scores"
    assert sum(scores.contents.fp32_contents) != pytest.approx(1)


INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED
MISSING = grpc.StatusCode.NOT_FOUND
raw_twice = request(b"a", raw_input_contents=[b"\x01\x00\x00\x00a"])
unnamed = request(b"a")
unnamed.inputs[0].contents.ClearField("bytes_contents")
unnamed.inputs[0].contents.fp32_contents.append(1.0)


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (request(b"a", name="words"), INVALID, "takes the inputs 'text', not 'words'"),
        (request(b"\xff"), INVALID, "not UTF-8"),
        (request(b"a", shape=[2]), INVALID, "has 1 elements, but its shape"),
        (request(b"a", shape=[-1]), INVALID, "inputs.0.shape.0"),
        (request(b"a", model_version="9"), MISSING, "served in version 1"),
        (raw_twice, INVALID, "has contents beside raw_input_contents"),
        (unnamed, INVALID, "has fp32_contents; texts are bytes_contents"),
        (protocol.ModelInferRequest(model_name="sentiment"), INVALID, "inputs"),
        (protocol.ModelInferRequest(model_name="made-up"), MISSING, "unknown task 'made-up'"),
    ],
)
def test_what_is_wrong_is_told(
    stub: GRPCInferenceServiceStub, asked: Any, code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(asked, metadata=bearer(CLIENT_KEY))
    assert refused.value.code() == code
    assert message in refused.value.details()


@pytest.mark.parametrize("key", ["", "Bearer wrong", f"Basic {CLIENT_KEY}", CLIENT_KEY])
def test_a_call_without_its_key_is_refused(stub: GRPCInferenceServiceStub, key: str) -> None:
    metadata = (("authorization", key),) if key else ()
    for method, asked in (
        (stub.ModelInfer, request(b"a")),
        (stub.ModelReady, protocol.ModelReadyRequest(name="sentiment")),
        (stub.ModelMetadata, protocol.ModelMetadataRequest(name="sentiment")),
        (stub.RepositoryModelLoad, protocol.RepositoryModelLoadRequest(model_name="sentiment")),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            method(asked, metadata=metadata)
        assert refused.value.code() == DENIED
    assert stub.ServerLive(protocol.ServerLiveRequest(), metadata=metadata).live


def test_administration_needs_the_admin_key(stub: GRPCInferenceServiceStub) -> None:
    load = protocol.RepositoryModelLoadRequest(model_name="paraphrase")
    with pytest.raises(grpc.RpcError) as refused:
        stub.RepositoryModelLoad(load, metadata=bearer(CLIENT_KEY))
    assert refused.value.code() == DENIED
    assert stub.RepositoryModelLoad(load, metadata=bearer(ADMIN_KEY)).isLoaded


def test_ready_is_false_for_what_is_not_served(stub: GRPCInferenceServiceStub) -> None:
    def ready(**asked: str) -> bool:
        answer = stub.ModelReady(protocol.ModelReadyRequest(**asked), metadata=bearer(CLIENT_KEY))
        return bool(answer.ready)

    assert ready(name="sentiment")
    assert ready(name="sentiment", version="1")
    assert not ready(name="sentiment", version="2")
    assert not ready(name="made-up")


def test_a_message_over_the_limit_is_refused(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    options = ("--grpc-port", "0", "--max-body-bytes", "64KiB")
    with (
        running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request(b"a" * 100_000))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.ModelInfer(request(b"a")).model_version == "1"


def test_what_is_no_message_is_refused(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")  # as bytes
        for metadata, code, said in (
            (bearer(CLIENT_KEY), grpc.StatusCode.INVALID_ARGUMENT, "no ModelInferRequest of the protocol"),
            ((), DENIED, "key"),  # nobody's message is read who may not call
        ):
            with pytest.raises(grpc.RpcError) as refused:
                method(b"\xff" * 100, metadata=metadata)
            assert refused.value.code() == code
            assert said in refused.value.details()


def in_flight(server: RunningServer) -> int:
    """Requests that the server is answering, without the one that asks."""
    (count,) = re.findall(
        r"^maskserve_requests_in_flight (\S+)", httpx.get(f"{server.url}/metrics").text, re.M
    )
    return int(float(count)) - 1


def test_calls_in_flight_are_answered_at_the_end(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    slow = ("--queue-limit", "10000", "--queue-seconds", "10000", "--max-batch-rows", "1")
    with running(tiny_bert, base, tmp_path, ["sentiment"], "--grpc-port", "0", *slow) as server:
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer.future(request(*[TEXT.encode()] * 60)) for _ in range(20)]
            # A call that the server has not seen yet may be refused as it goes down.
            wait_until(lambda: sum(call.done() for call in calls) + in_flight(server) >= len(calls))
            assert not all(call.done() for call in calls)
            server.process.terminate()
            assert [len(call.result(timeout=60).outputs) for call in calls] == [2] * 20
        assert server.process.wait(30) == 0


def test_a_port_that_is_taken_is_one_line(tiny_bert: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "server", "--base", tiny_bert, "--store", str(tmp_path)]
        done = subprocess.run(
            [*command, "--grpc-port", str(port)], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"python -m server: --grpc-port {port}: in use on 127.0.0.1; --grpc-port 0 takes a free one"
    )


def test_versions_side_by_side(server: RunningServer, stub: GRPCInferenceServiceStub, base: Base) -> None:
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    server.store.publish(bundle_of(base, "topics", seed=1))
    route = f"{server.url}/tasks/topics/traffic"
    reply = httpx.put(route, json={"weights": {"1": 50, "2": 50}, "stable": 1}, headers=admin)
    assert reply.status_code == 200, reply.text

    def version(*metadata: tuple[str, str], named: str = "") -> str:
        asked = request(TEXT.encode(), model_version=named)
        asked.model_name = "topics"
        answer = stub.ModelInfer(asked, metadata=(*bearer(CLIENT_KEY), *metadata))
        return str(answer.model_version)

    assert {version() for _ in range(4)} == {"1", "2"}
    assert [version(named=number) for number in ("1", "2")] == ["1", "2"]
    for key in ("a", "b", "c", "d"):
        assert len({version(("x-sticky-key", key)) for _ in range(3)}) == 1
    told = protocol.ModelMetadataRequest(name="topics")
    assert list(stub.ModelMetadata(told, metadata=bearer(CLIENT_KEY)).versions) == ["1", "2"]
    for number, ready in (("1", True), ("2", True), ("3", False), ("x", False)):
        asked = protocol.ModelReadyRequest(name="topics", version=number)
        assert stub.ModelReady(asked, metadata=bearer(CLIENT_KEY)).ready is ready
    with pytest.raises(grpc.RpcError, match="served in versions 1, 2"):
        version(named="3")
    assert httpx.post(f"{route}/abort", headers=admin).status_code == 200
