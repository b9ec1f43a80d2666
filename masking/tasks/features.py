"""Features of an input: rows of token ids, and how rows become one padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masking.base import Tokenizer

TokenIds = NDArray[np.int32]

_NO_IDS: TokenIds = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One sequence of tokens, special tokens included, not padded.

    Attributes:
        input_ids: Token ids, int32 [tokens].
        token_type_ids: Segment ids, int32 [tokens]; empty where the encoder takes none.
    """

    input_ids: TokenIds
    token_type_ids: TokenIds

    @classmethod
    def of(cls, input_ids: Sequence[int], token_type_ids: Sequence[int] = ()) -> Self:
        """Make a row of token ids and segment ids."""
        return cls(
            np.array(input_ids, np.int32), np.array(token_type_ids, np.int32) if token_type_ids else _NO_IDS
        )

    def __eq__(self, other: object) -> bool:
        """Tell whether the other is a row of the same ids."""
        return (
            isinstance(other, Row)
            and np.array_equal(self.input_ids, other.input_ids)
            and np.array_equal(self.token_type_ids, other.token_type_ids)
        )

    def __hash__(self) -> int:
        """Hash the ids."""
        return hash((self.input_ids.tobytes(), self.token_type_ids.tobytes()))


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
        """Number of tokens to compute, without padding."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest row."""
        return max(len(row.input_ids) for row in self.rows)


def collate(rows: Sequence[Row], tokenizer: Tokenizer, device: torch.device) -> dict[str, Tensor]:
    """Pad rows on the right to the longest one.

    Unlike `DataCollatorWithPadding`, for which each row would be a dictionary of lists, this takes arrays.

    Args:
        rows: At least one row.
        tokenizer: Gives the padding ids.
        device: Where the tensors are to be.

    Returns:
        The encoder's keyword arguments, each int64 [rows, longest]: input_ids, attention_mask, and
        token_type_ids where the rows have them.
    """
    lengths = np.array([len(row.input_ids) for row in rows])
    longest = int(lengths.max())

    def padded(arrays: Sequence[TokenIds], filler: int) -> Tensor:
        full = np.full((len(arrays), longest), filler, np.int64)
        for line, ids in zip(full, arrays, strict=True):
            line[: len(ids)] = ids
        return torch.from_numpy(full).to(device)

    real = np.arange(longest) < lengths[:, None]
    batch = {
        "input_ids": padded([row.input_ids for row in rows], int(tokenizer.pad_token_id or 0)),
        "attention_mask": torch.from_numpy(real.astype(np.int64)).to(device),
    }
    if rows[0].token_type_ids.size:
        batch["token_type_ids"] = padded(
            [row.token_type_ids for row in rows], int(tokenizer.pad_token_type_id)
        )
    return batch
