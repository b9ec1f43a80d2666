"""Metrics of keys: what was asked with each key, with bounded labels."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter

from server.telemetry.names import LabelNames


class KeyMetrics:
    """The series of keys."""

    def __init__(self, to: CollectorRegistry, most: int) -> None:
        """Allow so many keys series of their own."""
        self._names = LabelNames(most)
        self._requests = Counter(
            "maskserve_key_requests", "Requests answered by key", ["key", "status"], registry=to
        )
        self._rows = Counter("maskserve_key_rows", "Rows computed by key", ["key"], registry=to)

    def count(self, key: str, status: int, rows: int) -> None:
        """Count an answered request.

        Args:
            key: Name of its key.
            status: HTTP status of its reply.
            rows: Rows that were computed for it.
        """
        label = self._names.label(key)
        self._requests.labels(label, str(status)).inc()
        if rows:
            self._rows.labels(label).inc(rows)

    def retain(self, keys: Collection[str]) -> None:
        """Drop the series of every other key: a late request may have brought one back."""
        for key in self._names.without(keys.__contains__):
            for metric in (self._requests, self._rows):
                metric.remove_by_labels({"key": key})
            self._names.free(key)
