"""The baseline of the paper: the same task, data, metric and stopping, with every weight finetuned.

Nothing is published: a finetuned copy is what masks are there to replace. It can be kept in a folder of its
own, for comparison.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import TrainerCallback

from mask_store import human_bytes
from masking import FinetunedModel
from training.cli.messages import Say
from training.distributed import on_main
from training.errors import KeepError
from training.loop.checkpoint import LEARNED_FILE
from training.loop.history import EpochRecord, best_epoch, epoch_records
from training.loop.run_folder import REPORT, RunFolder
from training.options import LearnOptions
from training.runs.learn import learn_model
from training.runs.preparation import Preparation, prepare
from training.runs.report import human_seconds, measured


@dataclass(frozen=True)
class Finetuned:
    """A finetuned copy, with the weights of its best epoch.

    Attributes:
        model: the copy.
        epochs: what each epoch came to.
        best_epoch: number of the best epoch.
    """

    model: FinetunedModel
    epochs: tuple[EpochRecord, ...]
    best_epoch: int

    @property
    def nbytes(self) -> int:
        """Bytes of the fp32 weights."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())


@dataclass(frozen=True)
class FinetuneReport:
    """What finetuning came to.

    Attributes:
        task: name of the task.
        base: name of the pretrained encoder.
        device: where it was finetuned.
        lr: learning rate.
        metric: name of the dev metric that chose the best epoch.
        metrics: dev metrics of the best epoch.
        best_epoch: its number, from 1.
        epochs: what each epoch came to.
        model_bytes: bytes of the finetuned fp32 weights.
        seconds: time taken, from reading data to the last epoch.
        kept: folder that holds the weights; None where they were dropped.
    """

    task: str
    base: str
    device: str
    lr: float
    metric: str
    metrics: dict[str, float]
    best_epoch: int
    epochs: tuple[EpochRecord, ...]
    model_bytes: int
    seconds: float
    kept: str | None

    @property
    def value(self) -> float:
        """Value of the dev metric that chose the best epoch."""
        return self.metrics[self.metric]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Return the text that is printed at the end of a run."""
        lines = {
            "finetuned": f"{self.task}, every weight of {self.base}, at lr {self.lr:g}",
            "dev": f"{measured(self.metric, self.metrics)} (best epoch {self.best_epoch} of"
            f" {len(self.epochs)})",
            "size": human_bytes(self.model_bytes),
            "kept": self.kept or "nothing; --save-to DIR keeps the weights",
            "time": f"{human_seconds(self.seconds)} on {self.device}",
        }
        return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def finetune(
    options: LearnOptions,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    say: Say | None = None,
    keep: Path | None = None,
) -> FinetuneReport:
    """Finetune a copy of the base on a task and measure it; resumable like `training.runs.learn.learn`.

    Args:
        options: as for learning a mask; `lr` is the rate of finetuning, settings of masks and the store are
            not used.
        callbacks: told of steps, logs and epochs.
        say: called with a line of text for what a user should know on the way.
        keep: folder for the weights of the best epoch, ``learned.safetensors``
            (`masking.TaskModel.learned_state`), and ``report.json``; made if it isn't there. None to drop
            the weights.

    Returns:
        What it came to.

    Raises:
        TrainingError, MaskingError: as in `training.runs.learn.learn`.
        KeepError: the weights can't be written to `keep`.
    """
    started = time.monotonic()
    ready = prepare(options, say)
    path = Path(f"{options.run_folder}-finetuned")
    with RunFolder.open(path, ready.identity_for("finetune"), fresh=options.fresh) as folder:
        tuned = finetune_copy(ready, folder, callbacks=callbacks, say=say)
        report = FinetuneReport(
            task=options.task,
            base=ready.base.info.name,
            device=ready.base.device.type,
            lr=options.lr,
            metric=ready.metric,
            metrics=tuned.epochs[tuned.best_epoch - 1].metrics,
            best_epoch=tuned.best_epoch,
            epochs=tuned.epochs,
            model_bytes=tuned.nbytes,
            seconds=round(time.monotonic() - started, 3),
            kept=str(keep) if keep else None,
        )

        def conclude() -> None:
            if keep is not None:
                _keep(keep, tuned.model, report)
            folder.finish(report.to_dict())

        on_main(conclude)
    return report


def finetune_copy(
    ready: Preparation,
    folder: RunFolder,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    say: Say | None = None,
) -> Finetuned:
    """Finetune a copy of the base, from the folder's last checkpoint on if there is one.

    Args:
        ready: what `training.runs.preparation.prepare` returned, or a variation of it.
        folder: where checkpoints go; they stay there until the caller finishes the folder.
        callbacks: told of steps, logs and epochs.
        say: called with a line of text for what a user should know on the way.

    Raises:
        DivergedError: the loss became infinite or not a number.
        RunFolderError: a checkpoint could not be written.
    """
    model = FinetunedModel.create(ready.base, ready.spec, seed=ready.options.seed)
    state, _ = learn_model(model, ready, "finetune", folder, callbacks=callbacks, say=say)
    return Finetuned(model, epoch_records(state), best_epoch(state))


def _keep(folder: Path, model: FinetunedModel, report: FinetuneReport) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.learned_state(), folder / LEARNED_FILE)
        (folder / REPORT).write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise KeepError(f"{folder}: the weights can't be kept there: {error.strerror or error}") from error
