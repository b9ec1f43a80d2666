"""Task spec, codec of a task, and kind of task as a model sees it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Self

from mask_store import Manifest, Pooling, SignManifest, TaskKind, WordPiece
from masking.base import Tokenizer
from masking.tasks.features import Features
from masking.tasks.inputs import TaskInput
from masking.tasks.predictions import Floats, Prediction
from masking.tasks.tokenizing import RowTokenizer, Steps, finish


@dataclass(frozen=True)
class TaskSpec:
    """What has to be known of a task before its first input can be encoded: kind, labels and input size.

    Attributes:
        kind: One of the kinds of task.
        labels: Class names by index; empty for multiple choice, whose classes are the choices, and for
            embeddings.
        max_length: Tokens of one row at most, special tokens included.
        pair: Whether the inputs are pairs of texts.
        word_piece: At which wordpiece of a word its label is read, in token classification.
        thresholds: Of a multi-label classification, the score from which on each label is given; empty
            where that is 0.5 for all.
        pooling: What an embedding is made of; None for other kinds.
        width: Numbers of an embedding; 0 where the base is not known.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    _: KW_ONLY
    max_length: int
    pair: bool = False
    word_piece: WordPiece = "last"
    thresholds: tuple[float, ...] = ()
    pooling: Pooling | None = None
    width: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the spec of a learned task."""
        piece = (manifest.word_piece if isinstance(manifest, SignManifest) else None) or "last"
        return cls(
            manifest.kind,
            manifest.labels,
            max_length=manifest.max_length,
            pair=manifest.pair,
            word_piece=piece,
            thresholds=manifest.thresholds or (),
            pooling=manifest.pooling,
        )


@dataclass(frozen=True)
class InputLimits:
    """How large one input may become.

    Attributes:
        rows: Most rows.
        tokens: Most tokens of all its rows.
    """

    rows: float = math.inf
    tokens: float = math.inf


NO_LIMITS = InputLimits()


class TaskCodec(ABC):
    """Turns a task's inputs into features and its logits into predictions."""

    spec: TaskSpec

    @property
    @abstractmethod
    def shortest_row(self) -> int:
        """Tokens of a row with one token of each text, special tokens included."""

    @property
    def encoding(self) -> Hashable:
        """What an input's features depend on: codecs of one base with an equal value make equal features."""
        spec = self.spec
        return type(self).encode_steps, spec.max_length, spec.pair, spec.word_piece

    @abstractmethod
    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits = NO_LIMITS
    ) -> Steps[list[Features]]:
        """Tokenise inputs in steps of a few milliseconds; see `encode`.

        Args:
            inputs: Inputs of the kind that the task takes.
            truncate: See `encode`.
            limits: An input that is over them is refused as soon as that is known.

        Returns:
            One `Features` per input.

        Raises:
            TaskInputError: An input is of another kind, empty, too long or too large; it carries the index.
        """

    def encode(self, inputs: Sequence[TaskInput], *, truncate: bool) -> list[Features]:
        """Tokenise inputs.

        Args:
            inputs: Inputs of the kind that the task takes.
            truncate: Cut inputs that are too long; otherwise they are refused. Token classification
                never cuts: long inputs become overlapping windows.

        Returns:
            One `Features` per input.

        Raises:
            TaskInputError: An input is of another kind, empty, or too long; it carries the index.
        """
        return finish(self.encode_steps(inputs, truncate=truncate))

    @abstractmethod
    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Merge the logits of an input's rows.

        Args:
            features: The input.
            row_logits: Per row float32 [labels], [1] (multiple choice), [tokens, labels] or, as embeddings
                have no logits, [hidden].

        Returns:
            float32 [labels], [choices], [words, labels] or [hidden].
        """

    @abstractmethod
    def decode(self, logits: Floats) -> Prediction:
        """Return the prediction for one input's logits, as `gather` returns them."""


class RowCodec(TaskCodec):
    """Codec of a task whose rows are one text or a pair of texts each."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer, *, pair: bool | None = None) -> None:
        """Keep the task's spec and a tokenizer of its rows.

        Args:
            spec: The task.
            tokenizer: That of the base.
            pair: Whether a row is a pair of texts; None for what the spec says of inputs.
        """
        self.spec = spec
        self._tokenizer = RowTokenizer(tokenizer, spec.max_length, pair=spec.pair if pair is None else pair)

    @property
    def shortest_row(self) -> int:
        """See `TaskCodec.shortest_row`."""
        return self._tokenizer.shortest_row


@dataclass(frozen=True)
class ModelKind:
    """Kind of task, as far as the model and its head depend on it.

    Attributes:
        name: The kind.
        codec: Makes the codec of a task of this kind.
        pooled: Whether a row's logits are read at [CLS], through the pooler; otherwise at every token.
        labelled: Whether tasks of this kind have labels; otherwise a row has one logit, and the classes of
            an input are its rows.
        headless: Whether there is no head: what a row's "logits" are is its tokens' hidden states, pooled.
        sample: Makes a short input that a task of this kind takes, such as to warm up with.
    """

    name: TaskKind
    codec: Callable[[TaskSpec, Tokenizer], TaskCodec]
    pooled: bool
    labelled: bool
    sample: Callable[[TaskSpec], TaskInput]
    headless: bool = False

    def outputs(self, labels: Sequence[str]) -> int:
        """Return the number of logits for these labels: rows of the classifier W_T, where there is one."""
        return len(labels) if self.labelled else 1
