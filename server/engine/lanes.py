"""Waiting inputs by task version, and whose turn it is. Not thread-safe, and no word on when or how many."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from server.engine.pending import Cost, Item, Ticket


class Lanes:
    """One lane per task version, oldest inputs first; lanes take turns, one input each.

    A lane keeps its place in the line from batch to batch; a new one joins at the end.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.cost = Cost()
        self._lanes: OrderedDict[str, deque[Item]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._lanes)

    @property
    def tickets(self) -> set[Ticket]:
        """The requests that have an input here."""
        return {item.ticket for lane in self._lanes.values() for item in lane}

    @property
    def oldest(self) -> float | None:
        """When the oldest input was submitted; None if nothing waits."""
        return min((lane[0].ticket.submitted for lane in self._lanes.values()), default=None)

    def add(self, items: Iterable[Item]) -> None:
        """Put inputs at the end of their lanes."""
        for item in items:
            self._lanes.setdefault(item.ticket.task.digest, deque()).append(item)
            self.cost += item.cost

    def first(self) -> Item:
        """The input whose turn it is; there must be one."""
        return next(iter(self._lanes.values()))[0]

    def pop(self) -> Item:
        """Take the input whose turn it is; the rest of its lane goes to the end of the line."""
        digest, lane = next(iter(self._lanes.items()))
        item = lane.popleft()
        self.cost -= item.cost
        if lane:
            self._lanes.move_to_end(digest)
        else:
            del self._lanes[digest]
        return item

    def discard(self, unwanted: Callable[[Ticket], bool]) -> None:
        """Forget the inputs of unwanted requests; everyone else keeps their turn."""
        lanes, self._lanes, self.cost = self._lanes, OrderedDict(), Cost()
        for lane in lanes.values():
            self.add(item for item in lane if not unwanted(item.ticket))

    def clear(self) -> None:
        """Forget everything."""
        self._lanes.clear()
        self.cost = Cost()
