"""Codec of a task, kind of task as a model sees it, and the tokenising that codecs share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from mask_store import TaskKind
from masking.base import Tokenizer
from masking.errors import InputTooLongError
from masking.tasks.features import Features, Row
from masking.tasks.inputs import TaskInput
from masking.tasks.predictions import Floats, Prediction
from masking.tasks.spec import TaskSpec

# A fast tokenizer keeps its truncation as state; calls with different truncation must not overlap.
_tokenizing = Lock()


class TaskCodec(Protocol):
    """Turns a task's inputs into features and its logits into predictions."""

    spec: TaskSpec

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

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Merge the logits of an input's rows.

        Args:
            features: The input.
            row_logits: Per row float32 [labels], [1] (multiple choice) or [tokens, labels].

        Returns:
            float32 [labels], [choices] or [words, labels].
        """

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
        sample: Makes a short input that a task of this kind takes, such as to warm up with.
    """

    name: TaskKind
    codec: Callable[[TaskSpec, Tokenizer], TaskCodec]
    pooled: bool
    labelled: bool
    sample: Callable[[TaskSpec], TaskInput]

    def outputs(self, labels: Sequence[str]) -> int:
        """Return the number of logits for these labels, which is the number of rows of the classifier W_T."""
        return len(labels) if self.labelled else 1


def tokenize(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    special_tokens: bool = True,
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Tokenise texts or pairs of texts.

    Args:
        tokenizer: The base's tokenizer.
        texts: The texts.
        pairs: Second text of each; None for single texts.
        max_length: Tokens that each is cut to, the longer part of a pair first; None to cut nothing.
        special_tokens: Whether to add [CLS] and [SEP].

    Returns:
        Token ids and segment ids of each; no segment ids where the encoder takes none.
    """
    if not texts:
        return []
    with _tokenizing:
        encoded = tokenizer(
            list(texts),
            list(pairs) if pairs is not None else None,
            truncation="longest_first" if max_length else False,
            max_length=max_length,
            padding=False,
            add_special_tokens=special_tokens,
            return_attention_mask=False,
            verbose=False,
        )
    segments = encoded.get("token_type_ids") or [()] * len(texts)
    return list(zip(encoded["input_ids"], segments, strict=True))


def tokenize_within(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    limit: int,
    truncate: bool,
    owners: Sequence[int],
) -> tuple[list[Row], list[bool]]:
    """Tokenise texts of which each may have `limit` tokens.

    Args:
        tokenizer: The base's tokenizer.
        texts: The texts.
        pairs: Second text of each, or None.
        limit: Tokens at most, special tokens included.
        truncate: Cut what is too long instead of refusing it.
        owners: Index of the input that each text belongs to, for the error.

    Returns:
        The rows, and for each whether it was cut.

    Raises:
        InputTooLongError: A text is too long and `truncate` is off.
    """
    encoded = tokenize(tokenizer, texts, pairs)
    long = [i for i, (ids, _) in enumerate(encoded) if len(ids) > limit]
    if long and not truncate:
        raise InputTooLongError(len(encoded[long[0]][0]), limit, index=owners[long[0]])
    cut = tokenize(
        tokenizer, [texts[i] for i in long], [pairs[i] for i in long] if pairs else None, max_length=limit
    )
    for i, shorter in zip(long, cut, strict=True):
        encoded[i] = shorter
    was_cut = set(long)
    return [Row.of(*one) for one in encoded], [i in was_cut for i in range(len(encoded))]
