"""S3 on this machine: moto's server behind a gate that can be shut, and what was asked of it."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.serving import wait_until

BUCKET = "masks"


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@dataclass
class Gate:
    """A way to a port that can be shut: connections are refused then, and open ones are cut."""

    behind: int
    port: int = field(default_factory=_free_port)
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
    """The process, the way to it, and its log."""

    process: subprocess.Popen[bytes]
    gate: Gate
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What programs find it by."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.gate.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

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

    def bundles_read(self) -> int:
        """How many times a bundle, or the start of one, was read since the process began."""
        return len(re.findall(r'"GET /\S+/bundles/\S+\.safetensors ', self.log.read_text()))


@contextmanager
def s3_endpoint(folder: Path) -> Iterator[S3]:
    """Start it, with an empty bucket."""
    port, log = _free_port(), folder / "moto.log"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    gate = Gate(port)
    try:
        wait_until(lambda: _answers(port), 60)
        gate.open()
        httpx.put(f"http://127.0.0.1:{port}/{BUCKET}").raise_for_status()
        yield S3(process, gate, log)
        gate.shut()
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
