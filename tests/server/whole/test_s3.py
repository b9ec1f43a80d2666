"""A store on S3: two servers follow it, and serve on while it refuses connections or hangs.

Needs `pip install 's3fs' 'moto[server]'`: moto's server speaks S3's protocol on this machine.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from lab.server_process import ServerProcess, server_command, start_server
from mask_store import MaskStore
from masking import Base
from tests.support.serving import EXACT, TEXT, bundle_of, wait_until

MISSING = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
AWAY_SECONDS = 30.0
STORE = "s3://masks/store"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@dataclass
class Gate:
    """A way to a port that can be shut: connections are refused then, and open ones are cut."""

    behind: int
    port: int = field(default_factory=free_port)
    _listener: socket.socket | None = None
    _open: list[socket.socket] = field(default_factory=list)

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", self.behind))
            self._open += [ours, theirs]
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@dataclass
class S3:
    """S3 on this machine: its process, and the way to it."""

    process: subprocess.Popen[bytes]
    gate: Gate

    def leave(self, how: str) -> None:
        """Refuse connections, or hang."""
        if how == "refuses":
            self.gate.shut()
        else:
            self.process.send_signal(signal.SIGSTOP)

    def come_back(self, how: str) -> None:
        """Answer again."""
        if how == "refuses":
            self.gate.open()
        else:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    with (tmp_path / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    gate = Gate(port)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        wait_until(lambda: _answers(port), 60)
        gate.open()
        httpx.put(f"http://127.0.0.1:{port}/masks").raise_for_status()
        yield S3(process, gate)
        gate.shut()
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def two_servers(base: str, folder: Path) -> Iterator[list[ServerProcess]]:
    options = ["--base", base, "--store", STORE, "--port", 0, "--device", "cpu", "--threads", "1"]
    command = server_command(*options, "--poll-seconds", "0.2", "--precision", EXACT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        starts = (
            start_server(command, folder / f"log{place}", environment=environment) for place in range(2)
        )
        yield [stack.enter_context(start) for start in starts]


def version_of(server: ServerProcess) -> str:
    reply = httpx.post(f"{server.url}/predict/sentiment", json={"inputs": TEXT}, timeout=10)
    assert reply.status_code == 200, reply.text
    version: str = reply.headers["x-task-version"]
    return version


def follow(servers: list[ServerProcess], version: str, seconds: float) -> float:
    started = time.monotonic()
    wait_until(lambda: all(version_of(server) == version for server in servers), seconds)
    return time.monotonic() - started


def store_up(server: ServerProcess) -> bool:
    return "maskserve_store_up 1.0" in httpx.get(f"{server.url}/metrics", timeout=10).text


@pytest.mark.parametrize("away", ["refuses", "hangs"])
def test_two_servers_follow_a_store_on_s3_and_outlive_it(
    s3: S3, tiny_bert: str, base: Base, tmp_path: Path, away: str
) -> None:
    store = MaskStore.open(STORE, create=True)
    store.publish(bundle_of(base, "sentiment"))
    with two_servers(tiny_bert, tmp_path) as servers:
        assert [version_of(server) for server in servers] == ["1", "1"]
        store.publish(bundle_of(base, "sentiment", seed=1))
        print(f"followed in {follow(servers, '2', 20):.1f} s")
        store.rollback("sentiment")
        print(f"rolled back in {follow(servers, '1', 20):.1f} s")

        s3.leave(away)
        end, slowest = time.monotonic() + AWAY_SECONDS, 0.0
        while time.monotonic() < end:
            begun = time.monotonic()
            assert [version_of(server) for server in servers] == ["1", "1"]
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.1)
        assert not any(store_up(server) for server in servers)
        s3.come_back(away)
        store.publish(bundle_of(base, "sentiment", seed=2))
        print(f"slowest answers of both {slowest:.2f} s; caught up in {follow(servers, '3', 60):.1f} s")
        assert all(store_up(server) for server in servers)
