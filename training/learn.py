"""Learning one task, from options to a published mask.

`learn` does all of it. Its parts stand alone for what learns without publishing: `prepare` reads and encodes
once, `learn_bundle` learns one mask of what was prepared, `publish` hands a bundle to a store.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerState
from transformers.integrations.integration_utils import is_tensorboard_available

from mask_store import (
    JsonScalar,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    StoreNotWritableError,
    UnknownTaskError,
    VersionInfo,
)
from masking import Base, MaskedModel, MaskSettings, TaskCodec, TaskModel, TaskSpec, load_base, task_codec
from training import processes
from training.data import EncodedData, TaskData, load_data
from training.epochs import EpochRecord, best_epoch, epoch_records, is_finished
from training.errors import OptionsError, PublishError
from training.examples import ExampleSet, describe_unusable
from training.features import EncodedExample
from training.loop import LoopSettings
from training.metrics import choose_metric
from training.options import EXTRA_SETTINGS, LearnOptions, Method, Metric, parse_blocks
from training.report import Report, SetReport, request_body
from training.run_folder import RunFolder
from training.trainer import TaskTrainer

PAPER_SCORE_RANGE = 0.6

Say = Callable[[str], None]


@dataclass(frozen=True)
class Preparation:
    """Everything that is known before the first step.

    Attributes:
        options: what the run was told.
        data: labelled data.
        encoded: the same as features.
        base: the pretrained encoder, on its device.
        spec: the task.
        codec: its codec.
        mask: how masks start, blocks resolved.
        metric: dev metric that chooses the best epoch.
    """

    options: LearnOptions
    data: TaskData
    encoded: EncodedData
    base: Base
    spec: TaskSpec
    codec: TaskCodec
    mask: MaskSettings
    metric: Metric

    @property
    def identity(self) -> dict[str, object]:
        """Settings and digests that decide which mask is learned."""
        return {
            **self.options.learning_settings(),
            "blocks": list(self.mask.blocks or ()),
            "metric": self.metric,
            "pair": self.spec.pair,
            "labels": list(self.spec.labels),
            "base": self.base.info.fingerprint,
            "data": self.data.digest,
            "processes": processes.count(),
        }

    def identity_for(self, method: Method) -> dict[str, object]:
        """Settings and digests that decide what a method comes to."""
        return {**self.identity, "method": method}

    def varied(self, *, lr: float | None = None, seed: int | None = None) -> "Preparation":
        """Return the same for another learning rate or seed; nothing is read or encoded again."""
        o = self.options
        changed = replace(o, lr=o.lr if lr is None else lr, seed=o.seed if seed is None else seed)
        return replace(self, options=changed)

    @property
    def loop(self) -> LoopSettings:
        """Settings of the training loop, whatever it learns."""
        o = self.options
        return LoopSettings(
            lr=o.lr,
            epochs=o.epochs,
            patience=o.patience,
            batch_size=o.batch_size,
            accumulate=o.accumulate,
            group_by_length=o.group_by_length,
            precision=o.precision,
            seed=o.seed,
            metric=self.metric,
            save_steps=o.save_steps,
            tensorboard=o.tensorboard,
        )

    @property
    def mask_loop(self) -> LoopSettings:
        """Settings of the training loop when it learns a mask."""
        o = self.options
        return replace(
            self.loop,
            lr=o.lr * self.mask.score_range / PAPER_SCORE_RANGE if o.scale_lr else o.lr,
            head_lr=(o.head_lr or o.lr) if o.head == "trained" else None,
            average=o.average,
            final_sparsity=o.final_sparsity,
        )


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


def learn(
    options: LearnOptions, *, callbacks: Sequence[TrainerCallback] = (), say: Say | None = None
) -> Report:
    """Learn a task's mask and publish it; prints nothing.

    Several processes, as torchrun starts them, call this together: each learns from its share of every batch,
    the first says and publishes, and all return its report.

    Args:
        options: what to learn, from what, and where to publish.
        callbacks: told of steps, logs and epochs, such as `training.progress.ProgressBar`.
        say: called with a line of text for what a user should know on the way; None for nobody.

    Returns:
        What was learned and published.

    Raises:
        TrainingError: options, data, run folder, learning or publishing failed; see `training.errors`.
        MaskingError: the base can't be loaded or masked as asked.
        MaskStoreError: the store can't be opened or written, or can't have such a task.
    """
    started = time.monotonic()
    processes.join(choose_device(options.device))
    store = processes.main_first(lambda: open_store(options))
    ready = prepare(options, say)
    with RunFolder.open(options.run_folder, ready.identity, fresh=options.fresh) as folder:
        learned = learn_bundle(ready, folder, callbacks=callbacks, say=say)

        def conclude() -> Report:
            version = publish(store, learned.bundle, options.run_folder)
            report = _report(ready, learned, version, time.monotonic() - started)
            folder.finish(report.to_dict())
            return report

        return processes.on_main(conclude)


def learn_bundle(
    ready: Preparation,
    folder: RunFolder,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    say: Say | None = None,
) -> Learned:
    """Learn a mask, from the folder's last checkpoint on if there is one; publishes nothing.

    Args:
        ready: what `prepare` returned, or a variation of it.
        folder: where checkpoints go; they stay there until the caller finishes the folder.
        callbacks: as for `learn`.
        say: as for `learn`.

    Returns:
        The mask of the best epoch, and how it was learned.

    Raises:
        DivergedError: the loss became infinite or not a number.
        RunFolderError: a checkpoint could not be written.
    """
    model = MaskedModel.create(ready.base, ready.spec, ready.mask, seed=ready.options.seed)
    state, resumed_after = learn_model(model, ready, ready.mask_loop, folder, callbacks=callbacks, say=say)
    return Learned(_bundle(ready, model, state), epoch_records(state), best_epoch(state), resumed_after)


def learn_model(
    model: TaskModel,
    ready: Preparation,
    loop: LoopSettings,
    folder: RunFolder,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    say: Say | None = None,
) -> tuple[TrainerState, int]:
    """Learn with a model, masked or finetuned; it ends as the best epoch.

    Args:
        model: a fresh model of the task.
        ready: the task.
        loop: settings of the loop, one of those of `ready`.
        folder: where checkpoints go.
        callbacks: told of steps, logs and epochs.
        say: called with a line of text for what a user should know on the way.

    Returns:
        The final state, and how many epochs an earlier, killed run had done.

    Raises:
        DivergedError: the loss became infinite or not a number.
        RunFolderError: a checkpoint could not be written.
    """
    say = _heard(say)
    resumed_after = _epochs_done(folder)
    if resumed_after:
        say(f"going on after epoch {resumed_after} of the unfinished run in {folder.path}")
    data = (ready.encoded.train, ready.encoded.dev)
    state = TaskTrainer(model, ready.codec, data, loop, folder, callbacks).learn()
    done = len(epoch_records(state))
    if done < loop.epochs and is_finished(state, loop.patience, loop.first_candidate):
        say(f"stopped after epoch {done}: the last {loop.patience} brought no gain")
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
        return store.publish_bytes(bundle.to_bytes())
    except MaskStoreError as error:
        raise PublishError(
            f"the mask is learned but can't be published: {error}; nothing is lost: mend the store and "
            f"learn again with the same settings, and what {run_folder} holds is published"
        ) from error


def prepare(options: LearnOptions, say: Say | None = None) -> Preparation:
    """Do all that comes before learning: read the data, load the base, encode.

    Args:
        options: see `LearnOptions`; the store is not looked at.
        say: see `learn`.

    Raises:
        TrainingError, MaskingError: as in `learn`.
    """
    say = _heard(say)
    if options.threads:
        torch.set_num_threads(options.threads)
    check_launch(options)
    device = choose_device(options.device)
    processes.join(device)
    with processes.together():
        data = load_data(options)
        metric = choose_metric(options.kind, data.labels, options.metric)
        base = load_base(options.base, device=device)
        spec = data.spec(options)
        mask = mask_settings(options, base)
        codec = task_codec(spec, base.tokenizer)
        encoded = EncodedData.of(data, codec)
    for examples, features in ((data.train, encoded.train), (data.dev, encoded.dev)):
        _say_data(say, examples, features)
    labels = f"{len(data.labels)} labels, " if data.labels else ""
    shared = f", {processes.count()} processes" if processes.count() > 1 else ""
    say(f"learning {options.task}: {labels}base {base.info.name}, blocks {_span(mask)}, on {device}{shared}")
    return Preparation(options, data, encoded, base, spec, codec, mask, metric)


def check_launch(options: LearnOptions) -> None:
    """Make sure that the options fit what is installed and how many processes were started.

    Raises:
        OptionsError: a batch can't be shared out evenly, or TensorBoard is asked for and not installed.
    """
    problems = []
    if options.batch_size % processes.count():
        problems.append(
            f"--batch-size {options.batch_size}: {processes.count()} processes can't share it out evenly"
        )
    if options.tensorboard and not is_tensorboard_available():
        problems.append("--tensorboard: it is not installed; pip install 'maskserve[tensorboard]'")
    if problems:
        raise OptionsError(problems)


def choose_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda``; of several processes each has the GPU of its number, as ``cuda:1``.

    Raises:
        OptionsError: a GPU is asked for and there is none, or there are more processes than GPUs.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise OptionsError(["--device cuda: there is no CUDA device here; use --device cpu or auto"])
    if wanted == "cpu" or not there:
        return "cpu"
    if processes.count() == 1:
        return "cuda"
    gpus = torch.cuda.device_count()
    if processes.local_count() > gpus:
        raise OptionsError([f"there are more processes than the {gpus} CUDA devices of this machine"])
    return f"cuda:{processes.local_rank()}"


def mask_settings(options: LearnOptions, base: Base) -> MaskSettings:
    """Return how masks start on this base.

    Raises:
        OptionsError: the options don't fit the base: blocks it lacks, or inputs longer than it takes.
    """
    problems = []
    if options.max_length > base.max_positions:
        problems.append(
            f"--max-length {options.max_length}: base {base.info.name} takes {base.max_positions} at most"
        )
    last = base.num_blocks - 1
    blocks: tuple[int, ...] = ()
    try:
        blocks = parse_blocks(options.blocks, last)
    except ValueError as error:
        problems.append(str(error))
    if blocks and blocks[-1] > last:
        problems.append(f"--blocks {options.blocks}: base {base.info.name} has blocks 0 to {last}")
    if problems:
        raise OptionsError(problems)
    return MaskSettings(
        blocks,
        options.threshold,
        options.score_low,
        options.initial_sparsity,
        options.head,
        options.score_init,
        options.score_gradient,
        options.temperature,
    )


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
        "lr": o.lr,
        "epochs": o.epochs,
        "patience": o.patience,
        "batch_size": o.batch_size,
        "accumulate": o.accumulate,
        "processes": processes.count(),
        "group_by_length": o.group_by_length,
        "precision": o.precision,
        **{name: getattr(o, name) for name in EXTRA_SETTINGS},
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


def _report(ready: Preparation, learned: Learned, version: VersionInfo, seconds: float) -> Report:
    bundle, manifest = learned.bundle, learned.bundle.manifest
    return Report(
        task=manifest.task,
        kind=manifest.kind,
        labels=manifest.labels,
        base=manifest.base.name,
        device=ready.base.device.type,
        store=ready.options.store or "",
        version=version.number,
        digest=version.digest,
        metric=bundle.members[0].info.metric,
        metrics=manifest.metrics,
        best_epoch=learned.best_epoch,
        resumed_after=learned.resumed_after,
        epochs=learned.epochs,
        zeros_start=manifest.initial_sparsity,
        zeros_end=manifest.sparsity,
        flipped=manifest.flipped_share,
        bundle_bytes=version.size,
        mask_bits=manifest.mask_bits,
        mask_bytes=manifest.mask_bytes,
        finetuned_bytes=manifest.finetuned_bytes,
        seconds=round(seconds, 3),
        train=_set_report(ready.data.train, ready.encoded.train),
        dev=_set_report(ready.data.dev, ready.encoded.dev),
        request=request_body(ready.data.dev.examples[0].input),
    )


def _set_report(examples: ExampleSet, encoded: Sequence[EncodedExample]) -> SetReport:
    truncated = sum(item.features.truncated for item in encoded)
    return SetReport(examples.source, len(encoded), truncated, examples.unusable)


def _say_data(say: Say, examples: ExampleSet, encoded: Sequence[EncodedExample]) -> None:
    report = _set_report(examples, encoded)
    cut = f", {report.truncated} longer than --max-length and cut" if report.truncated else ""
    say(f"{report.source}: {report.used} examples{cut}")
    if report.unusable:
        say(f"{report.source}: {len(report.unusable)} rows can't be used and are left out:")
        for line in describe_unusable(report.unusable, examples.unit):
            say(f"  {line}")


def _span(mask: MaskSettings) -> str:
    blocks = mask.blocks or ()
    whole = blocks == tuple(range(blocks[0], blocks[-1] + 1)) and len(blocks) > 1
    return f"{blocks[0]}-{blocks[-1]}" if whole else ",".join(map(str, blocks))


def _heard(say: Say | None) -> Say:
    """What is said by the first process alone."""
    return say if say and processes.is_main() else silent


def silent(text: str) -> None:
    """Say nothing."""
