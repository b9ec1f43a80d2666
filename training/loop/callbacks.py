"""Callbacks of the training loop: what it calls at each stage of a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.loop.trainer import Trainer


class Callback:
    """Called by the training loop, in every process; a subclass has the methods that it needs."""

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Be called before the first step; not where a run is finished already."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Be called before the first step of an epoch, or the first one after resuming within it."""

    def on_step_end(self, trainer: "Trainer") -> None:
        """Be called after a step of the optimizer, before anything is saved."""

    def on_log(self, trainer: "Trainer", figures: Mapping[str, float]) -> None:
        """Be called every few steps and at the end of an epoch.

        Args:
            trainer: The run.
            figures: ``loss``, the mean since the last call; ``learning_rate``; ``zeros``, the sparsity;
                ``flipped``, the flip rate.
        """

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Be called when an epoch is evaluated and its checkpoint written; may set `Trainer.should_stop`."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """Be called when learning ends, also when it fails or is stopped; before the best epoch is loaded."""
