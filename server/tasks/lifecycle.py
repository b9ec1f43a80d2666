"""How tasks come and go: the one place that loads versions and puts them in service or takes them out.

The store watcher and the routes of operators both come here, from threads of their own; neither the event
loop nor the worker ever waits. Each task has its turn: what is done to one task is done one after the other,
so two callers that want the same version share one load, and no task waits for another. A version is read
and checked whole before one reference in the registry is swapped; requests in flight keep what they took,
and with the last of them the old version is freed. What an operator wants (unloaded, pinned) lives as long as
this process. Who may ask for it is decided elsewhere.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import BinaryIO
from weakref import WeakValueDictionary

from mask_store import (
    BundleError,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    RecordError,
    StoreError,
    UnknownTaskError,
    VersionInfo,
)
from masking import Base, LoadedTask, MaskingError, load_task
from masking.kernels import Kernels
from server.errors import (
    ConflictError,
    InvalidBodyError,
    ServerError,
    TaskNotFoundError,
    TaskUnavailableError,
)
from server.tasks.registry import ServedTask, TaskEntry, TaskProblem, TaskRegistry
from server.tasks.store_errors import from_store
from server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded, when it was tried last, and when to try again."""

    digest: str
    attempts: int
    failed_at: float
    retry_at: float
    message: str


@dataclass(frozen=True)
class Publication:
    """What became of an upload.

    Attributes:
        version: The version in the store that holds it, current now.
        created: Whether it is a new version; not so if the store's current one was the same bundle.
        served: What this server serves now: that version, or the one that it is pinned to.
    """

    version: VersionInfo
    created: bool
    served: ServedTask


