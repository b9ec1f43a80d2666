import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
import pytest
from huggingface_hub import InferenceClient

from mask_store import MaskBundle, MaskStore
from masking import Base, TextInput, load_base
from server.__main__ import main
from tests.server.serving import (
    SPECS,
    TEXT,
    Scores,
    bundle_of,
    expected_scores,
    fill,
    scores_in,
    wait_until,
)

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    store: MaskStore
    log: Path


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return load_base(tiny_bert)


@contextmanager
def running(tiny_bert: str, base: Base, folder: Path, tasks: list[str], *options: str) -> Iterator[Running]:
    store, log = fill(folder / "store", base, tasks), folder / "log"
    command = [sys.executable, "-m", "server", "--base", tiny_bert, "--store", str(folder / "store")]
    command += ["--port", "0", "--device", "cpu", "--threads", "1", "--poll-seconds", "0.05", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        server = Running(process, _wait_for_url(process, log), store, log)
        wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    found: list[str] = []

    def listening() -> bool:
        assert process.poll() is None, log.read_text()
        found.extend(re.findall(r"running on (http://\S+)", log.read_text()))
        return bool(found)

    wait_until(listening, START_SECONDS)
    return found[0]


@pytest.fixture(scope="module")
def server(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bert, base, tmp_path_factory.mktemp("served"), list(SPECS)) as server:
        yield server


def test_hugging_face_client_classifies_texts(server: Running, base: Base) -> None:
    client = InferenceClient(model=f"{server.url}/predict/sentiment")
    every = client.text_classification(TEXT)
    wanted = expected_scores(base, bundle_of(base, "sentiment"))
    assert {entry.label: entry.score for entry in every} == pytest.approx(wanted, abs=1e-6)
    assert [entry.label for entry in every] == sorted(wanted, key=lambda label: -wanted[label])
    assert client.text_classification(TEXT, top_k=1) == every[:1]
    raw = client.text_classification(TEXT, function_to_apply="none")
    assert [entry.label for entry in raw] == [entry.label for entry in every]
    assert sum(entry.score for entry in every) == pytest.approx(1)
    assert sum(entry.score for entry in raw) != pytest.approx(1)
    squashed = client.text_classification(TEXT, top_k=2, function_to_apply="sigmoid")
    assert len(squashed) == 2


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
def test_hugging_face_client_finds_entities(server: Running, strategy: str | None) -> None:
    text = "Anna works for Acme in Paris."
    client = InferenceClient(model=f"{server.url}/predict/names")
    entities = client.token_classification(text, aggregation_strategy=strategy, ignore_labels=[])  # type: ignore[arg-type]
    assert entities
    assert {entity.entity_group for entity in entities} <= {"O", "PER", "LOC"}
    for entity in entities:
        assert entity.start is not None
        assert text[entity.start : entity.end] == entity.word


def test_hugging_face_client_gets_every_word(server: Running) -> None:
    text = "Anna works for Acme in Paris."
    client = InferenceClient(model=f"{server.url}/predict/names")
    words = client.token_classification(text, aggregation_strategy="none", ignore_labels=[])
    assert [word.word for word in words] == ["Anna", "works", "for", "Acme", "in", "Paris", "."]
    assert {word["entity"] for word in words} <= set(SPECS["names"].labels)


def test_hugging_face_client_asks_about_an_endpoint(server: Running) -> None:
    client = InferenceClient(model=f"{server.url}/predict/sentiment", provider="hf-inference")
    assert client.health_check()
    assert client.get_endpoint_info()["task_version"] == 1
    assert not client.health_check(model=f"{server.url}/predict/nothing")


def test_swap_and_rollback_under_load_lose_nothing(server: Running, base: Base) -> None:
    task = "paraphrase"
    bundles = [server.store.load(task), bundle_of(base, task, seed=1)]
    own = {bundle.digest: scores_of_pair(base, bundle) for bundle in bundles}
    assert len({tuple(scores.items()) for scores in own.values()}) == 2
    seen: list[tuple[int, str, str, Scores]] = []
    stop = Event()

    def call() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not stop.is_set():
                reply = client.post(f"/predict/{task}", json={"inputs": ["it is good", "it is great"]})
                version, digest = reply.headers["x-task-version"], reply.headers["x-mask-digest"]
                seen.append((reply.status_code, version, digest, scores_in(reply.json())))

    def answers_of(digest: str) -> bool:
        return len(seen) > 20 and all(entry[2] == digest for entry in seen[-20:])

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(call) for _ in range(8)]
        try:
            wait_until(lambda: answers_of(bundles[0].digest))
            assert server.store.publish(bundles[1]).number == 2
            wait_until(lambda: answers_of(bundles[1].digest))
            server.store.rollback(task)
            wait_until(lambda: answers_of(bundles[0].digest))
        finally:
            stop.set()
        for client in clients:
            client.result()
    versions = {("1", bundles[0].digest), ("2", bundles[1].digest)}
    assert {entry[0] for entry in seen} == {200}
    assert {entry[1:3] for entry in seen} == versions
    for _, _, digest, scores in seen:
        assert scores == pytest.approx(own[digest], rel=1e-4, abs=1e-5)


