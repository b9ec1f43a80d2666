"""Traffic statistics: what versions of a task side by side answered here, and how a shadow agrees.

They begin when the traffic is set, and belong to it, so nothing piles up. They also judge: once a version
breaks the rule of its traffic, the traffic is stopped here at once, before all servers hear of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from mask_store import AbortRule
from server.telemetry.comparison import Compared


@dataclass(frozen=True)
class VersionCounts:
    """Inputs that a version was asked.

    Attributes:
        rows: Inputs that it answered, or failed to.
        failed: Those of which the computation failed.
    """

    rows: int = 0
    failed: int = 0


@dataclass(frozen=True)
class ShadowCounts:
    """Inputs that the stable version answered, and what the shadow made of them.

    Attributes:
        rows: Inputs of which both answers were compared.
        agreed: The sum of their agreements; None for a kind of task without labels.
        difference: The sum of their differences.
        failed: Inputs of which the shadow's computation failed.
        skipped: Inputs for which there was no room to spare.
    """

    rows: int = 0
    agreed: float | None = None
    difference: float = 0.0
    failed: int = 0
    skipped: int = 0

    @property
    def agreement(self) -> float | None:
        """Mean agreement; None where there is nothing to agree on."""
        return self.agreed / self.rows if self.rows and self.agreed is not None else None

    @property
    def mean_difference(self) -> float | None:
        """Mean difference; None where nothing was compared."""
        return self.difference / self.rows if self.rows else None


class TrafficStatistics:
    """Counters of one task's traffic in this process; thread-safe.

    Attributes:
        stopped: Why the traffic is over here; None while it is not.
    """

    def __init__(self, stable: int, versions: Iterable[int], rule: AbortRule | None) -> None:
        """Start at zero.

        Args:
            stable: The version that is not judged.
            versions: Every version.
            rule: When to stop; None for never.
        """
        self.stopped: str | None = None
        self._stable = stable
        self._rule = rule
        self._versions = {number: VersionCounts() for number in versions}
        self._shadow = ShadowCounts()
        self._lock = Lock()

    @property
    def versions(self) -> Mapping[int, VersionCounts]:
        """What each version was asked by clients, by number."""
        with self._lock:
            return dict(self._versions)

    @property
    def shadow(self) -> ShadowCounts:
        """What the shadow computed."""
        with self._lock:
            return self._shadow

    def count(self, version: int, rows: int, *, failed: bool) -> None:
        """Count the inputs of a request of a client."""
        with self._lock:
            before = self._versions[version]
            after = VersionCounts(before.rows + rows, before.failed + rows * failed)
            self._versions[version] = after
            if version != self._stable:
                self._judge_errors(version, after.rows, after.failed)

    def count_shadow(self, version: int, compared: Sequence[Compared]) -> None:
        """Count the inputs of a request that the shadow computed, too."""
        with self._lock:
            before = self._shadow
            agreements = [one.agreement for one in compared if one.agreement is not None]
            agreed = sum(agreements, before.agreed or 0.0) if agreements else before.agreed
            self._shadow = replace(
                before,
                rows=before.rows + len(compared),
                agreed=agreed,
                difference=sum((one.difference for one in compared), before.difference),
            )
            self._judge_agreement(version)
            self._judge_errors(version, self._shadow.rows + self._shadow.failed, self._shadow.failed)

    def count_shadow_failure(self, version: int, rows: int) -> None:
        """Count the inputs of a request that the shadow failed to compute."""
        with self._lock:
            self._shadow = replace(self._shadow, failed=self._shadow.failed + rows)
            self._judge_errors(version, self._shadow.rows + self._shadow.failed, self._shadow.failed)

    def skip_shadow(self, rows: int) -> None:
        """Count the inputs of a request that the shadow had no room for."""
        with self._lock:
            self._shadow = replace(self._shadow, skipped=self._shadow.skipped + rows)

    def _judge_agreement(self, version: int) -> None:
        rule, found = self._rule, self._shadow
        if rule is None or rule.agreement is None or found.agreement is None or found.rows < rule.rows:
            return
        if found.agreement < rule.agreement:
            self._stop(
                f"version {version} agrees with version {self._stable} on {found.agreement:.2%} of "
                f"{found.rows} rows, less than {rule.agreement:.2%}"
            )

    def _judge_errors(self, version: int, rows: int, failed: int) -> None:
        rule = self._rule
        if rule is None or rule.errors is None or rows < rule.rows:
            return
        if failed / rows > rule.errors:
            self._stop(
                f"version {version} failed at {failed / rows:.2%} of {rows} rows, more than {rule.errors:.2%}"
            )

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
