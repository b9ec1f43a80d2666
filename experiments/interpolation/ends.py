"""Ends of paths: the models of one task and seed that lines and curves join (paper, section 6.3).

Finetuned and masked model have the same seed and the same number of training epochs: the seed is the one
whose two best epochs are best on dev together, and both models are taken after the epoch that is best for the
two together, not each at its own best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.report import short_name
from experiments.common.runs import METHODS, Run, dense_model
from experiments.common.scores import majority_value
from experiments.interpolation.paths import Examples, Weights
from experiments.published.facts import Method
from masking import TaskModel
from training.runs.preparation import Preparation


@dataclass(frozen=True)
class Ends:
    """The models of one base, task and seed after one number of epochs.

    Attributes:
        base: Name of the base.
        task: Name of the task.
        epoch: Epochs that finetuned and masked model were learned.
        setting: The task, with the seed.
        model: A dense model to measure with, whose weights may be overwritten.
        pretrained: Weights before learning, with the random classifier that both methods start from.
        finetuned: Weights after finetuning.
        masked: Weights times masks after masking.
    """

    base: str
    task: str
    epoch: int
    setting: Preparation
    model: TaskModel
    pretrained: Weights
    finetuned: Weights
    masked: Weights

    @classmethod
    def of(cls, context: Context, task: str, seeds: Sequence[int], *, base: str) -> "Ends":
        """Take the ends from trained runs.

        Args:
            context: The command.
            task: Name of the task.
            seeds: Seeds to choose from.
            base: Hub id or folder.
        """
        runs = {
            method: [context.run(task, method, seed=seed, base=base, weights=False) for seed in seeds]
            for method in METHODS
        }
        place, epoch = choose(runs["finetuning"], runs["masking"])
        tuned, masked = (
            _after(context, runs[method][place], epoch, base) for method in ("finetuning", "masking")
        )
        model = dense_model(masked.setting)
        weights = (model.learned_state(), tuned.weights(), masked.weights())
        return cls(short_name(base), task, epoch, masked.setting, model, *weights)

    @property
    def dev(self) -> Examples:
        """What to measure by."""
        return Examples(self.setting.codec, self.setting.encoded.dev, self.setting.metric)

    @property
    def majority(self) -> float:
        """Dev metric of the majority vote."""
        return majority_value(self.setting.encoded.dev, self.setting.metric)


def choose(finetuned: Sequence[Run], masked: Sequence[Run]) -> tuple[int, int]:
    """Choose by dev which models are joined.

    Args:
        finetuned: A run for each seed.
        masked: The same seeds.

    Returns:
        Place of the seed among them, and the epoch after which both models are taken.
    """
    together = [fmean((one.value, other.value)) for one, other in zip(finetuned, masked, strict=True)]
    place = together.index(max(together))
    pair = (finetuned[place], masked[place])
    epochs = range(1, 1 + min(len(run.epochs) for run in pair))
    return place, max(
        epochs, key=lambda epoch: fmean(run.epochs[epoch - 1].metrics[run.metric] for run in pair)
    )


def _after(context: Context, run: Run, epoch: int, base: str) -> Run:
    """Return a run that ends with an epoch: itself, where that is its best, or as much of it as it takes."""
    method: Method = run.method
    kept: dict[str, Any] = {} if run.result.best_epoch == epoch else {"keep_epoch": epoch}
    return context.run(run.task, method, seed=run.seed, base=base, lr=run.result.lr, **kept)
