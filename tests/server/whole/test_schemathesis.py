"""The server against its own OpenAPI document: requests that it allows and others, by all checks."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from masking import Base
from tests.support.serving import SPECS, RunningServer, running

ADMIN_KEY, CLIENT_KEY = "rumpelstilz", "client"


@pytest.fixture
def server(tiny_bert: str, base: Base, tmp_path: Path) -> Iterator[RunningServer]:
    keys = ("--admin-key", ADMIN_KEY, "--api-keys", CLIENT_KEY)
    options = (*keys, "--log-level", "info", "--group", "texts=sentiment,topics")
    with running(tiny_bert, base, tmp_path, list(SPECS), *options) as server:
        yield server


def document_of(server: RunningServer) -> str:
    """The server's document, with the values that its parameters have on this server."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    known: dict[str, list[str]] = {"task": list(SPECS), "version": ["1"], "group": ["texts"]}
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for parameter in operation.get("parameters", ()):
            if values := known.get(parameter["name"]):
                schema = parameter["schema"]
                schema["enum"] = [int(one) for one in values] if schema["type"] == "integer" else values
    return json.dumps(document)


def run(server: RunningServer, folder: Path, key: str, *options: str) -> str:
    """Run schemathesis; return what it printed, which is the report of all failures if there are any."""
    (folder / "openapi.json").write_text(document_of(server))
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(Path(__file__).with_name("schemathesis.toml")),
    ]
    command += ["run", "openapi.json", "--url", server.url, "--header", f"Authorization: Bearer {key}"]
    command += ["--checks", "all", "--seed", "1", "--max-examples", "50", "--no-color", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.rsplit("SUMMARY", 1)[-1])  # shown by pytest -s
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_route_is_as_documented_for_a_client(server: RunningServer, tmp_path: Path) -> None:
    printed = run(server, tmp_path, CLIENT_KEY)
    assert re.search(r"\b[1-9]\d{3,} generated", printed), printed
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_routes_that_change_tasks_are_as_documented_for_an_operator(
    server: RunningServer, tmp_path: Path
) -> None:
    printed = run(
        server,
        tmp_path,
        ADMIN_KEY,
        "--include-path-regex",
        "^(/tasks/|/v2/repository/)",
        "--exclude-method",
        "GET",
    )
    assert re.search(r"\b[1-9]\d{2,} generated", printed), printed
    assert "Traceback" not in server.log.read_text()
