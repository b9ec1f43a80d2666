"""A target for the share of zeros: the threshold follows a quantile of the scores.

The schedule is that of gradual pruning (Zhu & Gupta, 2017): fast at first, where many bits matter little, and
slow at the end. Scores learn as ever; only the threshold is moved.
"""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from masking import MaskedModel
from training.loop.callbacks import within_epoch
from training.options import LoopOptions

MOVE_EVERY_STEPS = 20


def ramp_epochs(epochs: int) -> int:
    """Return the number of epochs after which the target is reached: the first half, rounded up."""
    return (epochs + 1) // 2


def first_candidate(options: LoopOptions) -> int:
    """Return the number of the first epoch that may be the best: the first to have the final sparsity."""
    return 1 if options.final_sparsity is None else ramp_epochs(options.epochs)


class SparsityTarget(TrainerCallback):
    """Moves the threshold every few steps of learning, and whenever it is told to.

    The share of zeros follows from the scores and the number of steps alone, so a checkpoint needs no more
    than these.
    """

    def __init__(self, model: MaskedModel, share: float) -> None:
        """Take the model before its first step.

        Args:
            model: what learns.
            share: share of zeros to end with, over all masks together.
        """
        self._model = model
        self._start = model.sparsity()
        self._end = share

    def move(self, state: TrainerState) -> None:
        """Move the threshold to where the model has the share of zeros that is due after the steps so far."""
        ramp = state.max_steps * ramp_epochs(state.num_train_epochs) / state.num_train_epochs
        left = max(0.0, 1.0 - state.global_step / ramp)
        self._model.set_sparsity(self._end + (self._start - self._end) * left**3)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave what the evaluation set, in a run that goes on as in one that resumes."""
        if not within_epoch(state):
            self.move(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move on."""
        if state.global_step % MOVE_EVERY_STEPS == 0:
            self.move(state)
