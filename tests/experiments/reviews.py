"""Runs an experiment on made-up tasks and a tiny random encoder, as its command would."""

import json
from pathlib import Path
from typing import Any

from experiments.__main__ import main
from tests.training.data import reviews, write_lines


def write_tasks(folder: Path, *tasks: str) -> Path:
    """Writes a small task of two labels under each name; returns the folder for ``--data``."""
    for seed, task in enumerate(tasks):
        (folder / task).mkdir(parents=True)
        write_lines(folder / task / "train.jsonl", reviews(24, seed=2 * seed))
        write_lines(folder / task / "dev.jsonl", reviews(12, seed=2 * seed + 1))
    return folder


def run_experiment(folder: Path, base: str, name: str, *more: str) -> dict[str, Any]:
    """Runs a command at the quick scale on the tasks in ``folder / "data"``; returns its JSON."""
    out = folder / "out"
    settings = ["epochs=1", "batch_size=8", "blocks=0-", "max_length=32", "device=cpu"]
    places = ["--data", str(folder / "data"), "--runs", str(folder / "runs"), "--output", str(out)]
    assert main([name, "--quick", "--base", base, *places, "--set", *settings, *more]) == 0
    assert (out / f"{name}-quick.png").read_bytes().startswith(b"\x89PNG")
    report: dict[str, Any] = json.loads((out / f"{name}-quick.json").read_text())
    return report
