"""Callbacks that end a training run early, as a crash would."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Killed(Exception):
    """Stands for whatever ends a process."""


class KillAtStep(TrainerCallback):
    """Ends the run at the end of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == self.step:
            raise Killed("killed")


class KillInEpoch(TrainerCallback):
    """Ends the run in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.epoch is not None and state.epoch > self.epoch - 0.5:
            raise Killed("killed")
