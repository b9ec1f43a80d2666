"""Names as labels: so many have series of their own, the others count as one."""

from collections.abc import Callable
from threading import Lock

OTHERS = "(other)"


class LabelNames:
    """The names that have series of their own; thread-safe.

    Attributes:
        most: How many may have them.
    """

    def __init__(self, most: int) -> None:
        """Allow so many."""
        self.most = most
        self._names: set[str] = set()
        self._lock = Lock()

    def label(self, name: str) -> str:
        """Return a name itself while there is room for it."""
        with self._lock:
            if name in self._names:
                return name
            if len(self._names) >= self.most:
                return OTHERS
            self._names.add(name)
            return name

    def free(self, name: str) -> None:
        """Give the room of a name to another."""
        with self._lock:
            self._names.discard(name)

    def without(self, wanted: Callable[[str], bool]) -> list[str]:
        """Return the names with series of their own that are not wanted."""
        with self._lock:
            return [name for name in self._names if not wanted(name)]
