"""Runs a command of `experiments` on tasks of two labels that differ in their rows."""

import json
from pathlib import Path
from typing import Any

from experiments.__main__ import main
from tests.experiments.commands import command, picture
from tests.training.data import reviews, write_lines


def write_tasks(folder: Path, *tasks: str) -> Path:
    """Writes a small task of two labels under each name; returns the folder for ``--data``."""
    for seed, task in enumerate(tasks):
        (folder / task).mkdir(parents=True)
        write_lines(folder / task / "train.jsonl", reviews(24, seed=2 * seed))
        write_lines(folder / task / "dev.jsonl", reviews(12, seed=2 * seed + 1))
    return folder


def run_experiment(folder: Path, base: str, name: str, *more: str) -> dict[str, Any]:
    """Runs a command on the tasks in ``folder / "data"``; returns its JSON."""
    assert main(command(folder, base, name, "blocks=0-", *more)) == 0
    assert picture(folder, name)
    report: dict[str, Any] = json.loads((folder / "out" / f"{name}-quick.json").read_text())
    return report
