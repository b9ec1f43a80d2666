"""Sharing: rows of a batch that are equal up to a block are computed once up to there.

The hidden states of a row depend on its tokens and, from the first block that its task masks, on that task's
masks. So rows with equal tokens are one row until then, whichever tasks and requests they belong to; before
that block the row's states are repeated. A batch without equal rows is one stage, as if nothing were shared.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from masking.base import Base
from masking.inference.packing import RowBatch, attend_next, attending, can_pack
from masking.inference.segmented import SegmentedBatch, compute_next, computing
from masking.kernels.cpu.lines import catch_up
from masking.tasks import Row

EMBEDDINGS = -1
"""Number of what is computed before block 0."""


@dataclass(frozen=True)
class Stage:
    """The blocks from one on, and the rows that are computed there.

    Attributes:
        block: Number of the first block, or `EMBEDDINGS`.
        rows: Numbers of the rows in the batch, ascending: the first of those that are equal up to there.
        sources: For each of these rows its place among the rows of the stage before; empty in the first one.
    """

    block: int
    rows: tuple[int, ...]
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class StageBatch:
    """What a stage computes with.

    Attributes:
        stage: The stage.
        rows: Its rows.
        segmented: Its masks and segments.
        tokens: int64 [tokens], for each of its tokens the place of its states in the stage before; None in
            the first one.
    """

    stage: Stage
    rows: RowBatch
    segmented: SegmentedBatch
    tokens: Tensor | None = None


def can_share(base: Base) -> bool:
    """Tell whether a base's blocks see nothing of their rows but the hidden states, packed.

    Positions are added to the embeddings then, each block is computed once, and attention is that of
    `masking.inference.packing`.
    """
    alike = base.blocks.known is not None and base.blocks.passes == 1
    embeddings = getattr(base.encoder, "embeddings", None)
    return alike and can_pack(base) and hasattr(embeddings, "position_embeddings")


def number_equal(rows: Sequence[Row]) -> list[int] | None:
    """Return a number for each row, the same for rows of equal tokens; None if no two are equal."""
    numbers: dict[Row, int] = {}
    found = [numbers.setdefault(row, len(numbers)) for row in rows]
    return None if len(numbers) == len(rows) else found


def plan_stages(tokens: Sequence[int], owners: Sequence[tuple[int, int]], blocks: int) -> list[Stage]:
    """Find out which rows have to be computed in which blocks.

    Args:
        tokens: For each row of the batch a number, the same for rows of equal tokens.
        owners: For each row whose masks it is computed with, as a number, and the first block that these
            change: `EMBEDDINGS` if they change the embeddings, `blocks` if they change no block.
        blocks: Number of blocks.

    Returns:
        The stages, ascending. The last one has all rows; it starts at `blocks` where rows are equal to the
        end, for their masks are the same or change nothing.
    """
    stages, before = list[Stage](), list[int]()
    for block in sorted({EMBEDDINGS, *(first for _, first in owners), blocks}):
        firsts: dict[tuple[int, int | None], int] = {}
        equal = [
            firsts.setdefault(
                (row, None) if block == blocks else (number, owner if first <= block else None), row
            )
            for row, (number, (owner, first)) in enumerate(zip(tokens, owners, strict=True))
        ]
        rows = tuple(firsts.values())
        if stages and len(rows) == len(stages[-1].rows):
            continue
        stages.append(Stage(block, rows, tuple(before[row] for row in rows) if stages else ()))
        places = {row: place for place, row in enumerate(rows)}
        before = [places[row] for row in equal]
    return stages


def token_places(batch: RowBatch, sources: Sequence[int], device: torch.device) -> Tensor:
    """Return the places of the tokens of rows in a packed batch, one row after another: int64 [tokens]."""
    lengths = np.diff(batch.bounds)[list(sources)]
    ends = np.cumsum(lengths)
    starts = np.repeat(batch.bounds[list(sources)] - (ends - lengths), lengths)
    return torch.from_numpy(starts + np.arange(len(starts))).to(device)


def read_places(batch: RowBatch, lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return the places of the first so many tokens of each row of a packed batch: int64 [tokens]."""
    starts = np.repeat(batch.bounds[:-1], lengths)
    within = np.concatenate([np.arange(length) for length in lengths])
    return torch.from_numpy(starts + within).to(device)


_later: ContextVar[Mapping[int, StageBatch]] = ContextVar("later")


@contextmanager
def in_stages(stages: Sequence[StageBatch]) -> Iterator[None]:
    """Compute the blocks of an encoder with these stages, inside the context."""
    first, *others = stages
    token = _later.set({one.stage.block: one for one in others})
    try:
        with computing(first.segmented), attending(first.rows):
            yield
    finally:
        _later.reset(token)


def begin_stages(blocks: nn.Module) -> None:
    """Let an encoder's blocks begin the stages of `in_stages`."""
    for number, block in enumerate(blocks.children()):
        block.register_forward_pre_hook(partial(_begin, number))


def _begin(number: int, _block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    stage = _later.get().get(number)
    if stage is None or stage.tokens is None:
        return None
    catch_up()
    compute_next(stage.segmented)
    attend_next(stage.rows)
    hidden, *others = inputs
    return hidden.index_select(1, stage.tokens), *others
