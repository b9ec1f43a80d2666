"""Preparation of a run: the data read and encoded, the base loaded, the options held against both.

`prepare` does all of it, once; what it returns is what `learn` and `finetune` learn from, and can be varied
in its settings without reading anything again. Nothing here learns, or looks at a store.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from mask_store import Pooling
from masking import (
    Base,
    BlockOutOfRangeError,
    MaskingError,
    TaskCodec,
    TaskModel,
    TaskSpec,
    load_base,
    task_codec,
)
from masking.checkpoints import read_sentence_encoder
from masking.kernels import choose_precision
from training import distributed
from training.data.examples import ExampleSet, describe_unusable
from training.data.features import EncodedExample
from training.data.task_data import EncodedData, TaskData, load_data
from training.errors import OptionsError
from training.kinds import BASE_ALONE, TRAINING_KINDS, Baseline
from training.loop.evaluation import evaluate
from training.loop.tracking import check_trackers
from training.options import LearnOptions, LoopOptions, Method, Metric
from training.runs.report import SetReport

logger = logging.getLogger(__name__)

_FINETUNED = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForQuestionAnswering",
)
_DRAWS = 2  # how a seed becomes head and scores: part of what a run is, since another way is another run


@dataclass(frozen=True)
class Preparation:
    """Everything that is known before the first step.

    Attributes:
        options: Options of the run.
        data: Labelled data.
        encoded: The same as features.
        base: The pretrained encoder, on its device.
        spec: The task.
        codec: Its codec.
        blocks: Blocks to mask, ascending.
        metric: Dev metric that chooses the best epoch.
        baseline: What it is on dev where the most frequent answer is always given; of embeddings, what it is
            of the base's own.
    """

    options: LearnOptions
    data: TaskData
    encoded: EncodedData
    base: Base
    spec: TaskSpec
    codec: TaskCodec
    blocks: tuple[int, ...]
    metric: Metric
    baseline: Baseline

    @property
    def identity(self) -> dict[str, object]:
        """Settings and digests that decide which mask is learned."""
        return {
            **self.options.learning_settings(),
            "blocks": list(self.blocks),
            "metric": self.metric,
            "pair": self.spec.pair,
            "labels": list(self.spec.labels),
            "base": self.base.info.fingerprint,
            "tokenizer": self.base.info.tokenizer,
            "configuration": self.base.info.configuration,
            "data": self.data.digest,
            "processes": distributed.count(),
            "draws": _DRAWS,
            **_split_identity(self),
            **_reading_identity(self.options),
            **({"pooling": self.spec.pooling} if self.spec.pooling else {}),
        }

    def identity_for(self, method: Method) -> dict[str, object]:
        """Return the settings and digests that decide the result of a method."""
        return {**self.identity, "method": method}

    def varied(self, **changes: Any) -> "Preparation":
        """Return the same for other settings of learning; nothing is read or encoded again.

        Args:
            changes: Values by names of options, such as ``lr`` or ``seed``; not those that decide the data.

        Raises:
            OptionsError: They don't make sense, or don't fit the base.
        """
        options = self.options.replaced(**changes)
        return replace(self, options=options, blocks=fit_to_base(options, self.base))

    def loop(self, method: Method) -> LoopOptions:
        """Return the settings of the training loop; those of masks beyond the paper are off in finetuning."""
        off = {"ema_decay": None, "final_sparsity": None, "head_lr": None}
        return self.options if method == "mask" else self.options.model_copy(update=off)


def _split_identity(ready: Preparation) -> dict[str, object]:
    """Return what decides the dev set, where it was split off."""
    options = ready.options
    if not ready.data.held_share:
        return {}
    seed = {"split_seed": options.split_seed} if options.split_seed else {}
    return {"validation_share": ready.data.held_share, **seed}


def _reading_identity(options: LearnOptions) -> dict[str, object]:
    """Return what decides how rows are read as examples, where it is not left to be found."""
    named = {f"{role}_column": column for role, column in options.columns.items()}
    marks = {"missing_label": options.missing_label, "label_separator": options.label_separator}
    return {name: value for name, value in (named | marks).items() if value is not None}


def begin(options: LearnOptions) -> str:
    """Choose the device, set its threads and meet the other processes, if there are any.

    Returns:
        The device, see `choose_device`.

    Raises:
        OptionsError: The options don't fit what is installed here, or how many processes were started.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    check_launch(options)
    device = choose_device(options.device)
    if options.precision == "bf16" and choose_precision("auto", torch.device(device)) != "bf16":
        logger.warning(
            f"warning: --precision bf16: no kernel for it on this {device}, "
            "so it may be emulated, several times slower than fp32"
        )
    distributed.join(device)
    return device


