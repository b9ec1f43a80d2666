"""Fair queue: waiting entries by task version, served round-robin. Not thread-safe."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from server.engine.pending import Cost, PendingRequest, QueueEntry


class FairQueue:
    """First in, first out within a task version; the versions take turns, one entry each.

    A version keeps its place in the round from batch to batch; a new one joins at the end.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.cost = Cost()
        self._by_version: OrderedDict[str, deque[QueueEntry]] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._by_version)

    @property
    def requests(self) -> set[PendingRequest]:
        """The requests that have an entry here."""
        return {entry.request for entries in self._by_version.values() for entry in entries}

    @property
    def oldest(self) -> float | None:
        """When the oldest entry was queued; None if nothing waits."""
        return min((entries[0].request.timings.queued for entries in self._by_version.values()), default=None)

    def add(self, entries: Iterable[QueueEntry]) -> None:
        """Put entries behind the others of their task version."""
        for entry in entries:
            self._by_version.setdefault(entry.request.task.digest, deque()).append(entry)
            self.cost += entry.cost

    def first(self) -> QueueEntry:
        """Return the entry whose turn it is; there must be one."""
        return next(iter(self._by_version.values()))[0]

    def pop(self) -> QueueEntry:
        """Take the entry whose turn it is; its task version goes to the end of the round."""
        digest, entries = next(iter(self._by_version.items()))
        entry = entries.popleft()
        self.cost -= entry.cost
        if entries:
            self._by_version.move_to_end(digest)
        else:
            del self._by_version[digest]
        return entry

    def discard(self, unwanted: Callable[[PendingRequest], bool]) -> None:
        """Remove the entries of unwanted requests; everyone else keeps their turn."""
        before, self._by_version, self.cost = self._by_version, OrderedDict(), Cost()
        for entries in before.values():
            self.add(entry for entry in entries if not unwanted(entry.request))

    def clear(self) -> None:
        """Remove everything."""
        self._by_version.clear()
        self.cost = Cost()
