"""Store watcher: looks at the store again and again and has what changed loaded, off the request path.

It only finds out what there is to do; `Lifecycle` does it, in several threads where there is much to load. A
store that can't be read changes nothing.
"""

import ctypes
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from threading import Event

from mask_store import MaskStore, Snapshot, StoreError, VersionInfo
from server.supervision import SupervisedThread
from server.tasks.lifecycle import Lifecycle
from server.tasks.registry import TaskRegistry
from server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_TASKS_PER_PROGRESS_LINE = 100
_PAUSE_OVER_LOOK = 50
"""A pause is at least this many times the processor time of the look before it."""


class StoreWatcher:
    """Keeps what is served in step with the store."""

    def __init__(
        self,
        store: MaskStore,
        lifecycle: Lifecycle,
        registry: TaskRegistry,
        metrics: Metrics,
        *,
        poll_seconds: float,
        load_threads: int = 1,
    ) -> None:
        """Connect the parts; no thread runs yet."""
        self._store = store
        self._lifecycle = lifecycle
        self._registry = registry
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._load_threads = load_threads
        self._look_seconds = 0.0
        self._readable = True
        self._first_pass_done = False
        self._settled = Event()
        self._stopping = Event()
        self.thread = SupervisedThread("store watcher", self._watch)

    @property
    def first_pass_done(self) -> bool:
        """Whether every task found at start is loaded or reported."""
        return self._first_pass_done

    @property
    def alive(self) -> bool:
        """Whether the store is being watched."""
        return self.thread.alive

    def wait_for_first_pass(self) -> None:
        """Wait until every task found at start is loaded or reported, or the watch is closed."""
        self._settled.wait()

    @property
    def pause_seconds(self) -> float:
        """How long until the next look at the store."""
        return max(self._poll_seconds, _PAUSE_OVER_LOOK * self._look_seconds)

    def start(self) -> None:
        """Start watching."""
        self.thread.start()

    def close(self, seconds: float) -> None:
        """Stop watching; waits for a load in progress, but not longer than `seconds`."""
        self._stopping.set()
        self._settled.set()
        self.thread.stop()
        self.thread.join(seconds)

    def poll(self) -> None:
        """Look at the store once and load what changed."""
        seen, started = time.monotonic(), time.thread_time()
        try:
            snapshot = self._store.snapshot()
            self._look_seconds = time.thread_time() - started
            gone = self._registry.entries.keys() - _names(snapshot)
            if gone:
                self._store.check()  # if the store vanished while it was read, nothing is removed
        except (StoreError, OSError) as error:
            self._note_store(readable=False, why=error)
            return
        self._note_store(readable=True)
        for name in gone:
            self._lifecycle.drop_missing(name)
        for problem in snapshot.problems:
            self._lifecycle.report_unreadable(problem.task, problem.message)
        due = [version for version in snapshot.current.values() if self._lifecycle.is_due(version, seen)]
        self._load(due, seen)
        self._metrics.retain({name for name, entry in self._registry.entries.items() if not entry.unloaded})
        self._first_pass_done |= not self._stopping.is_set()
        self._settled.set()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:
                logger.exception("looking at the store failed; trying again")
            self._stopping.wait(self.pause_seconds)

    def _load(self, due: Sequence[VersionInfo], seen: float) -> None:
        if not due:
            return
        self._registry.expect(v.task for v in due if not self._registry.knows(v.task))
        with ThreadPoolExecutor(self._load_threads, thread_name_prefix="loader") as loaders:
            loads = [loaders.submit(self._refresh, version, seen) for version in due]
            for done, load in enumerate(as_completed(loads), 1):
                load.result()
                if done % _TASKS_PER_PROGRESS_LINE == 0:
                    logger.info("%d of %d tasks loaded or reported", done, len(due))
        _trim_heap()

    def _refresh(self, version: VersionInfo, seen: float) -> None:
        if not self._stopping.is_set():
            self._lifecycle.refresh(version, seen)

    def _note_store(self, *, readable: bool, why: Exception | None = None) -> None:
        self._metrics.store_seen(readable=readable)
        if readable != self._readable:
            if readable:
                logger.info("the store can be read again")
            else:
                logger.error("the store can't be read; loaded tasks are served as before: %s", why)
        self._readable = readable


def _trim_heap() -> None:
    """Return what was freed to the system, where the C library can: reading bundles leaves holes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _names(snapshot: Snapshot) -> set[str]:
    return {*snapshot.current, *(problem.task for problem in snapshot.problems)}
