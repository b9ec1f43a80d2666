"""The interface of a task's codec, and the tokenising that the codecs of texts share."""

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

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
        """Tokenises inputs.

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
        """Logits of one input from the logits of its rows.

        Args:
            features: The input.
            row_logits: Per row float32 [labels], [1] (multiple choice) or [tokens, labels].

        Returns:
            float32 [labels], [choices] or [words, labels].
        """

    def decode(self, logits: Floats) -> Prediction:
        """The prediction for one input's logits, as `gather` returns them."""


def tokenize(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    special_tokens: bool = True,
) -> list[Row]:
    """Tokens of texts or of pairs of texts, cut to `max_length` (the longest part first) if given."""
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
    types = encoded.get("token_type_ids") or [()] * len(texts)
    return [Row(tuple(ids), tuple(kinds)) for ids, kinds in zip(encoded["input_ids"], types, strict=True)]


def tokenize_within(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    limit: int,
    truncate: bool,
    owners: Sequence[int],
) -> tuple[list[Row], list[bool]]:
    """Tokenises texts of which each may have `limit` tokens.

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
    rows = tokenize(tokenizer, texts, pairs)
    long = [i for i, row in enumerate(rows) if len(row.input_ids) > limit]
    if long and not truncate:
        raise InputTooLongError(len(rows[long[0]].input_ids), limit, index=owners[long[0]])
    cut = tokenize(
        tokenizer, [texts[i] for i in long], [pairs[i] for i in long] if pairs else None, max_length=limit
    )
    for i, row in zip(long, cut, strict=True):
        rows[i] = row
    was_cut = set(long)
    return rows, [i in was_cut for i in range(len(rows))]
