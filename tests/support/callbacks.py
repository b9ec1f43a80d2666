"""Callbacks that end a training run early, as a crash would."""

from training.loop.callbacks import Callback
from training.loop.trainer import Trainer


class Killed(Exception):
    """Stands for whatever ends a process."""


class KillAtStep(Callback):
    """Ends the run at the end of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.history.step == self.step:
            raise Killed("killed")


class KillInEpoch(Callback):
    """Ends the run in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.history.step > (self.epoch - 0.5) * trainer.history.steps_per_epoch:
            raise Killed("killed")
