import json
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx
import pytest

from mask_store import MaskBundle, MaskStore
from masking import Base, TextInput
from server.__main__ import main
from tests.support.serving import (
    SPECS,
    TEXT,
    RunningServer,
    Scores,
    bundle_of,
    expected_scores,
    running,
    scores_in,
    wait_until,
)

ADMIN_KEY = "rumpelstilz"


@pytest.fixture(scope="module")
def server(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an admin key, which tells everything."""
    folder = tmp_path_factory.mktemp("served")
    options = ("--admin-key", ADMIN_KEY, "--log-format", "json", "--log-level", "debug")
    with running(tiny_bert, base, folder, list(SPECS), *options) as server:
        yield server


def test_swap_and_rollback_under_load_lose_nothing(server: RunningServer, base: Base) -> None:
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


def test_who_leaves_is_forgotten_and_sigterm_under_load_answers_what_was_accepted(
    tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    # one by one: longer than a client that may only have closed its half is heard
    options = ("--max-batch-rows", "1", "--queue-limit", "10000", "--queue-seconds", "600")
    with running(tiny_bert, base, tmp_path, ["sentiment"], *options) as server:
        _leave(server)
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


def _leave(server: RunningServer) -> None:
    """Send more than is computed at once, go away, and see that it is forgotten."""
    body = {"inputs": [[TEXT]] * 1900}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/predict/sentiment", json=body, timeout=httpx.Timeout(10, read=0.05))
    wait_until(lambda: _waiting_rows(server) == 0)
    wait_until(lambda: 'status="499"' in httpx.get(f"{server.url}/metrics").text)
    assert httpx.post(f"{server.url}/predict/sentiment", json={"inputs": TEXT}).status_code == 200


def test_a_running_server_is_administrated_and_keeps_its_key(server: RunningServer, base: Base) -> None:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    bundle = bundle_of(base, "sentiment", seed=1).to_bytes()
    reply = httpx.put(f"{server.url}/tasks/sentiment", content=bundle, headers=headers)
    assert (reply.status_code, reply.json()["served_version"]) == (201, 2)
    assert httpx.delete(f"{server.url}/tasks/sentiment").status_code == 401
    log = server.log.read_text()
    told = [json.loads(line) for line in log.splitlines()]
    assert "PUT /tasks/{task}" in [line["message"] for line in told]
    assert ADMIN_KEY not in log


def _waiting_rows(server: RunningServer) -> float:
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
    assert "no mask store at" in (said := capsys.readouterr().err)
    assert "--create-store makes an empty one" in said


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


def test_a_port_that_is_taken(tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MaskStore.open(tmp_path / "store", create=True)
    arguments = ["--base", tiny_bert, "--store", str(tmp_path / "store"), "--device", "cpu"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*arguments, "--port", str(taken.getsockname()[1])]) == 1
    assert "in use" in capsys.readouterr().err


def test_a_body_that_is_far_too_large_is_told_so(server: RunningServer) -> None:
    body = {"inputs": "a" * (32 << 20)}
    reply = httpx.post(f"{server.url}/predict/sentiment", json=body, timeout=30)
    assert reply.status_code == 413
    assert reply.json()["error_type"] == "Validation"
