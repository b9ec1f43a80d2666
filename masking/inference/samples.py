"""Sample rows of a base: tokens drawn from its vocabulary, to measure on what it computes of any text."""

from collections.abc import Sequence

import torch

from masking.base import Base
from masking.tasks import Row

SAMPLE_TOKENS = 32


def sample_rows(base: Base, lengths: Sequence[int] = (SAMPLE_TOKENS,) * 4) -> list[Row]:
    """Draw rows of tokens, always the same.

    Args:
        base: The base.
        lengths: Tokens of each row, special tokens included; the base's longest row where that is less.
    """
    tokenizer = base.tokenizer
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    ends = [[one] for one in (tokenizer.cls_token_id, tokenizer.sep_token_id) if one is not None]
    first, last = ends[0], [token for end in ends[1:] for token in end]
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths:
        count = min(length, base.max_positions) - len(ends)
        drawn = torch.randint(len(words), (count,), generator=generator).tolist()
        rows.append(Row.of([*first, *(words[place] for place in drawn), *last]))
    return rows
