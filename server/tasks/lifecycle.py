"""Task lifecycle: what operators and the store watcher do to tasks, one thing after another for each task.

Load, unload, pin, rollback, publish and delete come from operators, refresh and what goes with it from the
watcher, all from threads of their own; neither the event loop nor the worker ever waits. Each task has its
turn: two callers that want the same version share one load, and no task waits for another. What an operator
wants (unloaded, pinned) lives as long as this process.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO
from weakref import WeakValueDictionary

from mask_store import (
    MaskBundle,
    MaskStore,
    MaskStoreError,
    RecordError,
    UnknownTaskError,
    VersionInfo,
)
from masking import MaskingError
from server.errors import (
    ConflictError,
    InvalidBodyError,
    ServerError,
    TaskBusyError,
)
from server.tasks.loader import TaskLoader
from server.tasks.registry import ServedTask, TaskEntry, TaskProblem, TaskRegistry
from server.tasks.store_errors import refusal
from server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_TURN_SECONDS = 30.0
"""How long an operator's request waits for what else is being done with its task."""


@dataclass(frozen=True)
class Publication:
    """Outcome of an upload.

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

    Public methods raise subclasses of ServerError only, and TaskBusyError where something else that is done
    with the task does not end. `load`, `pin`, `rollback` and `publish` put a task in service that was
    unloaded.
    """

    def __init__(
        self, store: MaskStore, loader: TaskLoader, registry: TaskRegistry, metrics: Metrics
    ) -> None:
        """Connect the parts.

        Args:
            store: Where versions come from and uploads go.
            loader: Loads versions and puts them in service.
            registry: Learns what is served.
            metrics: Counts tasks whose records can't be read.
        """
        self._store = store
        self._loader = loader
        self._registry = registry
        self._metrics = metrics
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
            return self._loader.serve(self._store.version(name, self._pinned(name)), asked)

    def unload(self, name: str) -> TaskEntry:
        """Take a task out of service until somebody loads it; it stays in the store.

        Requests that took it before are answered. A pin is forgotten.

        Returns:
            What the server knows about the task from now on.

        Raises:
            TaskNotFoundError: There is no such task.
            StoreUnreachableError: The store can't be read, and the task was not in service.
        """
        with self._turn(name):
            if not self._registry.knows(name):
                self._store.current(name)
            entry = self._registry.unload(name)
            self._loader.forget(name)
            logger.info("task %s: unloaded", name)
            return entry

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
            served = self._loader.serve(self._store.version(name, version), asked)
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
            done = self._store.rollback_and_load(name, version)
            for problem in done.problems:
                logger.warning("task %s: the rollback passed over a version: %s", name, problem.message)
            return self._loader.serve(done.version, asked, bundle=done.bundle)

    def publish(self, name: str, bundle: bytes | BinaryIO) -> Publication:
        """Check an uploaded bundle whole, publish it in the store, and serve it unless the task is pinned.

        Nothing is written before the bundle proved valid, for this task and for this base. Publishing what is
        current already makes no new version.

        Args:
            name: The task; the bundle's manifest must name the same.
            bundle: The bytes of a bundle file, or a stream of them that is read to its end.

        Raises:
            InvalidBodyError: It is not a valid bundle, or of another task, or for another base.
            StoreReadOnlyError: The server may not write to the store.
            InsufficientStorageError: The store has no space left.
            StoreUnreachableError: The store can't be used.
        """
        started = time.monotonic()
        with self._turn(name):
            checked = MaskBundle.from_bytes(bundle if isinstance(bundle, bytes) else bundle.read())
            if checked.manifest.task != name:
                raise InvalidBodyError(f"this is a bundle of task {checked.manifest.task!r}, not of {name!r}")
            loaded = self._loader.check(checked)
            before = self._current_or_none(name)
            version = self._store.publish(checked)
            if self._pinned(name) is None and not self._loader.is_served(version):
                self._loader.put(version, loaded, started)
            return Publication(version, version != before, self._registry.get(name))

    def delete(self, name: str) -> None:
        """Remove a task with all its versions from the store, and stop serving it.

        Raises:
            TaskNotFoundError: The store has no such task.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        with self._turn(name):
            self._store.delete(name)
            self._registry.remove(name)
            self._loader.forget(name)
            logger.info("task %s: deleted", name)

    def is_due(self, version: VersionInfo, seen: float) -> bool:
        """Tell whether a look at the store that found `version` current is a reason to `refresh` the task.

        Args:
            version: What the look found.
            seen: When it began, in monotonic seconds; a task that was put in service since is left to the
                next look.
        """
        entry = self._registry.entry(version.task)
        if entry.unloaded or entry.pinned is not None:
            return False
        if self._loader.is_served(version):
            return entry.problem is not None and self._loader.may_try(version)
        swapped_since = entry.served is not None and entry.served.since >= seen
        return not swapped_since and self._loader.may_try(version)

    def refresh(self, version: VersionInfo, seen: float, *, light: bool = False) -> None:
        """Bring a task to the version that a look at the store found current; report trouble, raise none.

        A version that another server moved away from since the look may be served until the next look.

        Args:
            version: What the look found.
            seen: When it began, in monotonic seconds.
            light: Whether the masks of a task that is not served yet may wait for the first request.
        """
        with suppress(ServerError), self._turn(version.task):
            if self.is_due(version, seen):  # an operator may have come first
                self._loader.serve(version, seen, found_current=True, light=light)

    def report_unreadable(self, name: str, reason: str) -> None:
        """Note that the store can't tell the task's current version; what is served stays in service.

        Does not wait: while something else is done with the task, it is left to the next look at the store.
        """
        problem = TaskProblem(None, "its records in the store can't be read")
        with suppress(TaskBusyError), self._turn(name, seconds=0):
            entry = self._registry.entry(name)
            if not entry.unloaded and entry.problem != problem:
                logger.error("task %s: %s", name, reason)
                self._metrics.count_load_failure(name)
                self._registry.report(name, problem)

    def drop_missing(self, name: str) -> None:
        """Stop serving a task that the store does not have any more."""
        with suppress(ServerError), self._turn(name):
            try:
                self._store.current(name)
            except UnknownTaskError:
                self._store.check()  # a store that vanished as a whole takes no task away
                self._registry.remove(name)
                self._loader.forget(name)
                logger.info("task %s: not in the store any more, served no longer", name)

    def _current_or_none(self, name: str) -> VersionInfo | None:
        with suppress(UnknownTaskError, RecordError):
            return self._store.current(name)
        return None

    def _pinned(self, name: str) -> int | None:
        return self._registry.entry(name).pinned

    @contextmanager
    def _turn(self, name: str, seconds: float | None = None) -> Iterator[None]:
        """Hold the task's turn; errors of the store and of bundles become the server's."""
        with self._guard:
            turn = self._turns.setdefault(name, Lock())
        if not turn.acquire(timeout=_TURN_SECONDS if seconds is None else seconds):
            raise TaskBusyError
        try:
            yield
        except (MaskStoreError, MaskingError) as error:
            raise refusal(self._store, name, error) from error
        finally:
            turn.release()
