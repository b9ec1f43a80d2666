"""Task loader: reads versions, checks them, and puts them in service.

A version is read and checked whole before one reference in the registry is swapped; requests in flight keep
what they took, and with the last of them the old version is freed. A version that can't be loaded is
reported. Where its bundle itself is wrong, it is not tried again until the store has another one; else after
a pause that doubles with each failure.
"""

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mask_store import (
    BundleError,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    MissingBundleError,
    RecordError,
    UnknownTaskError,
    VersionInfo,
)
from masking import Base, KnownTask, LoadedTask, MaskingError, know_task, load_task
from masking.inference import ResidentWeights, ready_task
from server.engine.ready_masks import ReadyMasks
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

    Attributes:
        masks: Those in memory.
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
        masks: ReadyMasks | None = None,
    ) -> None:
        """Connect the parts.

        Args:
            store: Where versions come from.
            base: The encoder that versions are checked against.
            registry: Learns what is served.
            metrics: Counts loads and swaps.
            retry_seconds: Pause after the first failure of a version; it doubles with each further one.
            weights: The base's layers as the encoder that computes has them; without, in fp32.
            masks: Those in memory, which are loaded here from now on; without, any number of them.
        """
        self._store = store
        self._base = base
        self._registry = registry
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._weights = weights or ResidentWeights(base.device)
        self.masks = masks or ReadyMasks(None, registry)
        self.masks.load_by(self._load_masks)
        registry.when_left(self.masks.drop)
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
        light: bool = False,
    ) -> ServedTask:
        """Load a version and put it in service, unless it is already.

        Args:
            version: The version.
            asked: When it was asked for, in monotonic seconds; a failure after that is this caller's, too.
            bundle: Its bundle, where the caller has it; else it is read from the store.
            found_current: Whether it is wanted only because a look at the store, which may be some time ago,
                found it to be the current one.
            light: Whether no more than the manifest is read now of a task that has no version in service.

        Raises:
            TaskUnavailableError: It can't be loaded; the version in service, if any, stays in service.
            MaskStoreError: It was found current, and it is gone by now; nothing is reported.
        """
        name, served = version.task, self._registry.entry(version.task).served
        if served is not None and self.is_served(version):
            self._bring_masks(served, found_current=found_current)
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
            loaded: KnownTask | None = self._known(version)
            if loaded is None and light and served is None:
                loaded = know_task(self._store.describe(version), version.digest, self._base)
            elif loaded is None:
                loaded = self.check(bundle or self._store.load(version))
        except Exception as error:
            if found_current and isinstance(error, MissingBundleError) and self._moved_on(version):
                raise
            raise self.failed(version, error, started) from error
        return self.put(version, loaded, started, evict=not found_current)

    def put(
        self, version: VersionInfo, loaded: KnownTask, started: float, *, evict: bool = True
    ) -> ServedTask:
        """Put what was loaded of a version in service.

        Args:
            version: The version.
            loaded: What `check` made of its bundle, or what is known of it; its masks stay in memory if there
                is room for them.
            started: When loading began, in monotonic seconds.
            evict: Whether masks of other tasks may go for them. They go anyway for a task that was ready, or
                whose masks are kept.
        """
        seconds = time.monotonic() - started
        before = self._registry.entry(version.task).served
        if isinstance(loaded, LoadedTask):
            was_ready = before is not None and self.masks.state(before.digest) == "ready"
            self.masks.put(loaded, evict=evict or was_ready or self._registry.keeps(version.task))
            loaded = loaded.known
        now = datetime.now(UTC)
        task = ServedTask(version.task, version.number, loaded, now, seconds, source=version)
        self._failures.pop(task.name, None)
        self._registry.put(task)
        self._metrics.count_load("ok", seconds)
        self._metrics.count_swap(task.name, task.version)
        logger.info("task %s: serving version %d (%s)", task.name, task.version, task.digest[:19])
        return task

    def beside(self, version: VersionInfo, bundle: MaskBundle | None = None) -> ServedTask:
        """Return a version that is to be served beside others: the one in service, or one that is loaded.

        Nothing is put in service or reported. Its masks are in memory if there is room; `drop_unused`
        lets go of them if it does not come into service.

        Args:
            version: The version.
            bundle: Its bundle, where the caller has it; else it is read from the store.

        Raises:
            MaskStoreError, MaskingError: It can't be loaded.
        """
        for served in self._registry.entry(version.task).versions:
            if (served.version, served.digest) == (version.number, version.digest):
                return served
        started, loaded = time.monotonic(), self._known(version)
        if loaded is None:
            task = self.check(bundle or self._store.load(version))
            self.masks.put(task, evict=True)
            loaded = task.known
        seconds = time.monotonic() - started
        self._metrics.count_load("ok", seconds)
        now = datetime.now(UTC)
        return ServedTask(version.task, version.number, loaded, now, seconds, source=version)

    def drop_unused(self, loaded: Iterable[ServedTask]) -> None:
        """Let go of the masks of those versions that did not come into service."""
        for one in loaded:
            if not self._registry.serves(one.name, one.digest):
                self.masks.drop(one.digest)

    def _known(self, version: VersionInfo) -> KnownTask | None:
        """Return what is known already of the same bundle, be it under another number."""
        versions = self._registry.entry(version.task).versions
        return next((one.loaded for one in versions if one.digest == version.digest), None)

    def forget(self, name: str) -> None:
        """Forget what was kept about a task that is not served any more."""
        self._failures.pop(name, None)
        self._metrics.forget(name)

    def _bring_masks(self, served: ServedTask, *, found_current: bool) -> None:
        """Have the masks of a version in service loaded, where that is asked for or failed before.

        Raises:
            TaskUnavailableError: They can't be loaded; that is reported.
        """
        failure = self._failures.get(served.name)
        failed = failure is not None and failure.digest == served.digest
        if failure is not None and failed:
            self._failures[served.name] = replace(failure, retry_at=0.0)
        if (failed or not found_current) and self.masks.state(served.digest) != "ready":
            self.masks.load(served).result()

    def _load_masks(self, served: ServedTask) -> LoadedTask:
        """Read and check the bundle of a version, and ready its masks.

        Raises:
            TaskUnavailableError: It can't be loaded, or could not be shortly before. If the version is in
                service, that is reported; it stays in service.
        """
        name, known, failure = served.name, served.loaded, self._failures.get(served.name)
        if failure is not None and failure.digest == served.digest and time.monotonic() < failure.retry_at:
            raise TaskUnavailableError(failure.message)
        started = time.monotonic()
        version: VersionInfo | None = served.source
        try:
            version = version or self._store.version(name, served.version)
            bundle = self._store.load(version)
            if not known.is_of(bundle.manifest):
                raise RecordError(f"{version}: its manifest is not the one that was read of it first")
            task = ready_task(known, bundle, self._weights)
        except Exception as error:
            raise self._masks_failed(served, error, started) from error
        if failure is not None and failure.digest == served.digest:
            self._failures.pop(name, None)
            self._registry.clear_problem(name)
        self._metrics.count_load("ok", time.monotonic() - started)
        return task

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

    def _masks_failed(self, served: ServedTask, error: Exception, started: float) -> TaskUnavailableError:
        """Note that the masks of a version in service can't be loaded; nothing of another one."""
        if self._registry.serves(served.name, served.digest):
            return self.failed(served, error, started)
        self._metrics.count_load("failed", time.monotonic() - started)
        problem = TaskProblem(served.version, public_reason(error))
        return TaskUnavailableError(f"task {served.name!r} could not be loaded: {problem}")

    def failed(
        self, version: VersionInfo | ServedTask, error: Exception, started: float
    ) -> TaskUnavailableError:
        """Note a failure; the version in service, if any, stays in service.

        Args:
            version: What could not be loaded.
            error: Why.
            started: When loading began, in monotonic seconds.

        Returns:
            What to raise.
        """
        if isinstance(version, ServedTask):
            name, number = version.name, version.version
        else:
            name, number = version.task, version.number
        now = time.monotonic()
        before = self._failures.get(name)
        attempts = before.attempts + 1 if before is not None and before.digest == version.digest else 1
        pause = pause_after(error, attempts, self._retry_seconds)
        expected = isinstance(error, MaskStoreError | MaskingError)
        problem = TaskProblem(number, public_reason(error))
        refusal = TaskUnavailableError(f"task {name!r} could not be loaded: {problem}")
        self._failures[name] = _Failure(version.digest, attempts, now, now + pause, refusal.message)
        if attempts == 1:
            logger.error(
                "task %s: version %d can't be loaded: %s",
                name,
                number,
                error,
                exc_info=None if expected else error,
            )
            self._metrics.count_load_failure(name)
        self._metrics.count_load("failed", now - started)
        self._registry.report(name, problem)
        return refusal


def pause_after(error: Exception, attempts: int, seconds: float) -> float:
    """Return how long a version that can't be loaded rests, in seconds.

    Args:
        error: Why it can't.
        attempts: How many times the pause doubles, up to a minute.
        seconds: Pause before it doubles.

    Returns:
        The pause; infinite where the same bytes would fail in the same way.
    """
    if isinstance(error, BundleError | MaskingError):
        return math.inf
    return min(seconds * 2.0 ** min(attempts, 64), _LONGEST_PAUSE_SECONDS)


def public_reason(error: Exception) -> str:
    """Say what is wrong with a bundle, but nothing about places and machinery: clients may read it."""
    kind = type(error).__name__
    if isinstance(error, BundleError | MaskingError):
        return f"{kind}: {error}"
    if isinstance(error, MaskStoreError):
        return f"{kind}: the store could not hand out this version"
    return "internal error; the server's log has the details"
