"""Short requests while long texts, large bodies and uploads are worked on: each of them gets its turn."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import grpc
import pytest

from masking import load_base
from server.http.grpc.messages import SERVICE, message
from tests.server.whole.probe import Probed, probing
from tests.support.serving import RunningServer, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ADMIN = {"authorization": "Bearer the-admin-key"}
TURNS, TURN = 8, 1.0  # seconds with and without work
MEGABYTE = 1_000_000
SHORT = ("POST", "/predict/names", b'{"tokens": ["anna", "works", "in", "paris"]}')
LIVE = ("GET", "/health/live", b"")
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
Request = tuple[str, str, bytes]
Spans = list[tuple[float, float]]


def _json(**body: object) -> bytes:
    return json.dumps(body).encode()


def _tensor(size: int) -> bytes:
    one = {"name": "text", "datatype": "BYTES", "shape": [size], "data": [f"{n}" for n in range(size)]}
    return _json(inputs=[one])


def _message(size: int, text: bytes = b"a") -> bytes:
    asked = message("ModelInferRequest", model_name="sentiment")
    tensor = asked.inputs.add(name="text", datatype="BYTES", shape=[size])
    tensor.contents.bytes_contents.extend([text] * size)
    written: bytes = asked.SerializeToString()
    return written


WORK: dict[str, tuple[Request, set[int]]] = {
    "2 MB text, refused": (("POST", "/predict/sentiment", _json(inputs="a " * MEGABYTE)), {422}),
    "2 MB text, cut": (("POST", "/predict/sentiment", _json(inputs="a " * MEGABYTE, truncate=True)), {200}),
    "2 MB of white space": (("POST", "/predict/sentiment", _json(inputs=" " * 2 * MEGABYTE + "a")), {422}),
    "2 MB pair": (
        ("POST", "/predict/paraphrase", _json(inputs=["the " * 250_000, "a " * 500_000], truncate=True)),
        {200},
    ),
    "2,000 choices of 1 KB": (
        ("POST", "/predict/endings", _json(context="a", choices=["the " * 250] * 2000, truncate=True)),
        {422},
    ),
    "250 texts of 8 KB": (("POST", "/predict/sentiment", _json(inputs=[["movie " * 1300]] * 250)), {422}),
    "2 MB running text of words": (("POST", "/predict/names", _json(inputs="a " * MEGABYTE)), {422}),
    "390,000 words": (("POST", "/predict/names", _json(tokens=["ab"] * 390_000)), {413}),
    "99,000 words": (("POST", "/predict/names", _json(tokens=["ab"] * 99_000)), {422}),
    "16,000 named texts": (
        ("POST", "/hf/sentiment", _json(inputs=[{"text": f"{n}"} for n in range(16_000)])),
        {422},
    ),
    "99,000 elements of a tensor": (("POST", "/v2/models/sentiment/infer", _tensor(99_000)), {400}),
    "10 MB of empty lists": (("POST", "/predict/sentiment", b"[" + b"[]," * 3_300_000 + b"0]"), {413}),
    "10 MB of keys": (("POST", "/predict", _json(**{f"{n}": 0 for n in range(800_000)})), {413}),
    "10 MB tensor": (("POST", "/v2/models/sentiment/infer", _tensor(1_600_000)), {413}),
    "99,000 elements over gRPC": (("gRPC", "ModelInfer", _message(99_000)), {INVALID}),
    "10 MB over gRPC": (("gRPC", "ModelInfer", _message(1, b"a " * 5 * MEGABYTE)), {INVALID}),
    "10 MB of lines": (
        ("POST", "/predict", b'{"task": "none", "inputs": "%s"}\n' % (b"a " * 100) * 45_000),
        {200},
    ),
    "10 MB JSON": (("POST", "/predict/sentiment", _json(inputs="a " * 5 * MEGABYTE, truncate=True)), {200}),
    "100 MB upload": (("PUT", "/tasks/sentiment", b"\1" * 100 * MEGABYTE), {422}),
}


@pytest.fixture(scope="module")
def server(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    limits = ("--max-body-bytes", "16MiB", "--max-bundle-bytes", "128MiB")
    options = (*limits, "--admin-key", "the-admin-key", "--grpc-port", "0")
    tasks = ("sentiment", "paraphrase", "names", "endings")
    with running(
        tiny_bert, load_base(tiny_bert), tmp_path_factory.mktemp("long"), tasks, *options
    ) as started:
        yield started


def _do(server: RunningServer, work: Request) -> int:
    method, path, body = work
    if method == "gRPC":
        return _call(server, path, body)
    where = urlsplit(server.url)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)) as connection:
        kind = "application/x-ndjson" if b"\n" in body else "application/json"
        connection.request(method, path, body, ADMIN | {"content-type": kind})
        reply = connection.getresponse()
        reply.read()
        return reply.status


def _call(server: RunningServer, method: str, body: bytes) -> int:
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/{method}")(body)
        except grpc.RpcError as error:
            return int(error.code().value[0])
    return 0


def _measure(server: RunningServer, work: Request) -> tuple[Probed, Probed, Spans, Counter[int]]:
    """Short requests, liveness, when there was work beside them, and the statuses of that."""
    statuses: Counter[int] = Counter()
    spans: Spans = []
    with probing(server, *SHORT) as short, probing(server, *LIVE) as live:
        for _ in range(TURNS):  # what else the machine does meets both alike
            time.sleep(TURN)
            begin = time.monotonic()
            while time.monotonic() < begin + TURN:
                statuses[_do(server, work)] += 1
            spans.append((begin, time.monotonic()))
        return short(), live(), spans, statuses


@pytest.mark.parametrize("name", WORK)
def test_short_requests_get_their_turn(server: RunningServer, name: str) -> None:
    work, expected = WORK[name]
    short, live, spans, statuses = _measure(server, work)
    alone, beside = short.during(spans, whether=False), short.during(spans)
    print(
        f"\n{name}: {dict(statuses)}\nshort requests: {alone} -> {beside}, {beside.p99 / alone.p99:.1f} times"
    )
    print(f"liveness: {live.during(spans, whether=False)} -> {live.during(spans)}")
    assert statuses.keys() <= expected
    assert beside.p99 <= 3 * alone.p99
    assert live.own.max() <= 0.1
