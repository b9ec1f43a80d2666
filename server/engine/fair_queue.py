"""Fair queue: waiting entries by task version, served round-robin. Not thread-safe.

Every entry knows its place: adding, taking and removing one take the same time however many wait.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from server.engine.pending import Cost, PendingRequest, QueueEntry

_Entries = OrderedDict[QueueEntry, None]  # a plain dict takes longer and longer to find its first key


@dataclass
class _Lane:
    """The entries of one task version, first in, first out."""

    entries: _Entries = field(default_factory=OrderedDict)
    tokens: int = 0


class FairQueue:
    """First in, first out within a task version; the versions take turns, one entry each.

    A version keeps its place in the round from batch to batch; a new one joins at the end.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.cost = Cost()
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._of_request: OrderedDict[PendingRequest, _Entries] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._lanes)

    @property
    def requests(self) -> list[PendingRequest]:
        """The requests that have an entry here, in the order in which they came."""
        return list(self._of_request)

    @property
    def oldest(self) -> PendingRequest | None:
        """The request that waits longest; None if nothing waits."""
        return next(iter(self._of_request), None)

    def tokens_of(self, digest: str) -> int:
        """Return the tokens that wait of one task version."""
        lane = self._lanes.get(digest)
        return 0 if lane is None else lane.tokens

    def versions_with(self, digest: str) -> int:
        """Return how many task versions take turns once this one waits, too."""
        return len(self._lanes) + (digest not in self._lanes)

    def add(self, request: PendingRequest, entries: Iterable[QueueEntry]) -> None:
        """Put entries of one request behind the others of its task version."""
        lane = self._lanes.setdefault(request.task.digest, _Lane())
        own = self._of_request.setdefault(request, OrderedDict())
        for entry in entries:
            lane.entries[entry] = own[entry] = None
            lane.tokens += entry.cost.tokens
            self.cost += entry.cost

    def first(self) -> QueueEntry:
        """Return the entry whose turn it is; there must be one."""
        return next(iter(next(iter(self._lanes.values())).entries))

    def pop(self) -> QueueEntry:
        """Take the entry whose turn it is; its task version goes to the end of the round."""
        entry = self.first()
        digest, own = entry.request.task.digest, self._of_request[entry.request]
        del own[entry]
        if not own:
            del self._of_request[entry.request]
        self._take_from_lane(entry)
        if digest in self._lanes:
            self._lanes.move_to_end(digest)
        return entry

    def remove(self, request: PendingRequest) -> bool:
        """Remove all entries of a request; everyone else keeps their turn.

        Returns:
            Whether there were any.
        """
        own = self._of_request.pop(request, None)
        for entry in own or ():
            self._take_from_lane(entry)
        return own is not None

    def _take_from_lane(self, entry: QueueEntry) -> None:
        digest = entry.request.task.digest
        lane = self._lanes[digest]
        del lane.entries[entry]
        lane.tokens -= entry.cost.tokens
        self.cost -= entry.cost
        if not lane.entries:
            del self._lanes[digest]
