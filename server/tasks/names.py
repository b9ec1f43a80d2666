"""Task names in order, and the one that a misspelt name most likely means.

A name with a mistake in one place shares what stands before it or what stands behind it with the right one,
which is thus near it in the order of names or in that of names read backwards. So a look takes microseconds,
however many tasks there are.
"""

from bisect import bisect_left, insort

_LONGEST = 64  # characters of a task's name
_NEIGHBOURS = 3
_MOST_WRONG = 1 / 3


class TaskNames:
    """Names of tasks; not thread-safe."""

    def __init__(self) -> None:
        """Start without names."""
        self._forward: list[str] = []
        self._backward: list[str] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._forward)

    def add(self, name: str) -> None:
        """Add a name that is not there yet."""
        insort(self._forward, name)
        insort(self._backward, name[::-1])

    def remove(self, name: str) -> None:
        """Remove a name that is there."""
        del self._forward[bisect_left(self._forward, name)]
        del self._backward[bisect_left(self._backward, name[::-1])]

    def first(self, count: int) -> list[str]:
        """Return the first names in order."""
        return self._forward[:count]

    def nearest(self, asked: str) -> str | None:
        """Return the name that differs least from what was asked for; None if all differ much."""
        wanted = asked[: 2 * _LONGEST].casefold()
        near = {
            *_around(self._forward, wanted),
            *(name[::-1] for name in _around(self._backward, wanted[::-1])),
        }
        best = min(sorted(near), key=lambda name: _wrong_share(name, wanted), default=None)
        return None if best is None or _wrong_share(best, wanted) > _MOST_WRONG else best


def _around(names: list[str], wanted: str) -> list[str]:
    place = bisect_left(names, wanted)
    return names[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]


def _wrong_share(name: str, wanted: str) -> float:
    """Return how much of the longer one lies between their common start and their common end."""
    start = _common(name, wanted)
    end = _common(name[start:][::-1], wanted[start:][::-1])
    longer = max(len(name), len(wanted))
    return (longer - start - end) / longer


def _common(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))
