"""Rollouts: versions of a task side by side, as operators set them and as the store has them.

What operators want is written to the store, which every server follows; this one does so at once. While
traffic is set it decides what is served: the stable version in the place of the store's current one, and
others beside it. A task that is pinned to a version is served in that one alone.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from mask_store import (
    Hold,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    Traffic,
    TrafficError,
    TrafficPlan,
    VersionInfo,
)
from masking import MaskingError
from server.errors import ServerError
from server.tasks.audit import followed, note_abort
from server.tasks.lifecycle import Lifecycle
from server.tasks.loader import TaskLoader, pause_after, public_reason
from server.tasks.registry import ServedTask, TaskEntry, TaskRegistry
from server.tasks.traffic import TaskTraffic
from server.telemetry.metrics import Metrics
from server.telemetry.traffic_stats import TrafficStatistics

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_ABORT_PAUSE_SECONDS = 5.0
"""Pause until a store that could not be told of an abort is told again."""


@dataclass(frozen=True)
class Found:
    """What a look at the store found of a task.

    Attributes:
        version: The current version.
        traffic: The traffic that is active; None for none.
        hold: The hold; None for none.
    """

    version: VersionInfo
    traffic: Traffic | None = None
    hold: Hold | None = None

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.version.task


class Rollouts:
    """Sets, ends and follows traffic; safe to call from any thread.

    Public methods raise subclasses of ServerError only.

    Attributes:
        lifecycle: Does one thing after another to each task.
    """

    def __init__(
        self,
        store: MaskStore,
        lifecycle: Lifecycle,
        loader: TaskLoader,
        registry: TaskRegistry,
        metrics: Metrics,
    ) -> None:
        """Connect the parts.

        Args:
            store: Where traffic is kept.
            lifecycle: See the class.
            loader: Loads versions.
            registry: Learns what is served.
            metrics: Counts what was aborted.
        """
        self._store = store
        self.lifecycle = lifecycle
        self._loader = loader
        self._registry = registry
        self._metrics = metrics
        self._told: dict[str, str] = {}
        self._abort_again: dict[str, float] = {}

    def set_traffic(self, name: str, plan: TrafficPlan) -> TaskEntry:
        """Serve versions of a task side by side, on every server that follows the store.

        Every version is loaded here before anything is written.

        Args:
            name: The task.
            plan: The versions, their weights, the shadow, and when to abort.

        Returns:
            What is served now.

        Raises:
            ConflictError: The versions can't be served side by side, or the task is pinned.
            TaskNotFoundError: The store has no such task.
            VersionNotFoundError: The task has no such version.
            InvalidBodyError: A version does not fit the base.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        found = dict[int, ServedTask]()
        with self.lifecycle.turn(name), self._dropping_unused(found):
            self.lifecycle.check_not_pinned(name)

            def load(version: VersionInfo, bundle: MaskBundle) -> None:
                found[version.number] = self._loader.beside(version, bundle)

            traffic = self._store.set_traffic(name, plan, check=load)
            logger.info("task %s: traffic set: %s", name, traffic)
            # a look that began before is too old to change it
            stable = replace(found[traffic.stable], since=time.monotonic())
            self._put(traffic, stable, {number: found[number] for number in traffic.candidates}, {})
            return self._registry.entry(name)

    def promote(self, name: str, version: int | None = None) -> ServedTask:
        """Make a version of the traffic current in the store, and serve it alone.

        Args:
            name: The task.
            version: Which one; None for the only one beside the stable one.

        Returns:
            The version in service now.

        Raises:
            ConflictError: There is no traffic, or not of this version, or the task is pinned.
            TaskUnavailableError: The version does not fit the base; what was served before still is.
            ServerError: As `set_traffic`.
        """
        asked = time.monotonic()
        with self.lifecycle.turn(name):
            self.lifecycle.check_not_pinned(name)
            promoted = self._store.promote(name, version)
            logger.info("task %s: version %d promoted, traffic ended", name, promoted.number)
            return self._end(promoted, asked)

    def abort_traffic(self, name: str, reason: str) -> ServedTask:
        """Make the stable version current in the store, and serve it alone.

        Args:
            name: The task.
            reason: Why, for people; the store keeps it.

        Returns:
            The version in service now; if the task is pinned, that one.

        Raises:
            ConflictError: There is no traffic.
            ServerError: As `set_traffic`.
        """
        asked = time.monotonic()
        with self.lifecycle.turn(name):
            ended = self._store.abort_traffic(name, reason)
            logger.warning("task %s: traffic aborted: %s", name, reason)
            if self._registry.entry(name).pinned is not None:
                return self._registry.get(name)
            return self._end(self._store.version(name, ended.stable), asked)

    def is_due(self, found: Found, seen: float) -> bool:
        """Tell whether a look at the store is a reason to `refresh` a task; see `Lifecycle.is_due`.

        Args:
            found: What the look found.
            seen: When it began, in monotonic seconds.
        """
        version, traffic = found.version, found.traffic
        entry = self._registry.entry(found.task)
        strays = not self.lifecycle.keeps_to(found.task, found.hold)
        if strays or (traffic is None and entry.traffic is None):
            return strays or self.lifecycle.is_due(version, seen)
        if entry.unloaded or entry.pinned is not None:
            return False
        if entry.served is not None and entry.served.since >= seen:
            return False
        if traffic is None:
            return self._loader.is_served(version) or self._loader.may_try(version)
        here = entry.traffic
        if here is None or here.settings != traffic:
            return True
        stopped, now = here.statistics.stopped is not None, time.monotonic()
        return (stopped and now >= self._abort_again.get(version.task, now)) or now >= here.retry_at

    def refresh(self, found: Found, seen: float, *, light: bool = False, first: bool = False) -> None:
        """Bring a task to what a look at the store found; report trouble, raise none.

        Args:
            found: What the look found.
            seen: When it began, in monotonic seconds.
            light: As of `Lifecycle.refresh`; tasks that are pinned or have traffic are loaded whole.
            first: As of `Lifecycle.refresh`.
        """
        version, traffic, name = found.version, found.traffic, found.task
        if not self.lifecycle.keeps_to(name, found.hold):
            if self.lifecycle.follow_hold(name, seen, first=first):
                return
            found = replace(found, hold=None)
        if traffic is None and self._registry.entry(name).traffic is None:
            self.lifecycle.refresh(version, seen, light=light, first=first)
            return
        with suppress(ServerError), self.lifecycle.turn(name):
            if self.is_due(found, seen):  # an operator may have come first
                here = self._registry.entry(name).traffic
                if traffic is not None and here is not None and here.settings == traffic:
                    self._tend(traffic, here, seen)
                else:
                    with nullcontext() if first else followed(self._registry, name):
                        self._follow(version, traffic, seen)

    def report_unreadable(self, name: str, reason: str) -> None:
        """Note that the traffic of a task can't be read; what is served stays as it is."""
        if self._told.get(name) != reason:
            self._told[name] = reason
            logger.error("task %s: %s", name, reason)

    def forget_unreadable(self, names: Mapping[str, Traffic]) -> None:
        """Note that the traffic of these tasks can be read."""
        for name in self._told.keys() & names.keys():
            del self._told[name]

    def _follow(self, version: VersionInfo, traffic: Traffic | None, seen: float) -> None:
        """Serve what the store has and this server has not yet; the task's turn is held.

        Raises:
            ServerError: A version can't be loaded.
        """
        if traffic is None:
            self._loader.serve(version, seen, found_current=True)
            self._registry.end_traffic(version.task)
            logger.info("task %s: traffic ended", version.task)
        else:
            self._begin(traffic)

    def _tend(self, traffic: Traffic, here: TaskTraffic, seen: float) -> None:
        """Do what is left to do for traffic that this server serves by; the task's turn is held."""
        if (reason := here.statistics.stopped) is not None:
            self._abort(traffic, reason, seen)
        else:
            self._load_missing(traffic, here)

    def _begin(self, traffic: Traffic) -> None:
        """Follow traffic that another server, or a command, has set.

        Raises:
            TaskUnavailableError: The stable version can't be loaded; what is served stays so.
        """
        version, started = self._store.version(traffic.task, traffic.stable), time.monotonic()
        if not self._loader.is_served(version) and not self._loader.may_try(version):
            return
        try:
            stable = self._loader.beside(version)
        except Exception as error:
            raise self._loader.failed(version, error, started) from error
        found, problems, retry_at = self._load(traffic, traffic.candidates, 0)
        self._put(traffic, stable, found, problems, retry_at)
        logger.info("task %s: traffic followed: %s", traffic.task, traffic)

    def _load_missing(self, traffic: Traffic, here: TaskTraffic) -> None:
        attempts = here.attempts + 1
        found, problems, retry_at = self._load(traffic, tuple(here.problems), attempts)
        entry = self._registry.entry(traffic.task)
        if entry.served is not None:
            others = {**here.others, **self._beside(found, here.statistics)}
            renewed = replace(here, others=others, problems=problems, retry_at=retry_at, attempts=attempts)
            self._registry.put_traffic(self._with_shadow(entry.served, renewed), renewed)

    def _load(
        self, traffic: Traffic, numbers: tuple[int, ...], attempts: int
    ) -> tuple[dict[int, ServedTask], dict[int, str], float]:
        """Load versions; return those that can be, why others can't, and when to try those again."""
        found, problems, retry_at = dict[int, ServedTask](), dict[int, str](), math.inf
        for number in numbers:
            try:
                found[number] = self._loader.beside(self._store.version(traffic.task, number))
            except Exception as error:
                problems[number] = public_reason(error)
                if not attempts:
                    expected = isinstance(error, MaskStoreError | MaskingError)
                    logger.error(
                        "task %s: version %d of its traffic can't be loaded, the stable one answers: %s",
                        traffic.task,
                        number,
                        error,
                        exc_info=None if expected else error,
                    )
                    self._metrics.count_load_failure(traffic.task)
                pause = pause_after(error, attempts, _FIRST_PAUSE_SECONDS)
                retry_at = min(retry_at, time.monotonic() + pause)
        return found, problems, retry_at

    def _put(
        self,
        traffic: Traffic,
        stable: ServedTask,
        found: Mapping[int, ServedTask],
        problems: Mapping[int, str],
        retry_at: float = math.inf,
    ) -> None:
        """Serve the stable version, and what was loaded beside it."""
        before = self._registry.entry(traffic.task).served
        if before is None or before.digest != stable.digest or before.version != stable.version:
            self._metrics.count_swap(traffic.task, stable.version)
        self._metrics.begin_traffic(traffic.task)
        statistics = TrafficStatistics(traffic.stable, traffic.versions, traffic.abort)
        begun = TaskTraffic(traffic, self._beside(found, statistics), statistics, problems, retry_at)
        self._registry.put_traffic(self._with_shadow(stable, begun), begun)

    def _beside(
        self, found: Mapping[int, ServedTask], statistics: TrafficStatistics
    ) -> dict[int, ServedTask]:
        return {number: replace(one, traffic=statistics, shadow=None) for number, one in found.items()}

    def _with_shadow(self, stable: ServedTask, traffic: TaskTraffic) -> ServedTask:
        number = traffic.settings.shadow
        shadow = None if number is None else traffic.others.get(number)
        return replace(stable, traffic=traffic.statistics, shadow=shadow)

    def _abort(self, traffic: Traffic, reason: str, seen: float) -> None:
        """Tell the store that the traffic is over here; it is tried again until the store knows."""
        name = traffic.task
        try:
            self._store.abort_traffic(name, reason, only=traffic)
        except TrafficError:  # another server was faster, or it was set anew: the next look finds that
            self._abort_again.pop(name, None)
            return
        except MaskStoreError as error:
            if name not in self._abort_again:
                logger.error("task %s: traffic is over here, but the store can't be told: %s", name, error)
            self._abort_again[name] = time.monotonic() + _ABORT_PAUSE_SECONDS
            return
        self._abort_again.pop(name, None)
        logger.warning("task %s: traffic aborted: %s", name, reason)
        self._metrics.count_abort(name)
        note_abort(self._registry, name, reason)
        self._end(self._store.version(name, traffic.stable), seen)

    def _end(self, version: VersionInfo, asked: float) -> ServedTask:
        """Serve a version alone."""
        self._loader.serve(version, asked)
        self._registry.end_traffic(version.task)
        return self._registry.get(version.task)

    @contextmanager
    def _dropping_unused(self, loaded: Mapping[int, ServedTask]) -> Iterator[None]:
        """Let go of masks that were loaded inside the context if their version did not come into service."""
        try:
            yield
        finally:
            self._loader.drop_unused(loaded.values())
