"""Segments: how a batch of tokens is divided among tasks.

Made once per batch and used for all its layers. Segment i belongs to whoever gives the i-th mask.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Segments:
    """Adjacent, non-empty runs of tokens that cover a batch.

    Attributes:
        bounds: First token of each segment, then the number of tokens: (0, 32, 48) are two segments.
    """

    bounds: tuple[int, ...]
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse bounds that do not start at 0 or do not ascend.

        Raises:
            ValueError: With the bounds.
        """
        pairs = pairwise(self.bounds)
        if not self.bounds or self.bounds[0] != 0 or any(start >= end for start, end in pairs):
            raise ValueError(f"segment bounds must ascend from 0, found {self.bounds}")

    @classmethod
    def of_lengths(cls, lengths: Iterable[int]) -> Self:
        """Make segments of these many tokens, in order."""
        bounds = [0]
        for length in lengths:
            bounds.append(bounds[-1] + length)
        return cls(tuple(bounds))

    @property
    def tokens(self) -> int:
        """Tokens of the batch."""
        return self.bounds[-1]

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.bounds) - 1

    def part(self, first: int, last: int) -> "Segments":
        """Return segments `first` to `last` - 1, counted from their own first token."""
        if (first, last) == (0, len(self)):
            return self
        bounds = tuple(bound - self.bounds[first] for bound in self.bounds[first : last + 1])
        return self.keep(("part", first, last), lambda: Segments(bounds))

    def keep(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Return what `make` made on the first call with this key, kept as long as the segments live."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: Kept = self._kept[key]
        return kept

    def owners(self) -> NDArray[np.int64]:
        """Return the segment of each token, int64 [tokens]; not to be written to."""
        return self.keep("owners", lambda: np.repeat(np.arange(len(self)), np.diff(self.bounds)))

    def spans(self) -> Iterable[tuple[int, int]]:
        """Return start and end of each segment."""
        return pairwise(self.bounds)


@dataclass(frozen=True)
class TileTable:
    """Segments divided into tiles.

    Attributes:
        rows: int64 [tiles, 3], not to be written to: first token, number of tokens, segment.
        count: Number of tiles.
        address: Of `rows` in memory.
    """

    rows: NDArray[np.int64]
    count: int
    address: int


@lru_cache(maxsize=64)
def tile_table(segments: Segments, most: int) -> TileTable:
    """Divide each segment into tiles of nearly equal size, of at most `most` tokens."""
    rows = []
    for index, (start, end) in enumerate(segments.spans()):
        tiles = -(-(end - start) // most)
        edges = [start + (end - start) * tile // tiles for tile in range(tiles + 1)]
        rows += [(a, b - a, index) for a, b in pairwise(edges)]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return TileTable(table, len(rows), table.ctypes.data)
