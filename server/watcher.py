"""Looks at the store every second and puts in service what changed, off the request path.

One thread does all loading, so a version is never loaded twice at once. A version is read, checked whole and
only then swapped in; if anything is wrong the version in service stays, the reason is reported, and another
attempt is made later, less and less often. A store that can't be read changes nothing.
"""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

from mask_store import BundleError, MaskStore, MaskStoreError, StoreError, VersionInfo
from masking import Base, MaskingError, load_task
from server.cache import MaskCache
from server.metrics import Metrics
from server.registry import ServedTask, TaskProblem, TaskRegistry

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded, and when to try again."""

    digest: str
    attempts: int
    retry_at: float


class StoreWatcher:
    """Keeps the registry in step with the store."""

    def __init__(
        self,
        place: str,
        base: Base,
        registry: TaskRegistry,
        cache: MaskCache,
        metrics: Metrics,
        *,
        poll_seconds: float,
    ) -> None:
        """Connects the parts; no thread runs yet.

        Raises:
            StoreError: There is no store at `place`, or it can't be read.
        """
        self._place = place
        self._store = MaskStore.open(place)
        self._base = base
        self._registry = registry
        self._cache = cache
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._failures: dict[str, _Failure] = {}
        self._readable = True
        self._first_pass = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._watch, name="store-watcher", daemon=True)

    @property
    def first_pass_done(self) -> bool:
        """Whether every task found at start is loaded or reported."""
        return self._first_pass.is_set()

    @property
    def alive(self) -> bool:
        """Whether the store is being watched."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop watching; waits for a load in progress, but not longer than `seconds`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def poll(self) -> None:
        """Look at the store once and load what changed."""
        try:
            snapshot = self._store.snapshot()
            gone = self._known() - snapshot.current.keys() - {problem.task for problem in snapshot.problems}
            if gone:
                MaskStore.open(self._place)  # if the store vanished while it was read, nothing is removed
        except (StoreError, OSError) as error:
            self._note_store(readable=False, why=error)
            return
        self._note_store(readable=True)
        for name in gone:
            self._remove(name)
        for problem in snapshot.problems:
            self._report_unreadable(problem.task, problem.message)
        for name, version in snapshot.current.items():
            if self._stopping.is_set():
                return
            self._follow(name, version)
        self._cache.retain({task.digest for task in self._registry.tasks.values()})
        self._first_pass.set()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:
                logger.exception("looking at the store failed; trying again")
            self._stopping.wait(self._poll_seconds)

    def _known(self) -> set[str]:
        return {*self._registry.tasks, *self._registry.problems}

    def _follow(self, name: str, version: VersionInfo) -> None:
        """Bring one task to the version that the store calls current."""
        served = self._registry.tasks.get(name)
        if served is not None and (served.digest, served.version) == (version.digest, version.number):
            if name in self._registry.problems:
                self._registry.clear_problem(name)
                self._failures.pop(name, None)
            return
        failure = self._failures.get(name)
        if failure is not None and failure.digest == version.digest and time.monotonic() < failure.retry_at:
            return
        try:
            task = self._load(name, version)
        except Exception as error:
            self._failed(name, version, error)
            return
        self._failures.pop(name, None)
        self._registry.put(task)
        self._metrics.count_swap(name)
        logger.info("task %s: serving version %d (%s)", name, version.number, version.digest[:19])

    def _load(self, name: str, version: VersionInfo) -> ServedTask:
        started = time.monotonic()
        served = self._registry.tasks.get(name)
        if served is not None and served.digest == version.digest:  # the same bundle under another number
            loaded = served.loaded
        else:
            loaded = load_task(self._store.load(name, version.number), self._base)
        return ServedTask(name, version.number, loaded, datetime.now(UTC), time.monotonic() - started)

    def _failed(self, name: str, version: VersionInfo, error: Exception) -> None:
        before = self._failures.get(name)
        attempts = before.attempts + 1 if before is not None and before.digest == version.digest else 1
        pause = min(self._poll_seconds * 2**attempts, _LONGEST_PAUSE)
        self._failures[name] = _Failure(version.digest, attempts, time.monotonic() + pause)
        if attempts == 1:
            logger.error("task %s: version %d can't be loaded", name, version.number, exc_info=error)
            self._metrics.count_load_failure(name)
        self._registry.report(name, TaskProblem(version.number, _public_reason(error)))

    def _report_unreadable(self, name: str, reason: str) -> None:
        problem = TaskProblem(None, "its records in the store can't be read")
        if self._registry.problems.get(name) != problem:
            logger.error("task %s: %s", name, reason)
            self._metrics.count_load_failure(name)
            self._registry.report(name, problem)

    def _remove(self, name: str) -> None:
        self._registry.remove(name)
        self._metrics.forget(name)
        self._failures.pop(name, None)
        logger.info("task %s: not in the store any more, served no longer", name)

    def _note_store(self, *, readable: bool, why: Exception | None = None) -> None:
        self._metrics.store_seen(readable=readable)
        if readable != self._readable:
            if readable:
                logger.info("the store can be read again")
            else:
                logger.error("the store can't be read; loaded tasks are served as before: %s", why)
        self._readable = readable


def _public_reason(error: Exception) -> str:
    """What a client may know: what is wrong with a bundle, but nothing about places and machinery."""
    kind = type(error).__name__
    if isinstance(error, BundleError | MaskingError):
        return f"{kind}: {error}"
    if isinstance(error, MaskStoreError):
        return f"{kind}: the store could not hand out this version"
    return "internal error; the server's log has the details"