def scores_of_pair(base: Base, bundle: MaskBundle) -> Scores:
    return expected_scores(base, bundle, TextInput("it is good", "it is great"))


def test_sigterm_under_load_answers_what_was_accepted(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    options = ("--max-batch-rows", "1", "--queue-limit", "10000")
    with running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server:
        answered: list[int] = []

        def keep_calling() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client, suppress(httpx.NetworkError):
                while True:  # until no connection is taken any more
                    try:
                        reply = client.post("/predict/sentiment", json={"inputs": TEXT})
                    except httpx.RemoteProtocolError:  # a kept connection, closed between two requests
                        continue
                    answered.append(reply.status_code)

        def call_with(rows: int) -> int:
            body = {"inputs": [[TEXT]] * rows}
            reply = httpx.post(f"{server.url}/predict/sentiment", json=body, timeout=30)
            assert len(reply.json()) == rows, reply.text
            return reply.status_code

        with ThreadPoolExecutor(12) as pool:
            callers = [pool.submit(keep_calling) for _ in range(8)]
            wait_until(lambda: len(answered) > 20)
            large = [pool.submit(call_with, 200) for _ in range(4)]
            wait_until(lambda: _waiting_rows(server) > 620)  # so all four were accepted
            server.process.send_signal(signal.SIGTERM)
            assert [call.result() for call in large] == [200] * 4
            assert server.process.wait(30) == 0
            for caller in callers:
                caller.result()
        assert set(answered) == {200}
        assert "Traceback" not in server.log.read_text()


def test_sigterm_makes_the_server_not_ready_at_once_and_answers_on(
    tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    with running(tiny_bert, base, tmp_path, ["sentiment"], "--drain-seconds", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
        assert "shutting down" in httpx.get(f"{server.url}/health/ready").json()["error"]
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        reply = httpx.post(f"{server.url}/predict/sentiment", json={"inputs": TEXT})
        assert reply.status_code == 200
        server.process.send_signal(signal.SIGTERM)  # who is in a hurry says it twice
        assert server.process.wait(30) == 0


def test_a_running_server_is_administrated_and_keeps_its_key(
    tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    options = ("--admin-key", "rumpelstilz", "--log-format", "json", "--log-level", "debug")
    with running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server:
        headers = {"authorization": "Bearer rumpelstilz"}
        bundle = bundle_of(base, "sentiment", seed=1).to_bytes()
        reply = httpx.put(f"{server.url}/tasks/sentiment", content=bundle, headers=headers)
        assert (reply.status_code, reply.json()["served_version"]) == (201, 2)
        assert httpx.delete(f"{server.url}/tasks/sentiment").status_code == 401
        log = server.log.read_text()
        told = [json.loads(line) for line in log.splitlines()]
        assert "PUT /tasks/{task}" in [line["message"] for line in told]
        assert "rumpelstilz" not in log


def _waiting_rows(server: Running) -> float:
    metrics = httpx.get(f"{server.url}/metrics").text
    (rows,) = re.findall(r"^maskserve_queue_rows (\S+)", metrics, re.MULTILINE)
    return float(rows)


def test_settings_that_are_wrong_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "tiny", "--port", "99999", "--queue-limit", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("python -m server: --") for line in lines)


def test_a_store_that_is_not_there(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--base", tiny_bert, "--store", str(tmp_path / "none")]) == 1
    assert "training.learn_mask" in capsys.readouterr().err


def test_a_base_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MaskStore.open(tmp_path / "store", create=True)
    assert main(["--base", str(tmp_path / "none"), "--store", str(tmp_path / "store")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m server: ")
    assert len(error.splitlines()) == 1


def test_a_device_that_is_not_there(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MaskStore.open(tmp_path / "store", create=True)
    arguments = ["--base", tiny_bert, "--store", str(tmp_path / "store"), "--device", "cuda:77"]
    assert main(arguments) == 2
    assert "--device cuda:77" in capsys.readouterr().err


def test_a_port_that_is_taken(
    tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    MaskStore.open(tmp_path / "store", create=True)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of the tests stay
    arguments = ["--base", tiny_bert, "--store", str(tmp_path / "store"), "--device", "cpu"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*arguments, "--port", str(taken.getsockname()[1])]) == 1
    assert "address already in use" in caplog.text


def test_a_body_that_is_far_too_large_is_told_so(server: Running) -> None:
    body = {"inputs": "a" * (32 << 20)}
    reply = httpx.post(f"{server.url}/predict/sentiment", json=body, timeout=30)
    assert reply.status_code == 413
    assert reply.json()["error_type"] == "Validation"


def test_a_client_that_leaves_is_forgotten(server: Running) -> None:
    body = {"inputs": [[TEXT]] * 1900}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/predict/sentiment", json=body, timeout=httpx.Timeout(10, read=0.05))
    wait_until(lambda: _waiting_rows(server) == 0)
    wait_until(lambda: 'status="499"' in httpx.get(f"{server.url}/metrics").text)
    assert httpx.post(f"{server.url}/predict/sentiment", json={"inputs": TEXT}).status_code == 200
