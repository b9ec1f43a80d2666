"""Learning one task from options to a published mask: the one function that commands are built on."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
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
from masking import Base, MaskedModel, MaskSettings, TaskCodec, TaskSpec, load_base, task_codec
from training.data import EncodedData, TaskData, load_data
from training.errors import OptionsError, PublishError
from training.examples import ExampleSet, describe_unusable
from training.features import EncodedExample
from training.metrics import choose_metric
from training.options import EXTRA_SETTINGS, LearnOptions, Metric, parse_blocks
from training.report import Report, SetReport, request_body
from training.run_folder import RunFolder
from training.trainer import LoopSettings, TaskTrainer, best_epoch, epoch_records

PAPER_SCORE_RANGE = 0.6

Say = Callable[[str], None]


@dataclass(frozen=True)
class Preparation:
    """Everything that is known before the first step.

    Attributes:
        options: what the run was told.
        store: where to publish.
        data: labelled data.
        encoded: the same as features.
        base: the pretrained encoder, on its device.
        spec: the task.
        codec: its codec.
        mask: how masks start, blocks resolved.
        metric: dev metric that chooses the best epoch.
    """

    options: LearnOptions
    store: MaskStore
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
        }

    @property
    def loop(self) -> LoopSettings:
        """Settings of the training loop, whatever it learns."""
        o = self.options
        return LoopSettings(
            lr=o.lr,
            epochs=o.epochs,
            patience=o.patience,
            batch_size=o.batch_size,
            group_by_length=o.group_by_length,
            precision=o.precision,
            seed=o.seed,
            metric=self.metric,
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


def learn(
    options: LearnOptions, *, callbacks: Sequence[TrainerCallback] = (), say: Say | None = None
) -> Report:
    """Learn a task's mask and publish it; prints nothing.

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
    say = say or _silent
    ready = prepare(options, say)
    with RunFolder.open(options.run_folder, ready.identity, fresh=options.fresh) as folder:
        resumed_after = _epochs_done(folder, ready)
        if resumed_after:
            say(f"going on after epoch {resumed_after} of the unfinished run in {options.run_folder}")
        model = MaskedModel.create(ready.base, ready.spec, ready.mask, seed=options.seed)
        data = (ready.encoded.train, ready.encoded.dev)
        trainer = TaskTrainer(model, ready.codec, data, ready.mask_loop, folder, callbacks)
        state = trainer.learn()
        _say_end(say, state, options)
        bundle = _bundle(ready, model, state)
        version = _publish(ready, bundle)
        report = _report(ready, bundle, version, state, resumed_after, time.monotonic() - started)
        folder.finish(report.to_dict())
    return report


def prepare(options: LearnOptions, say: Say | None = None) -> Preparation:
    """Do all that comes before learning: check the store, read the data, load the base, encode.

    Args:
        options: see `LearnOptions`.
        say: see `learn`.

    Raises:
        TrainingError, MaskingError, MaskStoreError: as in `learn`.
    """
    say = say or _silent
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    store = open_store(options)
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
    say(f"learning {options.task}: {labels}base {base.info.name}, blocks {_span(mask)}, on {device}")
    return Preparation(options, store, data, encoded, base, spec, codec, mask, metric)


def choose_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu``.

    Raises:
        OptionsError: a GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise OptionsError(["--device cuda: there is no CUDA device here; use --device cpu or auto"])
    return "cuda" if there and wanted != "cpu" else "cpu"


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
        StoreError: the name is no task name, or the store can't be opened or written.
    """
    folder = Path(options.store)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise StoreNotWritableError(f"store {folder}: the folder can't be written")
    store = MaskStore.open(options.store, create=True)
    with suppress(UnknownTaskError):
        store.current(options.task)
    return store


def _epochs_done(folder: RunFolder, ready: Preparation) -> int:
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


def _publish(ready: Preparation, bundle: MaskBundle) -> VersionInfo:
    try:
        return ready.store.publish(bundle)
    except MaskStoreError as error:
        raise PublishError(
            f"the mask is learned but can't be published: {error}; nothing is lost: mend the store and "
            f"learn again with the same settings, and what {ready.options.run_folder} holds is published"
        ) from error


def _report(
    ready: Preparation,
    bundle: MaskBundle,
    version: VersionInfo,
    state: TrainerState,
    resumed_after: int,
    seconds: float,
) -> Report:
    manifest = bundle.manifest
    return Report(
        task=manifest.task,
        kind=manifest.kind,
        labels=manifest.labels,
        base=manifest.base.name,
        device=ready.base.device.type,
        store=ready.options.store,
        version=version.number,
        digest=version.digest,
        metric=bundle.members[0].info.metric,
        metrics=manifest.metrics,
        best_epoch=best_epoch(state),
        resumed_after=resumed_after,
        epochs=epoch_records(state),
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


def _say_end(say: Say, state: TrainerState, options: LearnOptions) -> None:
    done = len(epoch_records(state))
    if done < options.epochs:
        say(f"stopped after epoch {done}: the last {options.patience} brought no gain")


def _span(mask: MaskSettings) -> str:
    blocks = mask.blocks or ()
    whole = blocks == tuple(range(blocks[0], blocks[-1] + 1)) and len(blocks) > 1
    return f"{blocks[0]}-{blocks[-1]}" if whole else ",".join(map(str, blocks))


def _silent(text: str) -> None:
    """Say nothing."""
