"""Prometheus: a real server of it, on what deploy/prometheus/ has, with seconds in place of minutes."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.support.serving import ROOT, wait_until

FILES = ROOT / "deploy" / "prometheus"
RULES = ("recording.rules.yml", "alerts.rules.yml")
WINDOW: Final = "4s"
"""What ranges of minutes are shortened to: four scrapes."""
_START_SECONDS = 30
_RANGE = re.compile(r"\[\d+m\]")

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs prometheus and promtool (Debian: apt-get install prometheus)",
)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that scrapes each second."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert reply["status"] == "success", reply
        return list(reply["data"]["result"])

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def alert_rules() -> list[dict[str, Any]]:
    """The rules of all alerts."""
    document = yaml.safe_load((FILES / "alerts.rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def recorded_names() -> set[str]:
    """The names that recording rules give."""
    document = yaml.safe_load((FILES / "recording.rules.yml").read_text())
    return {rule["record"] for group in document["groups"] for rule in group["rules"]}


@contextmanager
def prometheus(
    folder: Path,
    targets: Sequence[str],
    change: Callable[[str], str] = lambda rules: rules,
    *,
    key: str | None = None,
) -> Iterator[Prometheus]:
    """A Prometheus with the files of deploy/prometheus/, other targets and seconds in place of minutes.

    Args:
        folder: For its files; made.
        targets: Addresses that it scrapes, such as 127.0.0.1:8000.
        change: Made to the text of the rules, besides.
        key: That of servers with a keys file.
    """
    folder.mkdir()
    for name in RULES:
        (folder / name).write_text(change(_shortened((FILES / name).read_text())))
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    job["static_configs"][0]["targets"] = list(targets)
    if key is not None:
        (folder / "key").write_text(key)
        job["authorization"] = {"credentials_file": "key"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    found = Prometheus(f"http://{address}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _is_ready(found), _START_SECONDS)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _shortened(rules: str) -> str:
    """Look back seconds instead of minutes, and let alerts fire after one."""
    return re.sub(r"for: \d+m", "for: 1s", _RANGE.sub(f"[{WINDOW}]", rules))


def _is_ready(server: Prometheus) -> bool:
    try:
        return httpx.get(f"{server.url}/-/ready").is_success
    except httpx.TransportError:
        return False
