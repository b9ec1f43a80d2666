"""Documents: blocks of README and docs run as a user would run them; links, pictures and names checked."""

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from lab.server_process import start_server
from masking import load_base
from maskserve.__main__ import main as maskserve
from tests.support.models import tiny_base
from tests.support.serving import fill

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(r"<!-- runs as a test: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)
_QUICK = " --max-length 32 --epochs 1 --blocks 1-2"


def _blocks(document: str, port: str = "8000") -> dict[str, str]:
    return {name: text.replace("8000", port) for name, text in _BLOCK.findall((ROOT / document).read_text())}


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def _python(block: str, folder: Path) -> str:
    """Run statements as the interactive interpreter does: the value of each expression is printed."""
    names = {"__name__": "__main__"}
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        for statement in ast.parse(block).body:
            exec(compile(ast.Interactive([statement]), "block", "single"), names)
    return printed.getvalue()


def _maskserve(block: str, folder: Path) -> str:
    """Run a command line of maskserve in this process, which has imported already what it needs."""
    name, *arguments = shlex.split(block.replace("\\\n", " "))
    assert name == "maskserve"
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        assert maskserve(arguments) == 0
    return printed.getvalue()


def _shell(block: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def _serving(command: str, folder: Path) -> Iterator[str]:
    """The server that a document starts at port 8000, at a free one instead; gives its port."""
    shell = ["bash", "-c", f"exec {command.replace('--port 8000', '--port 0')}"]
    with start_server(shell, folder / "server.log", folder=folder, environment=_environment()) as server:
        yield server.url.rpartition(":")[2]


def test_the_readme_works_as_it_is_written(tmp_path: Path) -> None:
    blocks = _blocks("README.md")
    fill(tmp_path / "masks", load_base(tiny_base(tmp_path / "encoder")))
    predicted = _python(blocks["python"], tmp_path)
    assert {"good", "bad", "mixed"} <= set(re.findall(r"\w+", predicted))
    _shell(blocks["files"], tmp_path)
    assert "curl" in _shell(blocks["learn"].rstrip() + _QUICK, tmp_path)
    with _serving(blocks["serve"].strip(), tmp_path) as port:
        blocks = _blocks("README.md", port)
        assert '"label"' in _shell(blocks["query"], tmp_path)
        assert "positive" in _python(blocks["client"], tmp_path)
    assert "sentiment" in _shell(_blocks("docs/store.md")["store"], tmp_path)
    assert "calibration error" in _shell(_blocks("docs/training.md")["evaluate"], tmp_path)
    assert "<h2>Calibration</h2>" in (tmp_path / "sentiment.html").read_text()
    assert (tmp_path / "labelled.csv").read_text().startswith("text,label,predicted,predicted_score,error")
    search = _blocks("docs/training.md")["search"].rstrip() + f"{_QUICK} --max-runs 3"
    assert _maskserve(search, tmp_path).startswith("--lr 0.0")


def test_the_python_examples_work_as_they_are_written(tmp_path: Path) -> None:
    fill(tmp_path / "masks", load_base(tiny_base(tmp_path / "encoder")))
    _shell(_blocks("README.md")["files"], tmp_path)
    printed = _python("\n".join(_blocks("docs/python.md").values()), tmp_path)
    assert re.search("positive|negative", printed)


def test_the_protocols_work_as_they_are_written(tmp_path: Path) -> None:
    fill(tmp_path / "masks", load_base(tiny_base(tmp_path / "encoder")))
    serve = "maskserve serve --base ./encoder --store masks --port 8000 --admin-key secret"
    said = {}
    with _serving(serve, tmp_path) as port:
        for name, block in _blocks("docs/protocols.md", port).items():
            if block.startswith(("import", "from")):
                said[name] = _python(block, tmp_path)
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
    assert '"finetuned"' in said["server"]


def test_the_keys_are_made_as_it_is_written(tmp_path: Path) -> None:
    printed = _shell(_blocks("docs/operations.md")["keys"], tmp_path)
    assert len(re.findall(r"^msk_", printed, re.MULTILINE)) == 2
    assert re.search(r"^team-a +sentiment guard-\* +200.0 +64", printed, re.MULTILINE)
    assert printed.endswith("removed key 'team-a'\n")


def test_pictures_are_what_their_command_draws() -> None:
    place = ROOT / "docs" / "pictures"
    drawn = runpy.run_path(str(place / "draw.py"))["PICTURES"]
    assert set(drawn) == {path.name for path in place.glob("*.svg")}
    for name, draw in drawn.items():
        assert (place / name).read_text(encoding="utf-8") == draw()


def test_links_between_documents_lead_somewhere() -> None:
    for document in [README, ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_files_that_the_guide_for_contributors_names_exist() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text()
    for path in re.findall(r"`([a-z_]+/(?:[a-z_/]+\.py|[a-z_/]*/)?)`", text):
        assert any((ROOT / room / path).exists() for room in (".", "training")), path


def test_the_newest_release_in_the_changelog_is_the_packages_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    released = re.findall(r"^## \[(\d.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version


@pytest.mark.parametrize("target", ["demo", "test", "lint", "test-slow", "install"])
def test_make_targets_that_the_readme_names_exist(target: str) -> None:
    makefile = (README.parent / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    if target != "install":
        assert f"make {target}" in README.read_text()
