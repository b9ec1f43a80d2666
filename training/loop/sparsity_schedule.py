"""Sparsity schedule: the threshold follows a quantile of the scores, up to a final share of zeros.

The schedule is that of gradual pruning (Zhu & Gupta, 2017): fast at first, where many bits matter little, and
slow at the end. Scores are learned as without it; only the threshold moves.
"""

from masking import MaskedModel
from training.options import LoopOptions

MOVE_EVERY_STEPS = 20


def ramp_epochs(epochs: int) -> int:
    """Return the number of epochs after which the target is reached: the first half, rounded up."""
    return (epochs + 1) // 2


def first_candidate(options: LoopOptions) -> int:
    """Return the number of the first epoch that may be kept."""
    if options.final_sparsity is not None:
        return ramp_epochs(options.epochs)
    return options.keep_epoch or 1


class SparsitySchedule:
    """Moves the threshold of a model to the sparsity that is due.

    That follows from the scores and the number of steps alone, so a checkpoint needs no more than these.
    """

    def __init__(self, model: MaskedModel, final: float, ramp_steps: int) -> None:
        """Take the model before its first step.

        Args:
            model: What learns.
            final: Share of zeros to end with, over all masks together.
            ramp_steps: Number of steps after which the model has it.
        """
        self._model = model
        self._start = model.sparsity()
        self._final = final
        self._ramp_steps = ramp_steps

    def move(self, step: int) -> None:
        """Move the threshold to where the model has the sparsity that is due after so many steps."""
        left = max(0.0, 1.0 - step / self._ramp_steps)
        self._model.set_sparsity(self._final + (self._start - self._final) * left**3)

    def move_if_due(self, step: int, *, epoch_begins: bool) -> None:
        """Move the threshold every `MOVE_EVERY_STEPS`, and where an evaluation may have moved it."""
        if epoch_begins or step % MOVE_EVERY_STEPS == 0:
            self.move(step)
