"""Finetuning, the baseline of the paper: the same task, data, metric and stopping, every weight learned.

Nothing is published: a finetuned copy is what masks are there to replace. It can be kept in a folder of its
own, for comparison.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from masking import FinetunedModel, UnsupportedArchitectureError
from masking.checkpoints import export_tensors
from masking.errors import ExportError
from training.distributed import on_main
from training.errors import KeepError
from training.loop.callbacks import Callback
from training.loop.checkpoint import LEARNED_FILE
from training.loop.history import EpochRecord
from training.loop.run_folder import REPORT, RunFolder
from training.options import LearnOptions
from training.runs.learn import judge_dev, learn_model
from training.runs.preparation import Preparation, prepare
from training.runs.report import FinetuneReport, finish


@dataclass(frozen=True)
class Finetuned:
    """A finetuned copy, with the weights of its best epoch.

    Attributes:
        model: The copy.
        epochs: Record of each epoch.
        best_epoch: Number of the best epoch.
    """

    model: FinetunedModel
    epochs: tuple[EpochRecord, ...]
    best_epoch: int

    @property
    def nbytes(self) -> int:
        """Bytes of the fp32 weights."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())


def finetune(
    options: LearnOptions,
    *,
    callbacks: Sequence[Callback] = (),
    keep: Path | None = None,
) -> FinetuneReport:
    """Finetune a copy of the base on a task and measure it; resumable like `training.runs.learn.learn`.

    Args:
        options: As for learning a mask; `lr` is the rate of finetuning, settings of masks and the store are
            not used.
        callbacks: Called as the run proceeds.
        keep: Folder for the weights of the best epoch, as transformers loads it, and ``report.json``; made if
            it isn't there. The weights are ``learned.safetensors`` (`masking.TaskModel.learned_state`) where
            transformers has no class for them. None to drop the weights.

    Returns:
        How well it was learned.

    Raises:
        TrainingError, MaskingError: As in `training.runs.learn.learn`.
        KeepError: The weights can't be written to `keep`.
    """
    started = time.monotonic()
    ready = prepare(options)
    path = Path(f"{options.run_folder}-finetuned")
    with RunFolder.open(path, ready.identity_for("finetune"), fresh=options.fresh) as folder:
        tuned = finetune_copy(ready, folder, callbacks=callbacks)
        _, evaluation = judge_dev(ready, tuned.model)
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
            evaluation=evaluation,
        )

        def conclude() -> None:
            if keep is not None:
                _keep(keep, tuned.model, report)
            finish(folder, report)

        on_main(conclude)
    return report


def finetune_copy(
    ready: Preparation,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
) -> Finetuned:
    """Finetune a copy of the base, from the folder's last checkpoint on if there is one.

    Args:
        ready: What `training.runs.preparation.prepare` returned, or a variation of it.
        folder: Where checkpoints go; they stay there until the caller finishes the folder.
        callbacks: Called as the run proceeds.

    Raises:
        DivergedError: The loss became infinite or not a number.
        RunFolderError: A checkpoint could not be written.
    """
    model = FinetunedModel.create(ready.base, ready.spec, seed=ready.options.seed)
    history, _ = learn_model(model, ready, "finetune", folder, callbacks=callbacks)
    return Finetuned(model, tuple(history.epochs), history.best_epoch)


def _keep(folder: Path, model: FinetunedModel, report: FinetuneReport) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            export_tensors(*(report.task, model.spec, model.activation, model.tensors, model.base), folder)
        except UnsupportedArchitectureError:
            save_file(model.learned_state(), folder / LEARNED_FILE)
        (folder / REPORT).write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError, ExportError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KeepError(f"{folder}: the weights can't be kept there: {reason}") from error
