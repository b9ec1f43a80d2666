"""Dissimilarity of two masks of a layer (paper, figure 5): s = |M1 - M2| / (|M1| + |M2|), |.| counting ones.

s is 0 where the masks are equal and 1 where no weight is kept by both. Masks drawn independently differ
without having learned anything; `chance` says by how much.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from experiments.errors import ExperimentError
from masking.architectures import layer_names

KINDS = ("query", "key", "value", "attention output", "intermediate", "output")
"""The layers of a block, in the order of `masking.architectures.LayerNames.in_block`."""

MARGIN = 0.1

Masks = Mapping[str, Tensor]
Grid = dict[int, dict[str, float]]
"""s by block and kind of layer."""


def dissimilarity(first: Tensor, second: Tensor) -> float:
    """Return s of two masks.

    Args:
        first: Boolean [rows, columns].
        second: The same shape.

    Raises:
        ExperimentError: The shapes differ, or neither mask keeps a weight.
    """
    if first.shape != second.shape:
        raise ExperimentError(f"masks of shapes {tuple(first.shape)} and {tuple(second.shape)} don't compare")
    ones = int(first.sum()) + int(second.sum())
    if not ones:
        raise ExperimentError("two masks that keep no weight have no dissimilarity")
    return int((first != second).sum()) / ones


def chance(first: Tensor, second: Tensor) -> float:
    """Return the expected s of two independent random masks with as many zeros as these.

    Args:
        first: Boolean [rows, columns].
        second: The same shape.
    """
    one, other = (float(mask.float().mean()) for mask in (first, second))
    return (one * (1.0 - other) + other * (1.0 - one)) / (one + other)


def by_block(first: Masks, second: Masks, architecture: str) -> Grid:
    """Return s of each layer that both models mask, without the head.

    Args:
        first: Masks by layer name.
        second: Masks of another model over the same base.
        architecture: The base's Hugging Face model type.

    Raises:
        ExperimentError: No layer is masked in both.
    """
    table = layer_names(architecture)
    shared = first.keys() & second.keys()
    last = max((_block(name, table.blocks) for name in shared), default=-1)
    grid: Grid = {}
    for block in range(last + 1):
        names = dict(zip(KINDS, table.in_block(block), strict=True))
        row = {kind: dissimilarity(first[n], second[n]) for kind, n in names.items() if n in shared}
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


def rises(grid: Grid) -> bool:
    """Tell whether the mean of the upper half of the blocks exceeds that of the lower half by `MARGIN`.

    With an odd number of blocks the one in the middle belongs to neither.
    """
    means = [mean for _, mean in sorted(block_means(grid).items())]
    half = len(means) // 2
    return half > 0 and fmean(means[-half:]) >= (1.0 + MARGIN) * fmean(means[:half]) > 0.0
