"""Autoscaling policy of Ray Serve: as many replicas as the rows that wait are work for."""

from typing import Any

ROWS = "queued_rows"
"""Under this name each replica reports how many rows (token sequences) wait in it."""


class QueuedRows:
    """Wants a replica for every so many rows that wait in all replicas together.

    The rows are means of ``look_back_period_s``; bounds, delays and factors are those of Serve.
    """

    def __init__(self, rows_per_replica: float) -> None:
        """Take ``policy_kwargs`` of the deployment: how many waiting rows are a replica's work, over 0."""
        if rows_per_replica <= 0:
            raise ValueError(f"rows_per_replica is over 0: {rows_per_replica}")
        self._rows_per_replica = rows_per_replica

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Return how many replicas there should be, and nothing to remember."""
        waiting = (context.aggregated_metrics or {}).get(ROWS, {})
        return sum(waiting.values()) / self._rows_per_replica, {}