class Lifecycle:
    """Puts tasks in service and takes them out; safe to call from any thread.

    Public methods raise subclasses of ServerError only. `load`, `pin`, `rollback` and `publish` put a task in
    service that was unloaded.
    """

    def __init__(
        self,
        store: MaskStore,
        base: Base,
        registry: TaskRegistry,
        metrics: Metrics,
        *,
        retry_seconds: float,
        kernels: Kernels = "auto",
    ) -> None:
        """Connects the parts.

        Args:
            store: Where versions come from and uploads go.
            base: The encoder that versions are checked against.
            registry: Told what is served.
            metrics: Told about loads and swaps.
            retry_seconds: Pause after the first failure of a version; it doubles with each further one.
            kernels: With "off" tasks are loaded to be computed without a kernel.
        """
        self._store = store
        self._base = base
        self._registry = registry
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._kernels = kernels
        self._failures: dict[str, _Failure] = {}
        self._turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._guard = Lock()

    def load(self, name: str) -> ServedTask:
        """Serve the version that the store calls current, or the one that the task is pinned to.

        Returns:
            The version in service: it can be computed from now on.

        Raises:
            TaskNotFoundError: The store has no such task.
            TaskUnavailableError: The version can't be loaded; what was served before still is.
            StoreUnreachableError: The store can't be read.
        """
        asked = time.monotonic()
        with self._turn(name):
            return self._serve(name, self._store.version(name, self._pinned(name)), asked)

    def unload(self, name: str) -> None:
        """Take a task out of service until somebody loads it; it stays in the store.

        Requests that took it before are answered. A pin is forgotten.

        Raises:
            TaskNotFoundError: There is no such task.
            StoreUnreachableError: The store can't be read, and the task was not in service.
        """
        with self._turn(name):
            if name not in self._registry.entries:
                self._store.current(name)
            self._registry.unload(name)
            self._let_go(name)
            logger.info("task %s: unloaded", name)

    def pin(self, name: str, version: int | None) -> ServedTask:
        """Keep serving one version although the store's current one moves; None follows the store again.

        Returns:
            The version in service now.

        Raises:
            TaskNotFoundError: The store has no such task.
            VersionNotFoundError: The task has no such version.
            TaskUnavailableError: The version can't be loaded; nothing is changed then.
            StoreUnreachableError: The store can't be read.
        """
        asked = time.monotonic()
        with self._turn(name):
            served = self._serve(name, self._store.version(name, version), asked)
            self._registry.pin(name, version)
            logger.info(
                "task %s: %s", name, "unpinned" if version is None else f"pinned to version {version}"
            )
            return served

    def rollback(self, name: str, version: int | None = None) -> ServedTask:
        """Make another version current in the store, and serve it.

        Args:
            name: The task.
            version: Which one; None for the newest before the current one with other contents.

        Returns:
            The version in service now.

        Raises:
            ConflictError: The task is pinned, there is no earlier version, or its file is damaged.
            TaskNotFoundError: The store has no such task.
            VersionNotFoundError: The task has no such version.
            StoreReadOnlyError: The server may not write to the store.
            TaskUnavailableError: The version does not fit the base; what was served before still is.
            StoreUnreachableError: The store can't be used.
        """
        asked = time.monotonic()
        with self._turn(name):
            if (pinned := self._pinned(name)) is not None:
                raise ConflictError(
                    f"task {name!r} is pinned to version {pinned}; unpin it first: "
                    f'POST /tasks/{name}/pin with {{"version": null}}'
                )
            return self._serve(name, self._store.rollback(name, version), asked)

    def publish(self, name: str, bundle: bytes | BinaryIO) -> Publication:
        """Check an uploaded bundle whole, publish it in the store, and serve it unless the task is pinned.

        Nothing is written before the bundle proved valid, for this task and for this base. Publishing what is
        current already makes no new version.

        Args:
            name: The task; the bundle's manifest must name the same.
            bundle: The bytes of a bundle file, or a stream of them that is read to its end.

        Raises:
            InvalidBodyError: It is no valid bundle, of another task, or for another base.
            StoreReadOnlyError: The server may not write to the store.
            InsufficientStorageError: The store has no space left.
            StoreUnreachableError: The store can't be used.
        """
        started = time.monotonic()
        with self._turn(name):
            checked = MaskBundle.from_bytes(bundle if isinstance(bundle, bytes) else bundle.read())
            if checked.manifest.task != name:
                raise InvalidBodyError(f"this is a bundle of task {checked.manifest.task!r}, not of {name!r}")
            loaded = load_task(checked, self._base, kernels=self._kernels)
            before = self._current_or_none(name)
            version = self._store.publish(checked)
            if self._pinned(name) is None and not self._is_served(version):
                self._put(version, loaded, started)
            return Publication(version, version != before, self._registry.get(name))

    def delete(self, name: str) -> None:
        """Remove a task with all its versions from the store, and serve it no longer.

        Raises:
            TaskNotFoundError: The store has no such task.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        with self._turn(name):
            self._store.delete(name)
            self._registry.remove(name)
            self._let_go(name)
            logger.info("task %s: deleted", name)

    def is_due(self, name: str, version: VersionInfo) -> bool:
        """Whether a look at the store that found `version` current is a reason to `refresh` the task."""
        entry, failure = self._registry.entries.get(name, TaskEntry()), self._failures.get(name)
        if entry.unloaded or entry.pinned is not None:
            return False
        if self._is_served(version):
            return entry.problem is not None
        return failure is None or failure.digest != version.digest or time.monotonic() >= failure.retry_at

    def refresh(self, name: str) -> None:
        """Bring one task to the version that the store calls current now; trouble is reported, not raised."""
        asked = time.monotonic()
        with suppress(ServerError), self._turn(name):
            version = self._store.current(name)
            if self.is_due(name, version):  # an operator may have come first
                self._serve(name, version, asked)

    def report_unreadable(self, name: str, reason: str) -> None:
        """Note that the store can't tell the task's current version; what is served stays in service."""
        problem = TaskProblem(None, "its records in the store can't be read")
        with self._turn(name):
            entry = self._registry.entries.get(name, TaskEntry())
            if not entry.unloaded and entry.problem != problem:
                logger.error("task %s: %s", name, reason)
                self._metrics.count_load_failure(name)
                self._registry.report(name, problem)

    def drop_missing(self, name: str) -> None:
        """Serve a task no longer that the store does not have any more."""
        with suppress(ServerError), self._turn(name):
            try:
                self._store.current(name)
            except UnknownTaskError:
                self._store.check()  # a store that vanished as a whole takes no task away
                self._registry.remove(name)
                self._let_go(name)
                logger.info("task %s: not in the store any more, served no longer", name)

    def tidy(self) -> None:
        """Drop the metrics of tasks that are not in service."""
        self._metrics.retain({name for name, entry in self._registry.entries.items() if not entry.unloaded})

    def _current_or_none(self, name: str) -> VersionInfo | None:
        with suppress(UnknownTaskError, RecordError):
            return self._store.current(name)
        return None

    def _pinned(self, name: str) -> int | None:
        return self._registry.entries.get(name, TaskEntry()).pinned

    def _is_served(self, version: VersionInfo) -> bool:
        served = self._registry.tasks.get(version.task)
        return served is not None and (served.digest, served.version) == (version.digest, version.number)

    def _serve(self, name: str, version: VersionInfo, asked: float) -> ServedTask:
        """Put a version in service, unless it is already; `asked` is when the caller came."""
        served = self._registry.tasks.get(name)
        if served is not None and self._is_served(version):
            self._failures.pop(name, None)
            if name in self._registry.problems:
                self._registry.clear_problem(name)
            return served
        failure = self._failures.get(name)
        if failure is not None and failure.digest == version.digest and failure.failed_at >= asked:
            # tried, and failed, while this caller waited for its turn
            raise TaskUnavailableError(failure.message)
        self._registry.expect([name])
        started = time.monotonic()
        try:
            if served is not None and served.digest == version.digest:  # the same bundle under another number
                loaded = served.loaded
            else:
                loaded = load_task(self._store.load(name, version.number), self._base, kernels=self._kernels)
        except Exception as error:
            raise self._failed(version, error, started) from error
        return self._put(version, loaded, started)

    def _put(self, version: VersionInfo, loaded: LoadedTask, started: float) -> ServedTask:
        seconds = time.monotonic() - started
        task = ServedTask(version.task, version.number, loaded, datetime.now(UTC), seconds)
        self._failures.pop(task.name, None)
        self._registry.put(task)
        self.tidy()
        self._metrics.count_load("ok", seconds)
        self._metrics.count_swap(task.name)
        logger.info("task %s: serving version %d (%s)", task.name, task.version, task.digest[:19])
        return task

    def _failed(self, version: VersionInfo, error: Exception, started: float) -> TaskUnavailableError:
        """Note a failure; the version in service, if any, stays in service."""
        name, now = version.task, time.monotonic()
        before = self._failures.get(name)
        attempts = before.attempts + 1 if before is not None and before.digest == version.digest else 1
        pause = min(self._retry_seconds * 2**attempts, _LONGEST_PAUSE)
        problem = TaskProblem(version.number, _public_reason(error))
        refusal = TaskUnavailableError(f"task {name!r} could not be loaded: {problem}")
        self._failures[name] = _Failure(version.digest, attempts, now, now + pause, refusal.message)
        if attempts == 1:
            logger.error("task %s: version %d can't be loaded", name, version.number, exc_info=error)
            self._metrics.count_load_failure(name)
        self._metrics.count_load("failed", now - started)
        self._registry.report(name, problem)
        return refusal

    def _let_go(self, name: str) -> None:
        """Forget what was kept about a task that is served no longer."""
        self._failures.pop(name, None)
        self.tidy()

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """Hold the task's turn; errors of the store and of bundles become the server's."""
        with self._guard:
            turn = self._turns.setdefault(name, Lock())
        with turn:
            try:
                yield
            except (MaskStoreError, MaskingError) as error:
                raise self._refusal(name, error) from error

    def _refusal(self, name: str, error: MaskStoreError | MaskingError) -> ServerError:
        if not isinstance(error, UnknownTaskError):
            return from_store(error)
        try:
            self._store.check()
        except StoreError as gone:
            return from_store(gone)
        return TaskNotFoundError(f"the store has no task {name!r:.80}")


def _public_reason(error: Exception) -> str:
    """What a client may know: what is wrong with a bundle, but nothing about places and machinery."""
    kind = type(error).__name__
    if isinstance(error, BundleError | MaskingError):
        return f"{kind}: {error}"
    if isinstance(error, MaskStoreError):
        return f"{kind}: the store could not hand out this version"
    return "internal error; the server's log has the details"
