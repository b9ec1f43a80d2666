import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from masking import Base
from server import process
from server.build import build_service
from tests.support.serving import ROOT, TEXT, fill, running, settings_of, wait_until

_HANGS_AT_THE_END = """
import os, signal, sys, time
from threading import Thread
from server import process
from server.build import build_service
from server.settings import Settings

base, store = sys.argv[1:]
service = build_service(Settings(base=base, store=store, port=0, threads=1, shutdown_seconds=1))

def leave():
    while service.why_not_ready() is not None:
        time.sleep(0.05)
    Thread(target=time.sleep, args=(600,), name="hung-upload", daemon=False).start()
    os.kill(os.getpid(), signal.SIGTERM)

process._LAST_SECONDS = 1.0
Thread(target=leave, daemon=True).start()
sys.exit(process.serve(service, service.settings))
"""


class NoTimer:
    """A timer that never goes off."""

    def __init__(self, *_: object) -> None:
        self.daemon = False

    def start(self) -> None:
        assert self.daemon


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps `serve` from changing the process of the tests for good."""
    monkeypatch.setattr(process, "Timer", NoTimer)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_sigterm_makes_the_server_not_ready_at_once_and_answers_on(
    tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    with (
        running(tiny_bert, base, tmp_path, ["sentiment"], "--drain-seconds", "60") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        assert f"the console is at {server.url}/ui" in server.log.read_text()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/health/ready").status_code == 503)
        assert "shutting down" in client.get("/health/ready").json()["error"]
        assert client.get("/health/live").status_code == 200
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
        server.process.send_signal(signal.SIGTERM)  # who is in a hurry says it twice
        assert server.process.wait(30) == 0


@pytest.mark.usefixtures("alone")
def test_a_worker_that_dies_again_and_again_ends_the_process(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, base, ["sentiment"])
    service = build_service(settings_of(tmp_path, port=0, shutdown_seconds=3), base=base)

    def die() -> None:
        raise RuntimeError("no kernel can be built here")

    service.engine._prepare = die
    service.engine.worker._restart_seconds = 0
    assert process.serve(service, service.settings) == 1
    assert "no kernel can be built here" in caplog.text
    last = [record.getMessage() for record in caplog.records if record.name == "server.process"][-1]
    assert last.startswith("ended with exit code 1: the worker died 5 times in a row")


def test_what_hangs_is_named_and_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes, let_go = list[int](), Event()
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    hung = Thread(target=let_go.wait, args=(20,), name="hung-upload")
    hung.start()
    process._give_up()
    let_go.set()
    hung.join()
    assert codes == [1]
    assert "hung-upload" in caplog.text


@pytest.mark.slow
def test_a_thread_that_hangs_does_not_keep_the_process(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    command = [sys.executable, "-c", _HANGS_AT_THE_END, tiny_bert, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "hung-upload" in done.stderr
