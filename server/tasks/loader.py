"""Task loader: reads versions, checks them, and puts them in service.

A version is read and checked whole before one reference in the registry is swapped; requests in flight keep
what they took, and with the last of them the old version is freed. A version that can't be loaded is
reported. Where its bundle itself is wrong, it is not tried again until the store has another one; else after
a pause that doubles with each failure.
"""

import logging
import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mask_store import (
    BundleError,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    MissingBundleError,
    UnknownTaskError,
    VersionInfo,
)
from masking import Base, LoadedTask, MaskingError, load_task
from masking.inference import ResidentWeights
from server.errors import TaskUnavailableError
from server.tasks.registry import ServedTask, TaskProblem, TaskRegistry
from server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded, when it was tried last, and when to try again."""

    digest: str
    attempts: int
    failed_at: float
    retry_at: float
    message: str


class TaskLoader:
    """Loads versions and puts them in service.

    Safe to call from several threads for different tasks; calls for one task have to come one after another.
    """

    def __init__(
        self,
        store: MaskStore,
        base: Base,
        registry: TaskRegistry,
        metrics: Metrics,
        *,
        retry_seconds: float,
        weights: ResidentWeights | None = None,
    ) -> None:
        """Connect the parts.

        Args:
            store: Where versions come from.
            base: The encoder that versions are checked against.
            registry: Learns what is served.
            metrics: Counts loads and swaps.
            retry_seconds: Pause after the first failure of a version; it doubles with each further one.
            weights: The base's layers as the encoder that computes has them; without, in fp32.
        """
        self._store = store
        self._base = base
        self._registry = registry
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._weights = weights
        self._failures: dict[str, _Failure] = {}

    def is_served(self, version: VersionInfo) -> bool:
        """Tell whether this version is the one in service."""
        served = self._registry.entry(version.task).served
        return served is not None and (served.digest, served.version) == (version.digest, version.number)

    def may_try(self, version: VersionInfo) -> bool:
        """Tell whether the version has not failed before, or failed long enough ago."""
        failure = self._failures.get(version.task)
        return failure is None or failure.digest != version.digest or time.monotonic() >= failure.retry_at

    def check(self, bundle: MaskBundle) -> LoadedTask:
        """Check a bundle against the base, and make of it what can be put in service.

        Raises:
            MaskingError: It does not fit the base.
        """
        return load_task(bundle, self._base, self._weights)

    def serve(
        self,
        version: VersionInfo,
        asked: float,
        *,
        bundle: MaskBundle | None = None,
        found_current: bool = False,
    ) -> ServedTask:
        """Load a version and put it in service, unless it is already.

        Args:
            version: The version.
            asked: When it was asked for, in monotonic seconds; a failure after that is this caller's, too.
            bundle: Its bundle, where the caller has it; else it is read from the store.
            found_current: Whether it is wanted only because a look at the store, which may be some time ago,
                found it to be the current one.

        Raises:
            TaskUnavailableError: It can't be loaded; the version in service, if any, stays in service.
            MaskStoreError: It was found current, and it is gone by now; nothing is reported.
        """
        name, served = version.task, self._registry.entry(version.task).served
        if served is not None and self.is_served(version):
            self._failures.pop(name, None)
            if found_current:
                self._registry.clear_problem(name)
            else:  # asked for now: a look that began before is too old to replace it
                served = replace(served, since=time.monotonic())
                self._registry.put(served)
            return served
        failure = self._failures.get(name)
        if failure is not None and failure.digest == version.digest and failure.failed_at >= asked:
            # tried, and failed, while this caller waited for its turn
            raise TaskUnavailableError(failure.message)
        self._registry.expect([name])
        started = time.monotonic()
        try:
            loaded = self._known(version) or self.check(bundle or self._store.load(version))
        except Exception as error:
            if found_current and isinstance(error, MissingBundleError) and self._moved_on(version):
                raise
            raise self._failed(version, error, started) from error
        return self.put(version, loaded, started)

    def put(self, version: VersionInfo, loaded: LoadedTask, started: float) -> ServedTask:
        """Put what was loaded of a version in service.

        Args:
            version: The version.
            loaded: What `check` made of its bundle.
            started: When loading began, in monotonic seconds.
        """
        seconds = time.monotonic() - started
        task = ServedTask(version.task, version.number, loaded, datetime.now(UTC), seconds)
        self._failures.pop(task.name, None)
        self._registry.put(task)
        self._metrics.count_load("ok", seconds)
        self._metrics.count_swap(task.name, task.version)
        logger.info("task %s: serving version %d (%s)", task.name, task.version, task.digest[:19])
        return task

    def beside(self, version: VersionInfo, bundle: MaskBundle | None = None) -> ServedTask:
        """Return a version that is to be served beside others: the one in service, or one that is loaded.

        Nothing is put in service or reported.

        Args:
            version: The version.
            bundle: Its bundle, where the caller has it; else it is read from the store.

        Raises:
            MaskStoreError, MaskingError: It can't be loaded.
        """
        for served in self._registry.entry(version.task).versions:
            if (served.version, served.digest) == (version.number, version.digest):
                return served
        started = time.monotonic()
        loaded = self._known(version) or self.check(bundle or self._store.load(version))
        seconds = time.monotonic() - started
        self._metrics.count_load("ok", seconds)
        return ServedTask(version.task, version.number, loaded, datetime.now(UTC), seconds)

    def _known(self, version: VersionInfo) -> LoadedTask | None:
        """Return what is loaded already of the same bundle, be it under another number."""
        versions = self._registry.entry(version.task).versions
        return next((one.loaded for one in versions if one.digest == version.digest), None)

    def forget(self, name: str) -> None:
        """Forget what was kept about a task that is not served any more."""
        self._failures.pop(name, None)
        self._metrics.forget(name)

    def _moved_on(self, version: VersionInfo) -> bool:
        """Tell whether the store does not call this version current any more.

        If so, nothing is wrong with the task; it has no entry if the store lost it before it was ever served.
        """
        name = version.task
        try:
            if self._store.current(name) == version:
                return False
        except UnknownTaskError:
            if self._registry.entry(name).served is None:
                self._registry.remove(name)
                return True
        except MaskStoreError:
            return False
        self._registry.clear_problem(name)  # the next look finds what is current
        return True

    def _failed(self, version: VersionInfo, error: Exception, started: float) -> TaskUnavailableError:
        """Note a failure; the version in service, if any, stays in service."""
        name, now = version.task, time.monotonic()
        before = self._failures.get(name)
        attempts = before.attempts + 1 if before is not None and before.digest == version.digest else 1
        pause = min(self._retry_seconds * 2.0 ** min(attempts, 64), _LONGEST_PAUSE_SECONDS)
        expected = isinstance(error, MaskStoreError | MaskingError)
        if isinstance(error, BundleError | MaskingError):
            pause = math.inf  # the same bytes would fail in the same way
        problem = TaskProblem(version.number, public_reason(error))
        refusal = TaskUnavailableError(f"task {name!r} could not be loaded: {problem}")
        self._failures[name] = _Failure(version.digest, attempts, now, now + pause, refusal.message)
        if attempts == 1:
            logger.error(
                "task %s: version %d can't be loaded: %s",
                name,
                version.number,
                error,
                exc_info=None if expected else error,
            )
            self._metrics.count_load_failure(name)
        self._metrics.count_load("failed", now - started)
        self._registry.report(name, problem)
        return refusal


def public_reason(error: Exception) -> str:
    """Say what is wrong with a bundle, but nothing about places and machinery: clients may read it."""
    kind = type(error).__name__
    if isinstance(error, BundleError | MaskingError):
        return f"{kind}: {error}"
    if isinstance(error, MaskStoreError):
        return f"{kind}: the store could not hand out this version"
    return "internal error; the server's log has the details"
