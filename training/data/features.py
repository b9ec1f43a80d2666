"""Examples to model inputs: encoded by the task's own codec, collated into padded batches with their targets.

The tokens are those that serving would make of the same input: both come from `masking.tasks`. Token
classification puts a word's label on its last wordpiece and nothing on the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mask_store import TaskKind
from masking import Features, TaskCodec, TaskInputError, Tokenizer, collate
from training.data.examples import Example, ExampleSet, Target
from training.distributed import share
from training.errors import DataError

IGNORED = -100
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class EncodedExample:
    """One example, ready for the model.

    Attributes:
        example: what it was made of.
        features: its rows of tokens.
        target: index of the right label or choice (one number), or of the right label of each word.
    """

    example: Example
    features: Features
    target: tuple[int, ...]


def encode_examples(examples: ExampleSet, codec: TaskCodec) -> list[EncodedExample]:
    """Tokenise examples; inputs that are too long are cut (words: split into windows).

    Args:
        examples: usable rows, whose labels the task knows.
        codec: the task's codec.

    Raises:
        DataError: the codec refuses an input; names its line.
    """
    inputs = [example.input for example in examples.examples]
    try:
        features = codec.encode(inputs, truncate=True)
    except TaskInputError as error:
        line = examples.examples[error.index].line
        raise DataError(f"{examples.source}:{line}: {error.message}") from error
    index = {label: number for number, label in enumerate(codec.spec.labels)}
    return [
        EncodedExample(example, encoded, _indices(example.target, index))
        for example, encoded in zip(examples.examples, features, strict=True)
    ]


class Collator:
    """Makes a padded batch of examples; plugs into a DataLoader."""

    def __init__(self, kind: TaskKind, tokenizer: Tokenizer) -> None:
        """Keep what padding needs.

        Args:
            kind: kind of task.
            tokenizer: the base's tokenizer.
        """
        self._kind = kind
        self._tokenizer = tokenizer

    def __call__(self, items: Sequence[EncodedExample]) -> dict[str, Any]:
        """Collate examples.

        Args:
            items: at least one example.

        Returns:
            On the CPU: ``inputs``, the encoder's keyword arguments, int64 [rows, tokens] each; ``targets``,
            int64 [examples], or for token classification [rows, tokens] with `IGNORED` off the last
            wordpieces; ``counts``, a list with the rows of each example; all of these for this process's
            share of the examples alone; ``total``, the number of targets of all examples.
        """
        own = share(items) or items[:1]
        rows = [row for item in own for row in item.features.rows]
        inputs = collate(rows, self._tokenizer, _CPU)
        if self._kind == "token-classification":
            targets = _word_targets(own, inputs["input_ids"].shape)
        else:
            targets = torch.tensor([item.target[0] for item in own])
        if not share(items):  # fewer examples than processes: this one goes along and teaches nothing
            targets.fill_(IGNORED)
        counts = [len(item.features.rows) for item in own]
        total = sum(len(item.target) for item in items)
        return dict(inputs=inputs, targets=targets, counts=counts, total=total)


def _indices(target: Target, index: dict[str, int]) -> tuple[int, ...]:
    if isinstance(target, int):
        return (target,)
    labels = (target,) if isinstance(target, str) else target
    return tuple(index[label] for label in labels)


def _word_targets(items: Sequence[EncodedExample], shape: torch.Size) -> Tensor:
    """Label indices at each word's last wordpiece, int64 [rows, tokens]; `IGNORED` everywhere else."""
    targets = torch.full(shape, IGNORED)
    first_row = 0
    for item in items:
        for (row, token), label in zip(item.features.positions, item.target, strict=True):
            targets[first_row + row, token] = label
        first_row += len(item.features.rows)
    return targets
