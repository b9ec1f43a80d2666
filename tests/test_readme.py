"""The blocks of README and docs/protocols.md, run as a user would run them, in order, in one folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.server_process import start_server
from masking import load_base
from tests.support.models import tiny_base
from tests.support.serving import fill

README = Path(__file__).parent.parent / "README.md"
PROTOCOLS = README.parent / "docs" / "protocols.md"
_BLOCK = re.compile(r"<!-- runs as a test: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def _blocks(document: Path, port: str = "8000") -> dict[str, str]:
    return {name: text.replace("8000", port) for name, text in _BLOCK.findall(document.read_text())}


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _shell(block: str, folder: Path) -> str:
    return _run(["bash", "-euo", "pipefail", "-c", block], folder)


@contextmanager
def _serving(command: str, folder: Path) -> Iterator[str]:
    """The server that a document starts at port 8000, at a free one instead; gives its port."""
    shell = ["bash", "-c", f"exec {command.replace('--port 8000', '--port 0')}"]
    with start_server(shell, folder / "server.log", folder=folder, environment=_environment()) as server:
        yield server.url.rpartition(":")[2]


def test_the_readme_works_as_it_is_written(tmp_path: Path) -> None:
    blocks = _blocks(README)
    tiny_base(tmp_path / "encoder")
    _shell(blocks["files"], tmp_path)
    quick = " --max-length 32 --epochs 1 --blocks 1-2"
    assert _shell(blocks["search"].rstrip() + f"{quick} --max-runs 3", tmp_path).startswith("--lr 0.0")
    learned = _shell(blocks["learn"].rstrip() + quick, tmp_path)
    assert "curl" in learned
    with _serving(blocks["serve"].strip(), tmp_path) as port:
        blocks = _blocks(README, port)
        replies = _shell(blocks["query"], tmp_path)
        assert '"label"' in replies
        assert '"finetuned"' in replies
        assert "positive" in _run([sys.executable, "-c", blocks["client"]], tmp_path)
    assert "sentiment" in _shell(blocks["store"], tmp_path)


def test_the_protocols_work_as_they_are_written(tmp_path: Path) -> None:
    fill(tmp_path / "masks", load_base(tiny_base(tmp_path / "encoder")))
    serve = "python -m server --base ./encoder --store masks --port 8000 --admin-key secret"
    said = {}
    with _serving(serve, tmp_path) as port:
        for name, block in _blocks(PROTOCOLS, port).items():
            if block.startswith(("import", "from")):
                said[name] = _run([sys.executable, "-c", block], tmp_path)
            else:
                said[name] = _shell(block.replace("curl -s", "curl -s --fail-with-body"), tmp_path)
    assert said["tei"].count('"label"') > 20
    assert "PER" in said["hugging_face"] + said["hugging_face_client"]
    assert (said["many"].count('"predictions"'), said["many"].count('"error"')) == (4, 1)
    assert {json.loads(line)["task"] for line in said["lines"].splitlines()} == {"sentiment", "names"}
    assert '"FP32"' in said["v2"]
    assert said["tritonclient"].startswith("True True")
    assert {"good", "bad", "mixed"} & set(re.findall(r"[a-z]+", said["kserve"]))
    assert "maskserve_ready 1.0" in said["server"]


@pytest.mark.parametrize("target", ["demo", "test", "lint", "test-slow", "install"])
def test_make_targets_that_the_readme_names_exist(target: str) -> None:
    makefile = (README.parent / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    if target != "install":
        assert f"make {target}" in README.read_text()
