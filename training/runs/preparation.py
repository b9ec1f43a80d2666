"""What comes before learning: the data read and encoded, the base loaded, the options held against both.

`prepare` does all of it, once; what it returns is what `learn` and `finetune` learn from, and can be
varied in rate and seed without reading anything again. Nothing here learns, or looks at a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.integrations.integration_utils import is_tensorboard_available

from masking import Base, BlockOutOfRangeError, TaskCodec, TaskSpec, load_base, task_codec
from training import distributed as processes
from training.cli.messages import Say, heard
from training.data.examples import ExampleSet, describe_unusable
from training.data.features import EncodedExample
from training.data.task_data import EncodedData, TaskData, load_data
from training.errors import OptionsError
from training.kinds.metrics import choose_metric
from training.options import LearnOptions, LoopOptions, Method, Metric
from training.runs.report import SetReport


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
        blocks: blocks to mask, ascending.
        metric: dev metric that chooses the best epoch.
    """

    options: LearnOptions
    data: TaskData
    encoded: EncodedData
    base: Base
    spec: TaskSpec
    codec: TaskCodec
    blocks: tuple[int, ...]
    metric: Metric

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
            "data": self.data.digest,
            "processes": processes.count(),
        }

    def identity_for(self, method: Method) -> dict[str, object]:
        """Settings and digests that decide what a method comes to."""
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


def prepare(options: LearnOptions, say: Say | None = None) -> Preparation:
    """Do all that comes before learning: read the data, load the base, encode.

    Args:
        options: see `LearnOptions`; the store is not looked at.
        say: called with a line of text for what a user should know on the way; None for nobody.

    Raises:
        TrainingError, MaskingError: as in `training.runs.learn.learn`.
    """
    say = heard(say)
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
        blocks = fit_to_base(options, base)
        codec = task_codec(spec, base.tokenizer)
        encoded = EncodedData.of(data, codec)
    for examples, features in ((data.train, encoded.train), (data.dev, encoded.dev)):
        _say_data(say, examples, features)
    labels = f"{len(data.labels)} labels, " if data.labels else ""
    shared = f", {processes.count()} processes" if processes.count() > 1 else ""
    say(
        f"learning {options.task}: {labels}base {base.info.name}, blocks {_span(blocks)}, on {device}{shared}"
    )
    return Preparation(options, data, encoded, base, spec, codec, blocks, metric)


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


def fit_to_base(options: LearnOptions, base: Base) -> tuple[int, ...]:
    """Hold the options against a base, and return the blocks to mask.

    Raises:
        OptionsError: the options don't fit the base: blocks it lacks, or inputs longer than it takes.
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


def _say_data(say: Say, examples: ExampleSet, encoded: Sequence[EncodedExample]) -> None:
    report = SetReport.of(examples, encoded)
    cut = f", {report.truncated} longer than --max-length and cut" if report.truncated else ""
    say(f"{report.source}: {report.used} examples{cut}")
    if report.unusable:
        say(f"{report.source}: {len(report.unusable)} rows can't be used and are left out:")
        for line in describe_unusable(report.unusable, examples.unit):
            say(f"  {line}")


def _span(blocks: tuple[int, ...]) -> str:
    whole = blocks == tuple(range(blocks[0], blocks[-1] + 1)) and len(blocks) > 1
    return f"{blocks[0]}-{blocks[-1]}" if whole else ",".join(map(str, blocks))
