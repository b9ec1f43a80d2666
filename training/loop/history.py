"""Training history: what a run knows of its steps and epochs, which is best, and whether more are due.

A checkpoint holds it, and all decisions follow from it and the options, so that a resumed run decides as one
that was never stopped.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.errors import RunFolderError, RunMismatchError

FORMAT = 1


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch.

    Attributes:
        number: 1 for the first.
        loss: Mean training loss over it, in nats.
        metrics: Dev metrics after it.
        zeros: Sparsity after it.
        flipped: Flip rate after it: share of bits that differ from the mask at the start.
    """

    number: int
    loss: float
    metrics: dict[str, float]
    zeros: float
    flipped: float


@dataclass
class History:
    """How far a run is.

    Attributes:
        steps_per_epoch: Steps of an epoch.
        max_epochs: Epochs after which the run ends at the latest.
        patience: Epochs without gain after which it ends.
        metric: Name of the dev metric that chooses the best epoch; higher is better.
        first_candidate: Number of the first epoch that may be the best; patience runs from there.
        step: Number of steps so far.
        loss_sum: Losses of the steps of the present epoch, added up.
        epochs: The epochs so far.
    """

    steps_per_epoch: int
    max_epochs: int
    patience: int
    metric: str
    first_candidate: int = 1
    step: int = 0
    loss_sum: float = 0.0
    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def max_steps(self) -> int:
        """Number of steps after which the run ends at the latest."""
        return self.steps_per_epoch * self.max_epochs

    @property
    def steps_into_epoch(self) -> int:
        """Number of steps since the last epoch ended; 0 at the end of an epoch."""
        return self.step % self.steps_per_epoch

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best dev metric, the first of equals; 0 before any."""
        candidates = self.epochs[self.first_candidate - 1 :]
        return max(candidates, key=lambda epoch: epoch.metrics[self.metric]).number if candidates else 0

    @property
    def best(self) -> EpochRecord:
        """The epoch with the best dev metric; there must be one."""
        return self.epochs[self.best_epoch - 1]

    @property
    def best_step(self) -> int:
        """Number of steps after which the best epoch ended; 0 before any."""
        return self.best_epoch * self.steps_per_epoch

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last ones brought no gain."""
        done = len(self.epochs)
        since_gain = done - max(self.best_epoch, self.first_candidate)
        return done >= self.max_epochs or since_gain >= self.patience

    def end_epoch(self, metrics: dict[str, float], zeros: float, flipped: float) -> EpochRecord:
        """Add the epoch whose steps are done; see `EpochRecord`."""
        loss, self.loss_sum = self.loss_sum / self.steps_per_epoch, 0.0
        self.epochs.append(EpochRecord(len(self.epochs) + 1, loss, metrics, zeros, flipped))
        return self.epochs[-1]

    def save(self, path: Path) -> None:
        """Write how far the run is, as JSON."""
        state = {
            "format": FORMAT,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        path.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            RunMismatchError: The file is not there, or of another format.
            RunFolderError: It is damaged.
        """
        try:
            state: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"format": None}
            if state["format"] == FORMAT:
                self.step, self.loss_sum = state["step"], state["loss_sum"]
                self.epochs = [EpochRecord(**epoch) for epoch in state["epochs"]]
                return
        except (ValueError, TypeError, LookupError) as error:
            raise RunFolderError(f"{path} is damaged; --fresh learns it again") from error
        raise RunMismatchError(
            f"{path.parent} was written by another version of this program and can't be resumed: give "
            "--fresh to drop the unfinished run, or another --run-dir"
        )
