"""Traffic of a task in this process: which version answers a request.

The same key always meets the same version, here and on every other server: each version has a number for a
key, made of a hash and its weight, and the lowest one answers (rendezvous hashing with weights). So a version
whose share grows keeps its keys. Requests without a key take turns by a
sequence that is spread evenly, so that their shares are the weights even where they are few.
"""

import math
import random
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, count
from typing import TYPE_CHECKING

from mask_store import Traffic
from server.telemetry.traffic_stats import TrafficStatistics

if TYPE_CHECKING:
    from server.tasks.registry import ServedTask

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Of all numbers the one whose multiples are spread most evenly."""
_HASHES = 2.0**64


class Shares:
    """Versions by their weights; safe to call from any thread."""

    def __init__(self, task: str, weights: Mapping[int, float]) -> None:
        """Share the requests of a task.

        Args:
            task: Its name; a key meets the versions of other tasks independently.
            weights: By the number of the version; at least one is above 0.
        """
        self._task = task
        self._weights = {number: weight for number, weight in sorted(weights.items()) if weight > 0}
        self._numbers = [*self._weights]
        self._ends = [*accumulate(self._weights.values())]
        self._requests, self._first = count(), random.random()

    def of_key(self, key: str) -> int:
        """Return the version that answers requests with a key."""

        def waits(number: int) -> float:
            name = f"{self._task}\0{number}\0{key}".encode(errors="surrogateescape")
            place = (int.from_bytes(blake2b(name, digest_size=8).digest()) + 0.5) / _HASHES
            return -math.log(place) / self._weights[number]

        return min(self._numbers, key=waits)

    def next(self) -> int:
        """Return the version that answers the next request without a key."""
        point = (self._first + next(self._requests) * _GOLDEN) % 1.0
        place = bisect(self._ends, point * self._ends[-1])
        return self._numbers[min(place, len(self._numbers) - 1)]


@dataclass(frozen=True)
class TaskTraffic:
    """The versions of a task that are in service side by side.

    Attributes:
        settings: What the store says.
        others: Those beside the stable one that are loaded, by number.
        statistics: Counts since it was set.
        problems: Why a version is not loaded, by number; the stable one answers in its place.
        retry_at: When to try those again, in monotonic seconds.
        attempts: How often that was tried.
    """

    settings: Traffic
    others: Mapping[int, "ServedTask"]
    statistics: TrafficStatistics
    problems: Mapping[int, str] = field(default_factory=dict)
    retry_at: float = math.inf
    attempts: int = 0

    def choose(self, stable: "ServedTask", key: str | None) -> "ServedTask":
        """Return the version that answers a request.

        Args:
            stable: The stable one.
            key: What the client sent to meet the same version again; None for nothing.
        """
        if self.statistics.stopped is not None or not self.others:
            return stable
        number = self._shares.next() if key is None else self._shares.of_key(key)
        return self.others.get(number, stable)

    @cached_property
    def _shares(self) -> Shares:
        return Shares(self.settings.task, self.settings.weights)
