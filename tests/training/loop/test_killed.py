"""Processes that are really killed, and the same command given again."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mask_store import MaskStore
from tests.support.learning_data import command_line
from training.learn_mask import main

CASES: Mapping[str, tuple[int, tuple[str, ...], int]] = {
    "at the start of the second epoch": (6, (), 6),
    "within the second epoch": (9, (), 6),
    "after a checkpoint within it": (9, ("--save-steps", "2"), 8),
}
"""By name: after how many steps a process is killed, its options, the step of the checkpoint it leaves."""

# The commands, each in a process that kills itself, as nothing can prevent, when so many steps are done.
# One process imports for all of them.
KILLED = """
import json, os, signal, sys
from training.learn_mask import main
from training.loop.trainer import Trainer

learn_from = Trainer._step

def kill_at(steps):
    def step(self, *args, **kwargs):
        if self.history.step == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return learn_from(self, *args, **kwargs)

    Trainer._step = step

for steps, command in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        kill_at(steps)
        os._exit(main(command))
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status))
"""


def _masks(store: Path) -> dict[str, bytes]:
    (member,) = MaskStore.open(store).load("demo").members
    return {name: mask.tobytes() for name, mask in member.masks.items()}


def _command(folder: Path, base: str, *options: str) -> list[str]:
    small = command_line(folder, base, epochs="3", batch_size="8", lr="0.005")
    return [*small, *options, "--quiet", "--json"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> dict[str, bytes]:
    """The masks of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(_command(folder, tiny_bert)) == 0
    return _masks(folder / "store")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> Path:
    """Folder with a killed run for each case."""
    folder = tmp_path_factory.mktemp("killed")
    commands = []
    for name, (steps, options, _) in CASES.items():
        (folder / name).mkdir()
        commands.append((steps, _command(folder / name, tiny_bert, *options)))
    command = [sys.executable, "-c", KILLED, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(CASES), done.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_killed_process_learns_the_same_mask_when_started_again(
    killed: Path,
    undisturbed: dict[str, bytes],
    tiny_bert: str,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    _, options, left = CASES[name]
    assert (killed / name / "run" / f"checkpoint-{left}" / "complete").is_file()
    assert main(_command(killed / name, tiny_bert, *options)) == 0
    assert json.loads(capsys.readouterr().out)["resumed_after"] == 1
    assert _masks(killed / name / "store") == undisturbed
