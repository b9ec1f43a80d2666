"""Task lifecycle: what operators and the store watcher do to tasks, one thing after another for each task.

Load, unload, pin, rollback, publish and delete come from operators, refresh and what goes with it from the
watcher, all from threads of their own; neither the event loop nor the worker ever waits. Each task has its
turn: two callers that want the same version share one load, and no task waits for another. What an operator
wants is written to the store first, which every server follows.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO
from weakref import WeakValueDictionary

from mask_store import (
    Hold,
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
from server.tasks.audit import followed
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
        served: What is served now: that version, or the one that the task is pinned to.
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

        Of a task with traffic that is the stable one; the next look at the store brings the others.

        Returns:
            The version in service: it can be computed from now on.

        Raises:
            TaskNotFoundError: The store has no such task.
            TaskUnavailableError: The version can't be loaded; what was served before still is.
            StoreReadOnlyError: The task is unloaded, and the server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        asked = time.monotonic()
        with self.turn(name):
            self._end_unload(name)
            return self._loader.serve(self._store.version(name, self._wanted(name)), asked)

    def unload(self, name: str) -> TaskEntry:
        """Take a task out of service on every server until somebody loads it; it stays in the store.

        Requests that took it before are answered. A pin is forgotten.

        Returns:
            What the server knows about the task from now on.

        Raises:
            TaskNotFoundError: The store has no such task.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        with self.turn(name):
            self._store.unload(name)
            return self._unload(name)

    def pin(self, name: str, version: int | None) -> ServedTask:
        """Have every server keep to one version although the current one moves; None follows that again.

        Returns:
            The version in service now.

        Raises:
            TaskNotFoundError: The store has no such task.
            VersionNotFoundError: The task has no such version.
            ConflictError: The version's file is damaged; nothing is changed then.
            InvalidBodyError: The version does not fit the base; nothing is changed then.
            TaskUnavailableError: What is to be served after a pin can't be loaded.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        asked = time.monotonic()
        with self.turn(name):
            if version is None:
                self._store.release(name)
            else:
                self._store.pin(name, version, check=lambda _, bundle: self._loader.check(bundle))
            self._registry.pin(name, version)
            served = self._loader.serve(self._store.version(name, self._wanted(name)), asked)
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
        with self.turn(name):
            self.check_not_pinned(name)
            done = self._store.rollback_and_load(name, version)
            for problem in done.problems:
                logger.warning("task %s: the rollback passed over a version: %s", name, problem.message)
            self._end_unload(name)
            return self._loader.serve(done.version, asked, bundle=done.bundle)

    def publish(self, name: str, bundle: bytes | BinaryIO) -> Publication:
        """Check an uploaded bundle whole, publish it, and serve it unless the task is pinned or has traffic.

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
        with self.turn(name):
            checked = MaskBundle.from_bytes(bundle if isinstance(bundle, bytes) else bundle.read())
            if checked.manifest.task != name:
                raise InvalidBodyError(f"this is a bundle of task {checked.manifest.task!r}, not of {name!r}")
            loaded = self._loader.check(checked)
            before = self._current_or_none(name)
            version = self._store.publish(checked)
            self._end_unload(name)
            if self._wanted(name) is None and not self._loader.is_served(version):
                self._loader.put(version, loaded, started)
            return Publication(version, version != before, self._registry.get(name))

    def delete(self, name: str) -> None:
        """Remove a task with all its versions from the store, and stop serving it.

        Raises:
            TaskNotFoundError: The store has no such task.
            StoreReadOnlyError: The server may not write to the store.
            StoreUnreachableError: The store can't be used.
        """
        with self.turn(name):
            self._store.delete(name)
            self._registry.remove(name)
            self._loader.forget(name)
            logger.info("task %s: deleted", name)

    def check_not_pinned(self, name: str) -> None:
        """Make sure that other versions than one may be served.

        Raises:
            ConflictError: The task is pinned.
        """
        hold = self._store.hold(name)
        if hold is not None and hold.version is not None:
            raise ConflictError(
                f'task {name!r} is {hold}; unpin it first: POST /tasks/{name}/pin with {{"version": null}}'
            )

    def keeps_to(self, name: str, hold: Hold | None) -> bool:
        """Tell whether a task is pinned, unloaded or neither here, as it is in the store."""
        entry = self._registry.entry(name)
        if hold is None:
            return not entry.unloaded and entry.pinned is None
        if hold.version is None:
            return entry.unloaded
        served = entry.served
        return entry.pinned == hold.version and served is not None and served.version == hold.version

    def follow_hold(self, name: str, seen: float, *, first: bool = False) -> bool:
        """Pin or unload a task, or end that, as the store has it now; report trouble, raise none.

        Args:
            name: The task.
            seen: When the look began that found a difference, in monotonic seconds.
            first: As of `refresh`.

        Returns:
            Whether the task is held, so that nothing else decides what is served.
        """
        with suppress(ServerError), self.turn(name):
            hold = self._store.hold(name)  # an operator may have come first
            if not self.keeps_to(name, hold):
                with nullcontext() if first else followed(self._registry, name):
                    self._follow(name, hold, seen)
            return hold is not None
        return True

    def _follow(self, name: str, hold: Hold | None, seen: float) -> None:
        """Do what a hold in the store asks for; the task's turn is held.

        Raises:
            ServerError: The version can't be loaded.
        """
        if hold is None:
            self._registry.release(name)
            logger.info("task %s: released, as the store has it", name)
        elif hold.version is None:
            self._unload(name)
        else:
            version = self._store.version(name, hold.version)
            if self._loader.is_served(version) or self._loader.may_try(version):
                self._loader.serve(version, seen)
                self._registry.pin(name, hold.version)
                logger.info("task %s: %s, as the store has it", name, hold)

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

    def refresh(self, version: VersionInfo, seen: float, *, light: bool = False, first: bool = False) -> None:
        """Bring a task to the version that a look at the store found current; report trouble, raise none.

        A version that another server moved away from since the look may be served until the next look.

        Args:
            version: What the look found.
            seen: When it began, in monotonic seconds.
            light: Whether the masks of a task that is not served yet may wait for the first request.
            first: Whether it was the first look, which finds what was there at start and changes nothing.
        """
        with suppress(ServerError), self.turn(version.task):
            if self.is_due(version, seen):  # an operator may have come first
                with nullcontext() if first else followed(self._registry, version.task):
                    self._loader.serve(version, seen, found_current=True, light=light)

    def report_unreadable(self, name: str, reason: str) -> None:
        """Note that the store can't tell the task's current version; what is served stays in service.

        Does not wait: while something else is done with the task, it is left to the next look at the store.
        """
        problem = TaskProblem(None, "its records in the store can't be read")
        with suppress(TaskBusyError), self.turn(name, seconds=0):
            entry = self._registry.entry(name)
            if not entry.unloaded and entry.problem != problem:
                logger.error("task %s: %s", name, reason)
                self._metrics.count_load_failure(name)
                self._registry.report(name, problem)

    def drop_missing(self, name: str) -> None:
        """Stop serving a task that the store does not have any more."""
        with suppress(ServerError), self.turn(name):
            try:
                self._store.current(name)
            except UnknownTaskError:
                self._store.check()  # a store that vanished as a whole takes no task away
                with followed(self._registry, name):
                    self._registry.remove(name)
                self._loader.forget(name)
                logger.info("task %s: not in the store any more, served no longer", name)

    def _current_or_none(self, name: str) -> VersionInfo | None:
        with suppress(UnknownTaskError, RecordError):
            return self._store.current(name)
        return None

    def _unload(self, name: str) -> TaskEntry:
        entry = self._registry.unload(name)
        self._loader.forget(name)
        logger.info("task %s: unloaded", name)
        return entry

    def _end_unload(self, name: str) -> None:
        """Have a task served again that an operator unloaded."""
        hold = self._store.hold(name)
        if hold is not None and hold.version is None:
            self._store.release(name)
            self._registry.release(name)

    def _stable(self, name: str) -> int | None:
        """Return the stable version of the task's traffic; None if it has none.

        Where that can't be read, the traffic that is followed counts.
        """
        followed = self._registry.entry(name).traffic
        traffic = None if followed is None else followed.settings
        with suppress(RecordError):
            traffic = self._store.traffic(name)
        return traffic.stable if traffic is not None and traffic.active else None

    def _wanted(self, name: str) -> int | None:
        """Return the version that is to be served; None for the current one."""
        pinned = self._registry.entry(name).pinned
        return self._stable(name) if pinned is None else pinned

    @contextmanager
    def turn(self, name: str, seconds: float | None = None) -> Iterator[None]:
        """Hold the task's turn; errors of the store and of bundles become the server's.

        Raises:
            TaskBusyError: What else is done with the task does not end within `seconds`.
        """
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
