"""Processes that are really killed, and the same command given again."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mask_store import MaskStore
from tests.support.learning_data import command_line
from training.learn_mask import main

# the command, in a process that kills itself, as nothing can prevent, when so many steps are done
KILLED = """
import os, signal, sys
from training.learn_mask import main
from training.loop.trainer import Trainer

learn_from = Trainer._step

def step(self, *args, **kwargs):
    if self.history.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return learn_from(self, *args, **kwargs)

Trainer._step = step
main(sys.argv[2:])
"""


def _masks(store: Path) -> dict[str, bytes]:
    (member,) = MaskStore.open(store).load("demo").members
    return {name: mask.tobytes() for name, mask in member.masks.items()}


@pytest.mark.parametrize(
    ("steps", "options", "left"),
    [
        pytest.param(6, (), 6, id="at the start of the second epoch"),
        pytest.param(9, (), 6, id="within the second epoch"),
        pytest.param(9, ("--save-steps", "2"), 8, id="after a checkpoint within it"),
    ],
)
def test_a_killed_process_learns_the_same_mask_when_started_again(
    tmp_path: Path,
    tiny_bert: str,
    capsys: pytest.CaptureFixture[str],
    steps: int,
    options: tuple[str, ...],
    left: int,
) -> None:
    small = {"epochs": "3", "batch_size": "8", "lr": "0.005"}
    command = [*command_line(tmp_path, tiny_bert, **small), *options, "--quiet", "--json"]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(steps), *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / f"checkpoint-{left}" / "complete").is_file()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["resumed_after"] == 1

    undisturbed = command_line(tmp_path, tiny_bert, **small, store=str(tmp_path / "whole"))
    assert main([*undisturbed, "--quiet"]) == 0
    assert _masks(tmp_path / "store") == _masks(tmp_path / "whole")
