"""Dissimilarity of two tasks' masks of a layer (paper, section 6.2): s = |T1 - T2| / (|T1 - I1| + |T2 - I2|).

T1 and T2 are the masks after learning, I1 and I2 before; |.| counts the bits that differ. So s is the share
of what learning changed that the two don't have in common: 0 where both changed the same bits, 1 where they
changed none of the same. That holds only where the masks started equal, which the paper relies on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from experiments.errors import ExperimentError
from masking.architectures import layer_names

KINDS = ("query", "key", "value", "attention output", "intermediate", "output")
"""The layers of a block, in the order of `masking.architectures.LayerNames.in_block`; W_O is ``output``."""

Masks = Mapping[str, Tensor]
"""Boolean [rows, columns] by layer name."""
Grid = dict[int, dict[str, float]]
"""s by block and kind of layer."""


@dataclass(frozen=True)
class LearnedMasks:
    """The masks of one run, without the head's.

    Attributes:
        task: Name of the task.
        before: Masks before learning.
        after: Masks at the best epoch.
    """

    task: str
    before: Masks
    after: Masks


def dissimilarity(one: LearnedMasks, other: LearnedMasks, layer: str) -> float:
    """Return s of a layer that both mask; 0 where neither's learning changed a bit.

    Raises:
        ExperimentError: The shapes differ, or the masks did not start equal.
    """
    before = one.before[layer]
    if before.shape != other.before[layer].shape:
        shapes = f"{tuple(before.shape)} and {tuple(other.before[layer].shape)}"
        raise ExperimentError(f"{layer}: masks of shapes {shapes} don't compare")
    if not torch.equal(before, other.before[layer]):
        raise ExperimentError(
            f"{layer}: masks of {one.task} and {other.task} did not start equal, so not all that differs was "
            "learned"
        )
    changed = sum(int((masks.after[layer] != before).sum()) for masks in (one, other))
    return int((one.after[layer] != other.after[layer]).sum()) / changed if changed else 0.0


def by_block(one: LearnedMasks, other: LearnedMasks, architecture: str) -> Grid:
    """Return s of each layer of the blocks that both mask.

    Args:
        one: Masks of a run.
        other: Masks of another run on the same base with the same seed.
        architecture: The base's Hugging Face model type.

    Raises:
        ExperimentError: No layer is masked in both, or as in `dissimilarity`.
    """
    table = layer_names(architecture)
    shared = one.after.keys() & other.after.keys()
    last = max((_block(name, table.blocks) for name in shared), default=-1)
    grid: Grid = {}
    for block in range(last + 1):
        names = dict(zip(KINDS, table.in_block(block), strict=True))
        row = {kind: dissimilarity(one, other, name) for kind, name in names.items() if name in shared}
        if row:
            grid[block] = row
    if not grid:
        raise ExperimentError("the two masks have no layer in common")
    return grid


def _block(name: str, blocks: str) -> int:
    """Return the number of the block that a layer lies in; -1 outside of them."""
    rest = name.removeprefix(f"{blocks}.")
    return -1 if rest == name else int(rest.split(".", 1)[0])


def mean_grid(grids: Sequence[Grid]) -> Grid:
    """Return the mean of grids of the same blocks and kinds, at least one."""
    return {
        block: {kind: fmean(grid[block][kind] for grid in grids) for kind in row}
        for block, row in grids[0].items()
    }


def block_means(grid: Grid) -> dict[int, float]:
    """Return the mean over the kinds of layer of each block."""
    return {block: fmean(row.values()) for block, row in grid.items()}
