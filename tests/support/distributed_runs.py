"""Distributed runs: learn the cases that a test wrote to a folder, in two processes as torchrun starts them.

    python -m tests.support.distributed_runs FOLDER

A case is a folder with `case.json`: options, and what is to happen. Each process writes its
outcome there.
"""

import io
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors.torch import save_file
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.support.callbacks import KillAtStep
from training.cli.command import logged
from training.distributed import rank
from training.errors import exit_code
from training.loop.callbacks import Callback
from training.loop.trainer import Trainer
from training.options import LearnOptions
from training.runs.finetune import finetune
from training.runs.learn import learn


class KeepLearned(Callback):
    """Writes the learned state at the end, one file a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_end(self, trainer: Trainer) -> None:
        save_file(trainer.model.learned_state(), self._folder / f"learned-{rank()}.safetensors")


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def run(folder: Path) -> dict[str, Any]:
    """Learns one case and tells how it ended."""
    case = json.loads((folder / "case.json").read_text())
    options = LearnOptions(**case["options"])
    callbacks: list[Callback] = [KeepLearned(folder)]
    if "kill" in case:
        callbacks.append(KillAtStep(case["kill"]))
    method: Callable[..., Any] = finetune if case.get("finetune") else learn
    failing = mock.patch(case["full"], full) if case.get("full_in") == rank() else nullcontext()
    said = io.StringIO()
    try:
        with redirect_stderr(said), logged("training"), failing:
            report = method(options, callbacks=callbacks)
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error), "code": exit_code(error)}
    lines = len(said.getvalue().splitlines())
    return {"metrics": report.metrics, "best_epoch": report.best_epoch, "said": lines}


def run_all(folder: Path) -> None:
    for case in sorted(path.parent for path in folder.glob("*/case.json")):
        outcome = run(case)
        (case / f"outcome-{rank()}.json").write_text(json.dumps(outcome))


def main(folder: Path) -> None:
    """Does what torchrun does, but forks: libraries are imported once."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="cases",
        start_method="fork",
    )
    elastic_launch(config, run_all)(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