def prepare(options: LearnOptions, device: str | None = None) -> Preparation:
    """Do all that comes before learning: read the data, load the base, encode.

    Args:
        options: See `LearnOptions`; the store is not looked at.
        device: What `begin` returned; None to begin here.

    Raises:
        TrainingError, MaskingError: As in `training.runs.learn.learn`.
    """
    device = device or begin(options)
    with distributed.together():
        data = load_data(options)
        kind = TRAINING_KINDS[options.kind]
        metric = kind.choose_metric(data.labels, options.metric, data.columns)
        base = load_base(options.base, revision=options.revision, device=device)
        spec = data.spec(options)
        if options.kind == "embedding":  # learned from pairs, and asked of one text
            spec = replace(spec, pair=False, pooling=_pooling(options))
        blocks = fit_to_base(options, base)
        codec = task_codec(spec, base.tokenizer)
        encoded = EncodedData.of(data, codec, options)
        if spec.pooling is None:
            baseline = kind.baseline(data.labels, [item.target for item in encoded.dev], metric)
        else:
            rows = options.batch_size
            metrics = evaluate(TaskModel(base, spec, base.encoder, 0), codec, encoded.dev, max_rows=rows)
            baseline = Baseline(metrics[metric], BASE_ALONE)
    if note := drops_of(base, options.base):
        logger.warning(f"warning: {note}")
    _log_examples(data.train, encoded.train)
    _log_examples(data.dev, encoded.dev)
    for note in data.notes:
        logger.info(note)
    logger.info(f"baseline: {baseline.how} has dev {metric} {baseline.value:.4f}")
    for warning in data.warnings:
        logger.warning(f"warning: {warning}")
    labels = f"{len(data.labels)} labels, " if data.labels else ""
    shared = f", {distributed.count()} processes" if distributed.count() > 1 else ""
    where = f"base {base.info.name}, blocks {_span(blocks)}, on {device}{shared}"
    logger.info(f"learning {options.task}: {labels}{where}")
    if base.blocks.known is None or base.blocks.passes > 1:
        logger.info(f"{base.info.architecture}: {base.blocks.describe()}")
    return Preparation(options, data, encoded, base, spec, codec, blocks, metric, baseline)


def _pooling(options: LearnOptions) -> Pooling:
    """Choose what an embedding is made of: as asked, or as the base's files say, else the mean."""
    if options.pooling:
        return options.pooling
    with suppress(MaskingError):
        found = read_sentence_encoder(options.base, options.revision)
        return "mean" if found is None else found.pooling
    return "mean"


def drops_of(base: Base, name: str) -> str:
    """Say what is not used of a base that is a finetuned classifier; nothing where it is none.

    Args:
        base: The base.
        name: Its hub id or folder.
    """
    names = getattr(base.encoder.config, "architectures", None) or ()
    finetuned = next((name for name in names if name.endswith(_FINETUNED)), None)
    if finetuned is None:
        return ""
    return (
        f"base {name} is a finetuned {finetuned}: its classifier is dropped, and its encoder taken as it is; "
        f"to make a task of it instead: maskserve import --model {name} --base WHAT_IT_WAS_MADE_FROM"
    )


def check_launch(options: LearnOptions) -> None:
    """Make sure that the options fit what is installed and how many processes were started.

    Raises:
        OptionsError: A batch can't be shared out evenly, or a tracker is asked for and not installed.
    """
    problems = []
    if options.batch_size % distributed.count():
        problems.append(
            f"--batch-size {options.batch_size}: {distributed.count()} processes can't share it out evenly"
        )
    problems += check_trackers(options)
    if problems:
        raise OptionsError(problems)


def choose_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda``; of several processes each has the GPU of its number, as ``cuda:1``.

    Raises:
        OptionsError: A GPU is asked for and there is none, or there are more processes than GPUs.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise OptionsError(["--device cuda: there is no CUDA device here; use --device cpu or auto"])
    if wanted == "cpu" or not there:
        return "cpu"
    if distributed.count() == 1:
        return "cuda"
    gpus = torch.cuda.device_count()
    if distributed.local_count() > gpus:
        raise OptionsError([f"there are more processes than the {gpus} CUDA devices of this machine"])
    return f"cuda:{distributed.local_rank()}"


def fit_to_base(options: LearnOptions, base: Base) -> tuple[int, ...]:
    """Hold the options against a base, and return the blocks to mask.

    Raises:
        OptionsError: They don't fit: blocks that the base lacks, or inputs longer than it takes.
    """
    problems = []
    blocks: tuple[int, ...] = ()
    if options.max_length > base.max_positions:
        problems.append(
            f"--max-length {options.max_length}: base {base.info.name} takes {base.max_positions} at most"
        )
    try:
        blocks = options.masked_blocks(base.num_blocks)
    except BlockOutOfRangeError as error:
        problems.append(f"--blocks {options.blocks}: base {base.info.name}: {error}")
    if problems:
        raise OptionsError(problems)
    return blocks


def _log_examples(examples: ExampleSet, encoded: Sequence[EncodedExample]) -> None:
    report = SetReport.of(examples, encoded)
    cut = f", {report.truncated} longer than --max-length and cut" if report.truncated else ""
    logger.info(f"{report.source}: {report.used} examples{cut}")
    if report.unusable:
        logger.info(f"{report.source}: {len(report.unusable)} rows can't be used and are left out:")
        for line in describe_unusable(report.unusable, examples.unit):
            logger.info(f"  {line}")
    for line in describe_unusable(examples.remarks, examples.unit):
        logger.info(f"{report.source}: {line}")


def _span(blocks: tuple[int, ...]) -> str:
    whole = blocks == tuple(range(blocks[0], blocks[-1] + 1)) and len(blocks) > 1
    return f"{blocks[0]}-{blocks[-1]}" if whole else ",".join(map(str, blocks))
