"""The baseline of the paper: the same task, data, metric and stopping, with every weight finetuned.

Nothing is published: a finetuned copy is what masks are there to replace.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback

from masking import FinetunedModel
from training.learn import Say, prepare
from training.options import LearnOptions
from training.processes import on_main
from training.run_folder import RunFolder
from training.trainer import EpochRecord, TaskTrainer, best_epoch, epoch_records


@dataclasses.dataclass(frozen=True)
class FinetuneReport:
    """What finetuning came to.

    Attributes:
        metric: name of the dev metric that chose the best epoch.
        metrics: dev metrics of the best epoch.
        best_epoch: its number, from 1.
        epochs: what each epoch came to.
        model_bytes: bytes of the finetuned fp32 weights.
        seconds: time taken, from reading data to the last epoch.
    """

    metric: str
    metrics: dict[str, float]
    best_epoch: int
    epochs: tuple[EpochRecord, ...]
    model_bytes: int
    seconds: float

    @property
    def value(self) -> float:
        """Value of the dev metric that chose the best epoch."""
        return self.metrics[self.metric]


def finetune(
    options: LearnOptions, *, callbacks: Sequence[TrainerCallback] = (), say: Say | None = None
) -> FinetuneReport:
    """Finetune a copy of the base on a task and measure it; resumable like `training.learn.learn`.

    Args:
        options: as for learning a mask; `lr` is the rate of finetuning, settings of masks are not used.
        callbacks: told of steps, logs and epochs.
        say: called with a line of text for what a user should know on the way.

    Returns:
        What it came to.

    Raises:
        TrainingError, MaskingError, MaskStoreError: as in `training.learn.learn`.
    """
    started = time.monotonic()
    ready = prepare(options, say)
    path = Path(f"{options.run_folder}-finetuned")
    with RunFolder.open(path, {**ready.identity, "method": "finetune"}, fresh=options.fresh) as folder:
        model = FinetunedModel.create(ready.base, ready.spec, seed=options.seed)
        data = (ready.encoded.train, ready.encoded.dev)
        state = TaskTrainer(model, ready.codec, data, ready.loop, folder, callbacks).learn()
        records, best = epoch_records(state), best_epoch(state)
        report = FinetuneReport(
            metric=ready.metric,
            metrics=records[best - 1].metrics,
            best_epoch=best,
            epochs=records,
            model_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
            seconds=round(time.monotonic() - started, 3),
        )
        on_main(lambda: folder.finish(dataclasses.asdict(report)))
    return report
