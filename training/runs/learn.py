"""Learning of one task's mask, from options to a published bundle.

`learn` does all of it. Its parts stand alone for what learns without publishing: `learn_bundle` learns one
mask of what `training.runs.preparation` has prepared, `publish` hands a bundle to a store.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from mask_store import (
    JsonScalar,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    StoreNotWritableError,
    UnknownTaskError,
    VersionInfo,
)
from masking import MaskedModel, TaskModel
from training import distributed
from training.errors import OptionsError, PublishError
from training.loop.history import EpochRecord, best_epoch, epoch_records, is_finished
from training.loop.run_folder import RunFolder
from training.loop.sparsity_schedule import first_candidate
from training.loop.trainer import TaskTrainer
from training.options import LearnOptions, LoopOptions, Method
from training.runs.preparation import Preparation, begin, prepare
from training.runs.report import MaskReport, SetReport, request_body

logger = logging.getLogger(__name__)

_NOT_IN_MANIFEST = {"seed", "save_steps", "tensorboard"}  # the seed has a place of its own there


@dataclass(frozen=True)
class Learned:
    """A mask that was learned and is not published.

    Attributes:
        bundle: the mask of the best epoch.
        epochs: what each epoch came to.
        best_epoch: number of the best epoch.
        resumed_after: epochs that an earlier, killed run had done.
    """

    bundle: MaskBundle
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    resumed_after: int


def learn(options: LearnOptions, *, callbacks: Sequence[TrainerCallback] = ()) -> MaskReport:
    """Learn a task's mask and publish it; prints nothing.

    Several processes, as torchrun starts them, call this together: each learns from its share of every batch,
    the first logs and publishes, and all return its report.

    Args:
        options: what to learn, from what, and where to publish.
        callbacks: told of steps, logs and epochs, such as `training.cli.progress.ProgressBar`.

    Returns:
        What was learned and published.

    Raises:
        TrainingError: options, data, run folder, learning or publishing failed; see `training.errors`.
        MaskingError: the base can't be loaded or masked as asked.
        MaskStoreError: the store can't be opened or written, or can't have such a task.
    """
    started = time.monotonic()
    device = begin(options)
    store = distributed.main_first(lambda: open_store(options))
    ready = prepare(options, device)
    with RunFolder.open(options.run_folder, ready.identity, fresh=options.fresh) as folder:
        learned = learn_bundle(ready, folder, callbacks=callbacks)

        def conclude() -> MaskReport:
            version = publish(store, learned.bundle, options.run_folder)
            report = _report(ready, learned, version, time.monotonic() - started)
            folder.finish(report.to_dict())
            return report

        return distributed.on_main(conclude)


def learn_bundle(
    ready: Preparation,
    folder: RunFolder,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> Learned:
    """Learn a mask, from the folder's last checkpoint on if there is one; publishes nothing.

    Args:
        ready: what `prepare` returned, or a variation of it.
        folder: where checkpoints go; they stay there until the caller finishes the folder.
        callbacks: as for `learn`.

    Returns:
        The mask of the best epoch, and how it was learned.

    Raises:
        DivergedError: the loss became infinite or not a number.
        RunFolderError: a checkpoint could not be written.
    """
    model = MaskedModel.create(ready.base, ready.spec, ready.options, seed=ready.options.seed)
    state, resumed_after = learn_model(model, ready, "mask", folder, callbacks=callbacks)
    return Learned(_bundle(ready, model, state), epoch_records(state), best_epoch(state), resumed_after)


def learn_model(
    model: TaskModel,
    ready: Preparation,
    method: Method,
    folder: RunFolder,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[TrainerState, int]:
    """Learn with a model, masked or finetuned; it ends as the best epoch.

    Args:
        model: a fresh model of the task.
        ready: the task.
        method: how it learns.
        folder: where checkpoints go.
        callbacks: told of steps, logs and epochs.

    Returns:
        The final state, and how many epochs an earlier, killed run had done.

    Raises:
        DivergedError: the loss became infinite or not a number.
        RunFolderError: a checkpoint could not be written.
    """
    resumed_after = _epochs_done(folder)
    if resumed_after:
        logger.info(f"going on after epoch {resumed_after} of the unfinished run in {folder.path}")
    loop = ready.loop(method)
    data = (ready.encoded.train, ready.encoded.dev)
    state = TaskTrainer(model, ready.codec, data, loop, folder, callbacks, metric=ready.metric).learn()
    done = len(epoch_records(state))
    if done < loop.epochs and is_finished(state, loop.patience, first_candidate(loop)):
        logger.info(f"stopped after epoch {done}: the last {loop.patience} brought no gain")
    return state, resumed_after


def publish(store: MaskStore, bundle: MaskBundle, run_folder: Path) -> VersionInfo:
    """Publish what was learned.

    Args:
        store: where to.
        bundle: a mask, or masks that answer together.
        run_folder: where what was learned is still kept, for the message.

    Raises:
        PublishError: the store refused it.
    """
    try:
        return store.publish(bundle)
    except MaskStoreError as error:
        raise PublishError(
            f"the mask is learned but can't be published: {error}; nothing is lost: mend the store and "
            f"learn again with the same settings, and what {run_folder} holds is published"
        ) from error


def open_store(options: LearnOptions) -> MaskStore:
    """Open the store and make sure, before hours of learning, that the task can be published there.

    Raises:
        OptionsError: no store is named.
        StoreError: the name is no task name, or the store can't be opened or written.
    """
    if not options.store:
        raise OptionsError(["--store missing: name the store to publish to, a folder or URL"])
    folder = Path(options.store)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise StoreNotWritableError(f"store {folder}: the folder can't be written")
    store = MaskStore.open(options.store, create=True)
    with suppress(UnknownTaskError):
        store.current(options.task)
    return store


def _epochs_done(folder: RunFolder) -> int:
    checkpoint = folder.last_checkpoint()
    if checkpoint is None:
        return 0
    return len(epoch_records(TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))))


def _bundle(ready: Preparation, model: MaskedModel, state: TrainerState) -> MaskBundle:
    o = ready.options
    records, best = epoch_records(state), best_epoch(state)
    training: dict[str, JsonScalar] = {
        **o.model_dump(by_alias=True, include=set(LoopOptions.model_fields) - _NOT_IN_MANIFEST),
        "processes": distributed.count(),
        "epochs_run": len(records),
        "best_epoch": best,
        "optimizer": "Adam",
        "train_examples": len(ready.encoded.train),
        "dev_examples": len(ready.encoded.dev),
        "device": ready.base.device.type,
    }
    return model.to_bundle(
        task=o.task,
        metric=ready.metric,
        metrics=records[best - 1].metrics,
        training=training,
        data_digest=ready.data.digest,
        seed=o.seed,
    )


def _report(ready: Preparation, learned: Learned, version: VersionInfo, seconds: float) -> MaskReport:
    manifest = learned.bundle.manifest
    return MaskReport(
        **published_as(ready, learned.bundle, version, seconds),
        kind=manifest.kind,
        labels=manifest.labels,
        best_epoch=learned.best_epoch,
        resumed_after=learned.resumed_after,
        epochs=learned.epochs,
        zeros_start=manifest.initial_sparsity,
        zeros_end=manifest.sparsity,
        flipped=manifest.flipped_share,
        train=SetReport.of(ready.data.train, ready.encoded.train),
        dev=SetReport.of(ready.data.dev, ready.encoded.dev),
    )


def published_as(
    ready: Preparation, bundle: MaskBundle, version: VersionInfo, seconds: float
) -> dict[str, Any]:
    """Return the fields of a `PublishedReport`."""
    manifest = bundle.manifest
    return {
        "task": manifest.task,
        "base": manifest.base.name,
        "device": ready.base.device.type,
        "metric": ready.metric,
        "metrics": manifest.metrics,
        "seconds": round(seconds, 3),
        "store": ready.options.store or "",
        "version": version.number,
        "digest": version.digest,
        "bundle_bytes": version.size,
        "mask_bits": manifest.mask_bits,
        "mask_bytes": manifest.mask_bytes,
        "finetuned_bytes": manifest.finetuned_bytes,
        "request": request_body(ready.data.dev.examples[0].input),
    }
