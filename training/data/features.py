"""Features of examples, encoded by the task's own codec, and padded batches of them with their targets.

The tokens are those that serving would make of the same input: both come from `masking.tasks`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from mask_store import TaskKind
from masking import Features, TaskCodec, TaskInput, TaskInputError, Tokenizer, collate
from masking.tasks import WordsCodec
from training.data.examples import Example, ExampleSet
from training.distributed import share
from training.errors import DataError
from training.kinds import IGNORED, TRAINING_KINDS, Target, TargetNumbers
from training.options import LongSentences

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class EncodedExample:
    """One example, ready for the model.

    Attributes:
        example: What it was made of.
        features: Its rows of tokens.
        target: The right answer as numbers; see `TrainingKind.numbers`.
        soft: Probabilities that are learned in its place, if any; see `TrainingKind.soft_targets`.
    """

    example: Example
    features: Features
    target: TargetNumbers
    soft: Tensor | None = None


def encode_examples(
    examples: ExampleSet, codec: TaskCodec, *, long_sentences: LongSentences | None = None
) -> list[EncodedExample]:
    """Tokenise examples; inputs that are too long are cut (words: split into windows).

    Args:
        examples: Usable rows, whose labels the task knows.
        codec: The task's codec.
        long_sentences: Where lists of words are cut, words beyond the cut have no target, and an example of
            none but such words is left out.

    Raises:
        DataError: The codec refuses an input; names its line.
    """
    inputs = [example.input for example in examples.examples]
    try:
        features = _features(inputs, codec, long_sentences)
    except TaskInputError as error:
        line = examples.examples[error.index].line
        raise DataError(f"{examples.source}:{line}: {error.message}") from error
    index = {label: number for number, label in enumerate(codec.spec.labels)}
    kind = TRAINING_KINDS[codec.spec.kind]
    encoded = [
        EncodedExample(example, own, kind.numbers(_kept(example.target, own, codec), index))
        for example, own in zip(examples.examples, features, strict=True)
    ]
    return [item for item in encoded if item.target]


def _features(
    inputs: Sequence[TaskInput], codec: TaskCodec, long_sentences: LongSentences | None
) -> list[Features]:
    if long_sentences == "cut" and isinstance(codec, WordsCodec):
        return codec.encode_cut(inputs)
    return codec.encode(inputs, truncate=True)


@dataclass(frozen=True)
class Batch:
    """Examples as one padded batch; this process's share of it, where several processes learn together.

    Attributes:
        inputs: The encoder's keyword arguments, int64 [rows, tokens] each.
        targets: See `TrainingKind.targets` and `soft_targets`; `IGNORED`, NaN or 0 where nothing is to be
            predicted.
        counts: Rows of each example.
        total: Number of targets of all examples, whichever process has them.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    counts: Sequence[int]
    total: int

    def to(self, device: torch.device) -> Self:
        """Return the same batch on a device; copies to a GPU do not wait for what it computes."""
        if device.type == "cpu":
            return self
        inputs = {name: _sent(tensor, device) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets=_sent(self.targets, device))


def make_batch(examples: Sequence[EncodedExample], kind: TaskKind, tokenizer: Tokenizer) -> Batch:
    """Pad examples to one batch.

    Args:
        examples: At least one.
        kind: Kind of task.
        tokenizer: The base's tokenizer, for padding.

    Returns:
        The batch, on the CPU.
    """
    own = share(examples) or examples[:1]
    inputs = collate([row for item in own for row in item.features.rows], tokenizer, _CPU)
    targets = _targets(own, kind, inputs["input_ids"].shape)
    if not share(examples):  # fewer examples than processes: this one computes one and learns nothing from it
        targets.fill_(math.nan if targets.is_floating_point() else IGNORED)
    total = sum(TRAINING_KINDS[kind].count(item.target) for item in examples)
    return Batch(inputs, targets, [len(item.features.rows) for item in own], total)


def _targets(examples: Sequence[EncodedExample], kind: TaskKind, shape: torch.Size) -> Tensor:
    """Lay out what is learned of a batch: probabilities where the examples have them, else right answers."""
    soft = [(item.features, item.soft) for item in examples if item.soft is not None]
    if soft:
        return TRAINING_KINDS[kind].soft_targets(soft, shape)
    return TRAINING_KINDS[kind].targets([(item.features, item.target) for item in examples], shape)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def _kept(target: Target, features: Features, codec: TaskCodec) -> Target:
    """Leave out the tags of words that were cut."""
    if isinstance(codec, WordsCodec) and isinstance(target, tuple):
        return target[: len(features.positions)]
    return target
