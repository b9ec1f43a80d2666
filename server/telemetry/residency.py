"""Residency metrics: how often masks were in memory when they were needed, and how often they went out."""

from prometheus_client import CollectorRegistry, Counter


class ResidencyMetrics:
    """The counters of the masks in memory."""

    def __init__(self, to: CollectorRegistry) -> None:
        """Create every series at zero."""
        lookups = Counter(
            "maskserve_mask_lookups",
            "Requests by whether the masks of their task were ready: hit, miss",
            ["result"],
            registry=to,
        )
        self._lookups = {hit: lookups.labels("hit" if hit else "miss") for hit in (True, False)}
        self._evictions = Counter(
            "maskserve_mask_evictions", "Masks that went out of memory to make room", registry=to
        )

    def count_lookup(self, hit: bool) -> None:
        """Count a request, by whether the masks of its task were ready."""
        self._lookups[hit].inc()

    def count_eviction(self) -> None:
        """Count masks that went out."""
        self._evictions.inc()
