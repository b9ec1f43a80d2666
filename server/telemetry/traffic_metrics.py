"""Traffic metrics: series of the versions that are served side by side, made when they are scraped.

They mirror the statistics of the traffic, so they begin at zero with it and are gone with it. Their number is
bounded: traffic has few versions, and of many tasks with traffic the first in order are told.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.telemetry.traffic_stats import TrafficStatistics

_LABELS = ("task", "version")


class TrafficState(NamedTuple):
    """The traffic of one task.

    Attributes:
        weights: Per cent of the requests by the number of the version.
        shadow: Number of the shadow; None for none.
        statistics: What was counted.
    """

    weights: Mapping[int, float]
    shadow: int | None
    statistics: TrafficStatistics


class TrafficCollector(Collector):
    """Makes the series."""

    def __init__(self, traffic: Callable[[], Mapping[str, TrafficState]], most: int) -> None:
        """Read the traffic by task from `traffic`, and tell that of `most` tasks."""
        self._traffic = traffic
        self._most = most

    def collect(self) -> Iterator[Metric]:
        """Yield every series."""
        weights = GaugeMetricFamily(
            "maskserve_version_weight", "Per cent of a task's requests that a version gets", labels=_LABELS
        )
        rows, failed, compared, agreed, difference, shadow_failed, skipped = (
            CounterMetricFamily(f"maskserve_{name}", text, labels=_LABELS)
            for name, text in (
                ("version_rows", "Inputs that a version was asked, of tasks with several in service"),
                ("version_failed_rows", "Those of which the computation failed"),
                ("shadow_rows", "Inputs of which a shadow's answer was compared with the stable version's"),
                ("shadow_agreed_rows", "Those with equal labels; of words the shares of equal ones"),
                ("shadow_difference", "Sum over those of the largest difference of a label's score"),
                ("shadow_failed_rows", "Inputs that a shadow failed to compute"),
                ("shadow_skipped_rows", "Inputs for which a shadow had no room to spare"),
            )
        )
        for task, state in sorted(self._traffic().items())[: self._most]:
            for number, counts in state.statistics.versions.items():
                labels = (task, str(number))
                weights.add_metric(labels, state.weights.get(number, 0.0))
                rows.add_metric(labels, counts.rows)
                failed.add_metric(labels, counts.failed)
            if state.shadow is not None:
                labels, found = (task, str(state.shadow)), state.statistics.shadow
                compared.add_metric(labels, found.rows)
                agreed.add_metric(labels, found.agreed or 0.0)
                difference.add_metric(labels, found.difference)
                shadow_failed.add_metric(labels, found.failed)
                skipped.add_metric(labels, found.skipped)
        yield from (weights, rows, failed, compared, agreed, difference, shadow_failed, skipped)
