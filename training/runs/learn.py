"""Learning of one task's mask, from options to a published bundle.

`learn` does all of it. Its parts stand alone for what learns without publishing: `learn_bundle` learns one
mask of what `training.runs.preparation` has prepared, `publish` hands a bundle to a store.
"""

import logging
import math
import time
from collections.abc import Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mask_store import (
    JsonScalar,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    TaskManifest,
    UnknownTaskError,
    VersionInfo,
)
from masking import MaskedModel, TaskCodec, TaskModel
from training import distributed
from training.errors import OptionsError, PublishError
from training.judging.evaluation import Evaluation
from training.judging.learned import judge_model
from training.kinds import TRAINING_KINDS
from training.loop.callbacks import Callback
from training.loop.evaluation import predict
from training.loop.history import EpochRecord, History
from training.loop.run_folder import RunFolder
from training.loop.trainer import Trainer
from training.options import LearnOptions, LoopOptions, Method
from training.runs.acceptance import accept, is_learned
from training.runs.preparation import Preparation, begin, prepare
from training.runs.report import MaskReport, SetReport, finish
from training.runs.request import request_body, sample_input

logger = logging.getLogger(__name__)

_NOT_IN_MANIFEST = {"seed", "save_steps", "tensorboard", "track"}  # the seed has a place of its own there


@dataclass(frozen=True)
class Learned:
    """A mask that was learned and is not published.

    Attributes:
        model: The model as it was at the best epoch.
        bundle: Its mask.
        epochs: Record of each epoch.
        best_epoch: Number of the best epoch.
        resumed_after: Epochs that an earlier, killed run had done.
        evaluation: How it answers the dev set.
    """

    model: MaskedModel
    bundle: MaskBundle
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    resumed_after: int
    evaluation: Evaluation

    @property
    def nbytes(self) -> int:
        """Bytes of the packed masks and the head."""
        return self.bundle.manifest.mask_bytes + self.bundle.manifest.head_bytes


def learn(options: LearnOptions, *, callbacks: Sequence[Callback] = ()) -> MaskReport:
    """Learn a task's mask and publish it; prints nothing.

    Several processes, as torchrun starts them, call this together: each learns from its share of every batch,
    the first logs and publishes, and all return its report.

    Args:
        options: What to learn, from what, and where to publish.
        callbacks: Called as the run proceeds, such as `training.cli.progress.ProgressBar`.

    Returns:
        What was learned and published.

    Raises:
        TrainingError: Options, data, run folder, learning or publishing failed; see `training.errors`.
        MaskingError: The base can't be loaded or masked as asked.
        MaskStoreError: The store can't be opened or written, or can't have such a task.
    """
    started = time.monotonic()
    device = begin(options)
    store = distributed.main_first(lambda: open_store(options))
    ready = prepare(options, device)
    with RunFolder.open(options.run_folder, ready.identity, fresh=options.fresh) as folder:
        learned = learn_bundle(ready, folder, callbacks=callbacks)

        def conclude() -> MaskReport:
            accept_mask(ready, learned)
            version = publish_kept(store, learned.bundle, folder)
            report = _report(ready, learned, version, time.monotonic() - started)
            finish(folder, report)
            return report

        return distributed.on_main(conclude)


def learn_bundle(
    ready: Preparation,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
) -> Learned:
    """Learn a mask, from the folder's last checkpoint on if there is one; publishes nothing.

    Args:
        ready: What `prepare` returned, or a variation of it.
        folder: Where checkpoints go; they stay there until the caller finishes the folder.
        callbacks: As for `learn`.

    Returns:
        The mask of the best epoch, and how it was learned.

    Raises:
        DivergedError: The loss became infinite or not a number.
        RunFolderError: A checkpoint could not be written.
    """
    model = MaskedModel.create(ready.base, ready.spec, ready.options, seed=ready.options.seed)
    history, resumed_after = learn_model(model, ready, "mask", folder, callbacks=callbacks)
    codec, evaluation = judge_dev(ready, model)
    model.spec = codec.spec
    bundle = _bundle(ready, model, history, evaluation)
    return Learned(model, bundle, tuple(history.epochs), history.best_epoch, resumed_after, evaluation)


