"""Text that a finetuned copy and the task made of it are compared on: rows of files, labelled or not."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from mask_store import WITHOUT_CLASSES, TaskKind
from masking import Base, Features, TaskCodec, TaskInput, TaskInputError, TextInput
from masking.checkpoints import FinetunedCopy
from masking.inference.samples import SAMPLE_TOKENS, sample_rows
from masking.tasks.predictions import Floats, normalise
from training.data.columns import choose_columns
from training.data.examples import judge, read_examples, settle
from training.data.rows import Row, RowSet, data_digest
from training.data.sources import read_files
from training.errors import DataError, LabelError
from training.kinds import TRAINING_KINDS, Target, TargetNumbers, labels_of
from training.loop.evaluation import batch_logits, in_batches
from training.options import Role

_ANSWERS: Mapping[TaskKind, Role] = {"token-classification": "tags"}
_JUDGED: tuple[TaskKind, ...] = ("multiple-choice", "multi-label-classification", "reranking")
_MAX_ROWS = 32


@dataclass(frozen=True)
class CopiedText:
    """Inputs of a task.

    Attributes:
        source: Where they come from, for people.
        inputs: The inputs.
        targets: The right answer of each; None where the rows have none.
        pair: Whether inputs are pairs of texts.
        digest: ``sha256:<hex>`` over the rows.
    """

    source: str
    inputs: tuple[TaskInput, ...]
    targets: tuple[Target, ...] | None
    pair: bool
    digest: str

    def split(self, share: float) -> tuple["CopiedText", "CopiedText"]:
        """Keep a share of the inputs, drawn by chance, the same way each time; equal inputs stay together.

        Returns:
            The rest, and what is kept.

        Raises:
            DataError: There are too few.
        """
        different = list(dict.fromkeys(self.inputs))
        kept = set(random.Random(0).sample(different, round(share * len(different))))
        if not kept:
            raise DataError(f"{self.source}: {len(different)} inputs are too few to keep {share:.0%} of them")
        rest = self._only(self.source, [one not in kept for one in self.inputs])
        return rest, self._only(f"{self.source} ({share:.0%} of it)", [one in kept for one in self.inputs])

    def of_single_texts(self) -> "CopiedText":
        """Return the texts of pairs as inputs of their own, each once, without answers."""
        pairs = ((given.text, given.pair) for given in self.inputs if isinstance(given, TextInput))
        texts = dict.fromkeys(text for pair in pairs for text in pair if text is not None)
        return replace(self, inputs=tuple(map(TextInput, texts)), targets=None, pair=False)

    def _only(self, source: str, wanted: Sequence[bool]) -> "CopiedText":
        inputs = tuple(compress(self.inputs, wanted))
        targets = None if self.targets is None else tuple(compress(self.targets, wanted))
        return replace(self, source=source, inputs=inputs, targets=targets)


def read_copied_text(paths: Sequence[str], kind: TaskKind) -> CopiedText:
    """Read inputs of a kind of task, and their answers where the rows have a column of them.

    Args:
        paths: Files as for learning, read as one.
        kind: Kind of task.

    Raises:
        DataError: They can't be read, or hold no such inputs.
    """
    rows = read_files(paths)
    digest = data_digest(rows)
    answer = _ANSWERS.get(kind, "label")
    there = {name.casefold() for name in rows.columns}
    labelled = any(name in there for name in TRAINING_KINDS[kind].columns[answer])
    if not labelled:
        rows = _with_answers(rows, kind, answer)
    columns = choose_columns(kind, {}, [rows])
    examples = read_examples(rows, kind, columns)
    if labelled and kind in _JUDGED:
        examples = settle(examples, judge(kind, [examples], None))
    inputs = tuple(example.input for example in examples.examples)
    targets = tuple(example.target for example in examples.examples) if labelled else None
    return CopiedText(rows.source, inputs, targets, "pair" in columns, digest)


def _with_answers(rows: RowSet, kind: TaskKind, answer: Role) -> RowSet:
    """Give rows without answers some, so that they can be read as those that have them."""
    names = TRAINING_KINDS[kind].columns

    def answered(values: Mapping[str, object]) -> Mapping[str, object]:
        words = next((values[name] for name in names.get("tokens", ()) if name in values), ())
        tags = ["-"] * len(words) if isinstance(words, list | tuple) else []
        return {**values, names[answer][0]: tags if answer == "tags" else 0}

    return RowSet(rows.source, rows.unit, tuple(Row(line, answered(values)) for line, values in rows.rows))


def encode(text: CopiedText, codec: TaskCodec) -> list[Features]:
    """Tokenise inputs; those that are too long are cut.

    Raises:
        DataError: The task can't take an input.
    """
    try:
        return codec.encode(text.inputs, truncate=True)
    except TaskInputError as error:
        raise DataError(f"{text.source}: input {error.index + 1}: {error.message}") from error


def target_numbers(text: CopiedText, kind: TaskKind, labels: Sequence[str]) -> list[TargetNumbers]:
    """Return the targets as numbers; labels that are whole numbers may be the indices of the copy's.

    Raises:
        LabelError: A label is none of the copy's.
    """
    assert text.targets is not None
    numbers = TRAINING_KINDS[kind].numbers
    index = {label: number for number, label in enumerate(labels)}
    if not TRAINING_KINDS[kind].has_classes:
        return [numbers(target, index) for target in text.targets]
    known = {str(number): label for label, number in index.items()} | {label: label for label in labels}
    if odd := {one for target in text.targets for one in labels_of(target)} - known.keys():
        raise LabelError(f"{text.source}: label {min(odd)!r} is none of the model's: {', '.join(labels)}")
    return [numbers(tuple(known[label] for label in labels_of(target)), index) for target in text.targets]


def generated(base: Base, codec: TaskCodec) -> list[Features]:
    """Return rows of tokens drawn from the vocabulary, always the same, as inputs without answers."""
    words = codec.spec.kind == "token-classification"
    return [
        Features((row,), tuple((0, token) for token in range(1, len(row.input_ids) - 1)) if words else ())
        for row in sample_rows(base, (SAMPLE_TOKENS,) * 64)
    ]


def copy_logits(
    copied: FinetunedCopy, base: Base, codec: TaskCodec, features: Sequence[Features]
) -> list[Floats]:
    """Compute the logits of a finetuned copy, float32 for each input."""

    def compute(batch: Sequence[Features]) -> list[Floats]:
        device = copied.model.device
        return batch_logits(copied.logits, codec, batch, tokenizer=base.tokenizer, device=device)

    return in_batches(features, _MAX_ROWS, compute)


@dataclass(frozen=True)
class Agreement:
    """How alike two models answer.

    Attributes:
        answers: Answers compared: of each input, word or label, or values.
        equal: Of them, those that are the same; None for values and embeddings.
        largest: Largest difference of a probability, or of a value; of embeddings 1 less the smallest cosine.
        divergence: Mean divergence of the second's probabilities from the first's, in nats; of values the
            mean squared difference, of embeddings 1 less the mean cosine.
        embeddings: Whether answers are embeddings.
    """

    answers: int
    equal: int | None
    largest: float
    divergence: float
    embeddings: bool = False

    def __str__(self) -> str:
        """Say it in a line."""
        if self.embeddings:
            mean, smallest = 1 - self.divergence, 1 - self.largest
            return f"cosine of {self.answers} embeddings {mean:.4f}, {smallest:.4f} at the least"
        if self.equal is None:
            return f"largest difference of {self.answers} values {self.largest:.3f}"
        share = f"{self.equal} of {self.answers} labels ({self.equal / self.answers:.2%})"
        return f"{share}, largest difference of probability {self.largest:.3f}"

    @classmethod
    def of(cls, kind: TaskKind, wanted: Sequence[Floats], found: Sequence[Floats]) -> "Agreement":
        """Compare the logits of the same inputs of a kind of task."""
        if kind == "embedding":
            both = [np.vstack([np.atleast_2d(one) for one in some]) for some in (wanted, found)]
            apart = 1 - np.sum(normalise(both[0]) * normalise(both[1]), axis=1)
            return cls(apart.size, None, float(apart.max()), float(apart.mean()), embeddings=True)
        if kind == "regression":
            apart = np.concatenate([a - b for a, b in zip(wanted, found, strict=True)])
            return cls(apart.size, None, float(np.abs(apart).max()), float(np.square(apart).mean()))
        if kind in WITHOUT_CLASSES:  # a sigmoid of each logit: softmax over it and 0
            wanted, found = (
                [np.stack([one, np.zeros_like(one)], -1) for one in some] for some in (wanted, found)
            )
        pairs = [(_log_softmax(a), _log_softmax(b)) for a, b in zip(wanted, found, strict=True)]
        equal = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
        answers = sum(a[..., 0].size for a, _ in pairs)
        largest = max(float(np.abs(np.exp(a) - np.exp(b)).max()) for a, b in pairs)
        divergence = sum(float((np.exp(a) * (a - b)).sum()) for a, b in pairs)
        return cls(answers, equal, largest, divergence / answers)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
