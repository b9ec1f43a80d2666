"""Experiments: a folder of made-up tasks under the paper's names, and commands at the quick scale on them."""

import json
from pathlib import Path
from typing import Any

from experiments.__main__ import main
from experiments.common.context import Context
from experiments.common.scales import read_settings
from tests.support.learning_data import ROWS, write_lines

TASKS = {
    "trec": "sequence-classification",
    "sem": "sequence-classification",
    "sst2": "sequence-classification",
    "ner": "token-classification",
    "codah": "multiple-choice",
}
SETTINGS = ("epochs=1", "batch_size=8", "max_length=32", "device=cpu", "precision=fp32")


def write_tasks(folder: Path, *, train: int = 24, dev: int = 12) -> Path:
    """Writes train and dev files of every task in `TASKS`, no two with the same rows; returns the folder."""
    for number, (name, kind) in enumerate(TASKS.items()):
        task = folder / name
        task.mkdir(parents=True, exist_ok=True)
        write_lines(task / "train.jsonl.gz", ROWS[kind](train, seed=2 * number))
        write_lines(task / "dev.jsonl.gz", ROWS[kind](dev, seed=2 * number + 1))
    return folder


def command(folder: Path, base: str, name: str, *more: str) -> list[str]:
    """The command line of a small run on the tasks in ``folder / "data"``."""
    places = {"--data": "data", "--runs": "runs", "--output": "out"}
    options = [part for option, place in places.items() for part in (option, str(folder / place))]
    return [name, "--quick", "--base", base, *options, "--set", *SETTINGS, *more]


def run(folder: Path, base: str, name: str, *more: str) -> dict[str, Any]:
    """Writes the tasks' data, runs the command and returns its JSON."""
    write_tasks(folder / "data")
    assert main(command(folder, base, name, *more)) == 0
    report: dict[str, Any] = json.loads((folder / "out" / f"{name}-quick.json").read_text())
    return report


def picture(folder: Path, name: str) -> bool:
    """Whether the command has drawn a figure."""
    path = folder / "out" / f"{name}-quick.png"
    return path.exists() and path.read_bytes().startswith(b"\x89PNG")


def full_context(
    folder: Path,
    base: str,
    name: str,
    seeds: tuple[int, ...] | None = None,
    settings: tuple[str, ...] = (),
) -> Context:
    """A command's context at the full scale, but for what a tiny model can do, on the tasks' data."""
    return Context(
        name=name,
        quick=False,
        bases=(base,),
        data=write_tasks(folder / "data"),
        tasks=None,
        seeds=seeds,
        runs_dir=folder / "runs",
        results_dir=folder / "out",
        changes=tuple(read_settings(["epochs=1", "max_length=32", "device=cpu", *settings])),
    )
