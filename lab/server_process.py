"""Server process: start `python -m server` as a process of its own, wait until it is ready, stop it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


class ServerStartError(Exception):
    """A server process ended, or was not ready in time; the message ends with its log."""


@dataclass(frozen=True)
class ServerProcess:
    """A running server.

    Attributes:
        process: The process.
        url: Where it listens, such as ``http://127.0.0.1:8000``.
        log: File of its stdout and stderr.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def server_command(*options: object) -> list[str]:
    """Return the command line of `python -m server` with this interpreter."""
    return [sys.executable, "-m", "server", *map(str, options)]


@contextmanager
def start_server(
    command: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> Iterator[ServerProcess]:
    """Start a server, wait until it is ready, and stop it at the end.

    Args:
        command: Its command line, such as `server_command` gives. With ``--port 0`` the operating system
            chooses the port; the server must log from level info on, where the port is read.
        log: File for its stdout and stderr.
        folder: Its working directory; None for the caller's.
        environment: Its environment; None for the caller's.
        seconds: How long it may take to be ready.

    Raises:
        ServerStartError: It ended, or was not ready in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        yield ServerProcess(process, _wait_until_ready(process, log, seconds), log)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerStartError(
                f"the server ended with exit code {process.returncode}:\n{log.read_text()}"
            )
        found = re.search(r"running on (http://\S+)", log.read_text())
        if found and _is_ready(found[1]):
            return found[1]
        time.sleep(_POLL_SECONDS)
    raise ServerStartError(f"the server was not ready after {seconds:.0f} s:\n{log.read_text()}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").is_success
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