def learn_model(
    model: TaskModel,
    ready: Preparation,
    method: Method,
    folder: RunFolder,
    *,
    callbacks: Sequence[Callback] = (),
) -> tuple[History, int]:
    """Learn with a model, masked or finetuned; it ends as the best epoch.

    Args:
        model: A fresh model of the task.
        ready: The task.
        method: How it learns.
        folder: Where checkpoints go.
        callbacks: Called as the run proceeds.

    Returns:
        The history of the run, and how many epochs an earlier, killed run had done.

    Raises:
        DivergedError: The loss became infinite or not a number.
        RunFolderError: A checkpoint could not be written.
    """
    if bias := TRAINING_KINDS[ready.spec.kind].bias([item.target for item in ready.encoded.train]):
        model.set_bias(bias)
    loop = ready.loop(method)
    data = (ready.encoded.train, ready.encoded.dev)
    trainer = Trainer(model, ready.codec, data, loop, folder, callbacks, metric=ready.metric)
    resumed_after = len(trainer.history.epochs)
    if step := trainer.history.step:
        epoch = math.ceil(step / trainer.history.steps_per_epoch)
        where = f"step {step} (epoch {epoch} of {loop.max_epochs})"
        logger.info(f"resuming after {where} of the unfinished run in {folder.path}")
    history = trainer.train()
    done = len(history.epochs)
    if done < loop.max_epochs and history.is_finished:
        logger.info(f"stopped after epoch {done}: the last {loop.patience} brought no gain")
    return history, resumed_after


def judge_dev(ready: Preparation, model: TaskModel) -> tuple[TaskCodec, Evaluation]:
    """Judge a model by its answers to the dev set; see `training.judging.learned.judge_model`."""
    dev, rows = ready.encoded.dev, ready.options.batch_size
    codec, found = judge_model(model, ready.codec, ready.data.dev, dev, metric=ready.metric, max_rows=rows)
    return codec, found.beside(ready.baseline)


def accept_mask(ready: Preparation, learned: Learned) -> None:
    """Make sure that a mask is worth publishing.

    Raises:
        NothingLearnedError: It is not; see `training.runs.acceptance.accept`.
    """
    metrics = learned.epochs[learned.best_epoch - 1].metrics
    predictions = None
    if not is_learned(ready, metrics):
        rows = ready.options.batch_size
        predictions = predict(learned.model, ready.codec, ready.encoded.dev, max_rows=rows)
    accept(ready, metrics, predictions)


def publish(store: MaskStore, bundle: MaskBundle, run_folder: Path) -> VersionInfo:
    """Publish what was learned.

    Args:
        store: Where to publish.
        bundle: A mask, or masks that answer together.
        run_folder: Where what was learned is still kept, for the message.

    Raises:
        PublishError: The store refused it.
    """
    try:
        return store.publish(bundle)
    except MaskStoreError as error:
        raise PublishError(
            f"the mask is learned but can't be published: {error}; nothing is lost: mend the store and "
            f"learn again with the same settings, and what {run_folder} holds is published"
        ) from error


def publish_kept(store: MaskStore, bundle: MaskBundle, folder: RunFolder) -> VersionInfo:
    """Keep what a run has learned in its folder and publish it; published once, however often it is killed.

    Args:
        store: Where to publish.
        bundle: What was learned. What the folder keeps already, which is the same but for the time when it
            was made, is published instead.
        folder: The run's folder.

    Raises:
        RunFolderError: It can't be kept.
        PublishError: The store refused it.
    """
    kept = folder.kept()
    if kept is None:
        folder.keep(bundle)
    return publish(store, kept or bundle, folder.path)


def open_store(options: LearnOptions) -> MaskStore:
    """Open the store and make sure, before hours of learning, that the task can be published there.

    Raises:
        OptionsError: No store is named.
        StoreError: The name is not a task name, or the store can't be opened or written.
    """
    if not options.store:
        raise OptionsError(["--store missing: name the store to publish to, a folder or URL"])
    store = MaskStore.open(options.store, create=True)
    store.check_writable()
    with suppress(UnknownTaskError):
        store.current(options.task)
    return store


def training_record(
    loop: LoopOptions, history: History, data: tuple[Sized, Sized], device: torch.device
) -> dict[str, JsonScalar]:
    """Return what a bundle tells of its learning.

    Args:
        loop: Options of the loop.
        history: The run, finished.
        data: Examples to learn from, and to choose the best epoch by.
        device: Where it ran.
    """
    train, dev = data
    return {
        **loop.model_dump(by_alias=True, include=set(LoopOptions.model_fields) - _NOT_IN_MANIFEST),
        "processes": distributed.count(),
        "epochs_run": len(history.epochs),
        "best_epoch": history.best_epoch,
        "optimizer": "Adam",
        "train_examples": len(train),
        "dev_examples": len(dev),
        "device": device.type,
    }


def _bundle(ready: Preparation, model: MaskedModel, history: History, evaluation: Evaluation) -> MaskBundle:
    o, encoded = ready.options, ready.encoded
    return model.to_bundle(
        task=o.task,
        metric=ready.metric,
        metrics=history.best.metrics,
        evaluation=evaluation.info(),
        training=training_record(o, history, (encoded.train, encoded.dev), ready.base.device),
        data_digest=ready.data.digest,
        seed=o.seed,
    )


def _report(ready: Preparation, learned: Learned, version: VersionInfo, seconds: float) -> MaskReport:
    manifest = learned.bundle.manifest
    assert isinstance(manifest, TaskManifest)
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
        evaluation=learned.evaluation,
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
        "request": request_body(sample_input(ready.encoded.dev, ready.codec)),
    }
