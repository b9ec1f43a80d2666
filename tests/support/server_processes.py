"""Servers that tests start as processes of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mask_store import MaskStore
from masking import Base
from tests.support.serving import fill, wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    store: MaskStore
    log: Path


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
