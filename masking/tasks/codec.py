"""Codec of a task, and kind of task as a model sees it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from mask_store import TaskKind
from masking.base import Tokenizer
from masking.tasks.features import Features
from masking.tasks.inputs import TaskInput
from masking.tasks.predictions import Floats, Prediction
from masking.tasks.spec import TaskSpec
from masking.tasks.tokenizing import Steps, finish


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
