"""What of a model that learns is evaluated, and kept if it is the best.

Without extras that is the model as the last step left it. With an average of its parameters it is the
average; with a target for the share of zeros, masks have the share that is due.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerState

from masking import MaskedModel, TaskModel
from training.loop.ema import Average
from training.loop.sparsity_schedule import SparsityTarget

LEARNED_FILE = "learned.safetensors"
AVERAGE_FILE = "average.safetensors"


class KeptState:
    """The state of a model that is kept, beside the one that learns."""

    def __init__(self, model: TaskModel, average: float | None, final_sparsity: float | None) -> None:
        """Take a model before its first step.

        Args:
            model: what learns.
            average: decay of the average; None for none.
            final_sparsity: share of zeros to end with; None for no target, as in a model without masks.
        """
        self._model = model
        self._average = None if average is None else Average(model.trainable(), average)
        self._target = (
            None
            if final_sparsity is None or not isinstance(model, MaskedModel)
            else SparsityTarget(model, final_sparsity)
        )

    @property
    def callbacks(self) -> list[TrainerCallback]:
        """What has to be told of steps and epochs."""
        return [part for part in (self._average, self._target) if part is not None]

    def apply(self, state: TrainerState) -> None:
        """Make the model what is kept, for good: learning can't go on from there."""
        if self._average is not None:
            self._average.swap()
        if self._target is not None:
            self._target.move(state)

    @contextmanager
    def applied(self, state: TrainerState) -> Iterator[None]:
        """Inside, the model is what is kept; the next epoch moves the threshold back by itself."""
        self.apply(state)
        try:
            yield
        finally:
            if self._average is not None:
                self._average.swap()

    def save(self, folder: Path) -> None:
        """Write what learning goes on from, and the average."""
        save_file(self._model.learned_state(), folder / LEARNED_FILE)
        if self._average is not None:
            save_file(self._average.state(), folder / AVERAGE_FILE)

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote."""
        self._model.load_learned_state(load_file(folder / LEARNED_FILE))
        if self._average is not None:
            self._average.load_state(load_file(folder / AVERAGE_FILE))
