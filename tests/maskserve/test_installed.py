"""The wheel, installed into an environment of its own and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from masking import load_base
from tests.support.serving import fill

ROOT = Path(__file__).parents[2]
PREDICT = """
import json, sys, maskserve
tasks = maskserve.load(sys.argv[1], store=sys.argv[2], device="cpu")
answers = tasks.batch([("sentiment", "good"), ("endings", ("it", ["is", "was"]))])
print(json.dumps([maskserve.__file__, answers]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    source, place = folder / "source", folder / "environment"
    source.mkdir()
    # What a Docker build is given is all that is needed.
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    given = [line[1:] for line in lines if line.startswith("!") and f"{line[1:]}/*" not in lines]
    for name in given:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--no-deps", "--no-index"]
    _run(*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", folder, source)
    _run(sys.executable, "-m", "venv", "--without-pip", place)
    _run(*pip, "--python", place / "bin" / "python", "install", *quiet, *folder.glob("*.whl"))
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield place


def test_the_command_is_installed(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "maskserve"
    assert _run(command, "--version", folder=tmp_path) == f"maskserve {version('maskserve')}\n"
    assert "learn a task" in _run(command, "--help", folder=tmp_path)
    assert "--max-batch-rows" in _run(command, "serve", "--help", folder=tmp_path)


def test_another_server_package_in_the_folder_is_not_taken(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    assert "--max-batch-rows" in _run(environment / "bin" / "maskserve", "serve", "--help", folder=tmp_path)


def test_the_demo_says_where_it_is(environment: Path, tmp_path: Path) -> None:
    done = _call(environment / "bin" / "maskserve", "demo", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "make demo" in done.stderr


def test_predictions_come_from_another_folder(environment: Path, tmp_path: Path, tiny_bert: str) -> None:
    fill(tmp_path / "masks", load_base(tiny_bert), ["sentiment", "endings"])
    python = environment / "bin" / "python"
    place, answers = json.loads(_run(python, "-c", PREDICT, tiny_bert, "masks", folder=tmp_path))
    assert Path(place).is_relative_to(environment)
    assert [len(answer) for answer in answers] == [3, 2]
    assert {entry["label"] for entry in answers[0]} == {"bad", "good", "mixed"}


def test_types_and_public_names_are_installed(environment: Path) -> None:
    (site,) = environment.glob("lib/python*/site-packages")
    for package in ("maskserve", "server", "training", "masking", "mask_store"):
        assert (site / package / "py.typed").is_file()
        assert (site / package / "__init__.pyi").is_file()
    installed = {path.name for path in site.iterdir() if path.is_dir() and "." not in path.name}
    assert installed == {"maskserve", "server", "training", "masking", "mask_store"}


def _run(*command: object, folder: Path | None = None) -> str:
    done = _call(*command, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _call(*command: object, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command that does not see the source."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [*map(str, command)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
