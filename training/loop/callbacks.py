"""Callbacks of the training loop: what it calls at each stage of a run, and the one for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class TensorBoard(Callback):
    """Writes figures to a folder for TensorBoard: ``train/<figure>`` and ``eval/<metric>`` by step."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made when learning begins."""
        self._folder = folder
        self._writer: Any = None

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Open the folder."""
        # tensorboard is an extra of its own, and slow to import
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._writer = SummaryWriter(str(self._folder))

    def on_log(self, trainer: "Trainer", figures: Mapping[str, float]) -> None:
        """Write figures of learning."""
        self._write("train", figures, trainer.history.step)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Write dev metrics, and the masks' figures as they were evaluated."""
        epoch, step = trainer.history.epochs[-1], trainer.history.step
        self._write("eval", epoch.metrics, step)
        self._write("train", {"zeros": epoch.zeros, "flipped": epoch.flipped}, step)

    def on_train_end(self, trainer: "Trainer") -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, group: str, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
