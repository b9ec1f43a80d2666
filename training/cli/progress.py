"""Progress of a run: a bar with the figures that matter, and a line for each epoch."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from training.distributed import is_main
from training.loop.callbacks import Callback
from training.loop.history import EpochRecord
from training.loop.trainer import Trainer
from training.runs.report import human_seconds


class ProgressBar(Callback):
    """A tqdm bar on stderr: loss, dev metric, share of zeros, share of flipped bits.

    Where stderr is no terminal the bar is left out and the line per epoch stays. Of several processes
    that learn together the first alone shows anything.
    """

    def __init__(self) -> None:
        """Make a bar, which opens when learning begins."""
        self._bar: tqdm[Any] | None = None
        self._dev: dict[str, str] = {}
        self._begun = (0, 0.0)  # step and time

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open the bar, where a killed run stopped if this one resumes it."""
        self._begun = (trainer.history.step, time.monotonic())
        if not is_main():
            return
        self.close()
        total, done = trainer.history.max_steps, trainer.history.step
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, disable=None)

    def on_step_end(self, trainer: Trainer) -> None:
        """Move on by a step of the optimizer."""
        if self._bar is not None:
            self._bar.update(trainer.history.step - self._bar.n)

    def on_log(self, trainer: Trainer, figures: Mapping[str, float]) -> None:
        """Show the newest figures."""
        if self._bar is None:
            return
        shown = {"loss": f"{figures['loss']:.3f}", **self._dev}
        shown |= {"zeros": f"{figures['zeros']:.1%}", "flipped": f"{figures['flipped']:.1%}"}
        self._bar.set_postfix(shown)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write the epoch's line."""
        if not is_main():
            return
        history = trainer.history
        metric, record = history.metric, history.epochs[-1]
        self._dev = {metric: f"{record.metrics[metric]:.4f}"}
        first, begun = self._begun
        pace = (time.monotonic() - begun) / max(1, history.step - first)
        left = 0.0 if history.is_finished else pace * (history.max_steps - history.step)
        tqdm.write(epoch_line(record, history.max_epochs, metric, left), file=sys.stderr)

    def on_train_end(self, trainer: Trainer) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, so that what is printed next starts a new line; may be called again."""
        if self._bar is not None:
            self._bar.close()


def epoch_line(record: EpochRecord, epochs: int, metric: str, left: float = 0.0) -> str:
    """Write the figures of an epoch on a line.

    Args:
        record: The figures.
        epochs: Epochs that there are at most.
        metric: Name of the dev metric that chooses the epoch.
        left: Seconds that the rest takes, if there is any.
    """
    rest = f", at most {human_seconds(left)} left" if left else ""
    return (
        f"epoch {record.number:>2} of {epochs}: loss {record.loss:.4f}, dev {metric} "
        f"{record.metrics[metric]:.4f}, zeros {record.zeros:.2%}, flipped {record.flipped:.2%}{rest}"
    )
