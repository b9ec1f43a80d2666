"""What the loop is told to do beside learning: checkpoints within an epoch, and TensorBoard."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback


class SaveSteps(TrainerCallback):
    """Saves and logs every so many steps within an epoch; its end is saved anyway, after evaluation."""

    def __init__(self, steps: int) -> None:
        """Take the number of steps between checkpoints."""
        self._steps = steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint where one is due."""
        if within_epoch(state) and state.global_step % self._steps == 0:
            control.should_save = control.should_log = True


def within_epoch(state: TrainerState) -> bool:
    """Tell whether the last step was one within an epoch, neither its last nor none at all."""
    return not float(state.epoch or 0).is_integer()


def tensorboard(folder: Path) -> TensorBoardCallback:
    """Make a callback that writes what is logged to a folder for TensorBoard."""
    board = TensorBoardCallback()
    board.logging_dir = str(folder)
    return board
