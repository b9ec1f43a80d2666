"""Token rows, and how they become one padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from masking.base import Tokenizer


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of tokens, special tokens included, not padded.

    Attributes:
        input_ids: Token ids.
        token_type_ids: Segment ids, as long as `input_ids`; empty where the encoder takes none.
    """

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Features:
    """One input as rows of tokens: one row, one per choice, or one per window of a long input.

    Attributes:
        rows: The rows, at least one.
        positions: Token classification only: for each word (row, token) of its last wordpiece.
        truncated: Tokens of the input were cut off.
    """

    rows: tuple[Row, ...]
    positions: tuple[tuple[int, int], ...] = ()
    truncated: bool = False

    @property
    def tokens(self) -> int:
        """Tokens to compute, without padding."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.input_ids) for row in self.rows)


def collate(rows: Sequence[Row], tokenizer: Tokenizer, device: torch.device) -> dict[str, Tensor]:
    """Pads rows on the right to the longest one.

    Args:
        rows: At least one row.
        tokenizer: Gives the padding ids.
        device: Where the tensors are to be.

    Returns:
        The encoder's keyword arguments, each int64 [rows, longest]: input_ids, attention_mask, and
        token_type_ids where the rows have them.
    """
    longest = max(len(row.input_ids) for row in rows)

    def padded(lists: Sequence[Sequence[int]], filler: int) -> Tensor:
        full = [[*ids, *[filler] * (longest - len(ids))] for ids in lists]
        return torch.tensor(full, dtype=torch.int64).to(device)

    batch = {
        "input_ids": padded([row.input_ids for row in rows], int(tokenizer.pad_token_id or 0)),
        "attention_mask": padded([[1] * len(row.input_ids) for row in rows], 0),
    }
    if rows[0].token_type_ids:
        batch["token_type_ids"] = padded(
            [row.token_type_ids for row in rows], int(tokenizer.pad_token_type_id)
        )
    return batch
