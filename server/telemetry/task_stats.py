"""Task statistics: requests that one served version of a task answered, and the time that they took.

They belong to the `ServedTask`, so nothing piles up when tasks come and go.
"""

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from server.engine.pending import Timings
from server.telemetry.recent import Recent, RecentRequests

_NANOSECONDS = 1_000_000_000
_STAGES = {"tokenize": "compute_input", "queue": "queue", "compute": "compute_infer"}


@dataclass
class Duration:
    """How often something happened, and the seconds that it took altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds

    def report(self) -> dict[str, int]:
        """Return count and nanoseconds, as the Open Inference Protocol's statistics extension has them."""
        return {"count": self.count, "ns": round(self.seconds * _NANOSECONDS)}


@dataclass
class TaskStatistics:
    """Counters of one version; thread-safe.

    Attributes:
        inputs: Inputs answered.
        last: When the last request was answered or refused, in milliseconds since 1970; 0 for never.
        durations: Whole requests that succeeded and failed, and the stages of those that succeeded.
    """

    inputs: int = 0
    last: int = 0
    durations: dict[str, Duration] = field(
        default_factory=lambda: {name: Duration() for name in ("success", "fail", *_STAGES.values())}
    )
    _recent: RecentRequests = field(default_factory=RecentRequests, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def count_success(self, inputs: int, timings: Timings) -> None:
        """Count a request that was answered."""
        with self._lock:
            self.inputs += inputs
            self.last = _now()
            self.durations["success"].add(timings.total)
            self._recent.add(timings.total)
            for stage, name in _STAGES.items():
                self.durations[name].add(getattr(timings, stage))

    def count_failure(self, seconds: float) -> None:
        """Count a request that was not answered."""
        with self._lock:
            self.last = _now()
            self.durations["fail"].add(seconds)

    def recent(self) -> Recent:
        """Return rate and latency of the requests that were answered in the last half minute."""
        with self._lock:
            return self._recent.report()

    def report(self) -> dict[str, Any]:
        """Return the counters under the names of the protocol's statistics extension."""
        with self._lock:
            return {
                "last_inference": self.last,
                "inference_count": self.inputs,
                "inference_stats": {name: spent.report() for name, spent in self.durations.items()},
            }


def _now() -> int:
    return round(time.time() * 1000)
