"""Store watcher: looks at the store again and again and has what changed loaded, off the request path.

It only finds out what there is to do, and waits for nothing: `Rollouts` and `Lifecycle` do it, in threads of
`LoadPool`. A store that can't be read, or does not answer, changes nothing.
"""

import logging
import time
from collections.abc import Mapping, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Event

from mask_store import (
    Hold,
    MaskStore,
    MaskStoreError,
    Snapshot,
    StoreUnavailableError,
    Traffic,
)
from mask_store.background import in_background
from server.engine.ready_masks import ReadyMasks
from server.tasks.registry import TaskRegistry
from server.tasks.rollouts import Found, Rollouts
from server.telemetry.metrics import Metrics
from server.threads.load_pool import LoadPool
from server.threads.supervision import SupervisedThread

logger = logging.getLogger(__name__)

_PAUSE_OVER_LOOK = 50
"""A pause is at least this many times the processor time of the look before it."""
_LONGEST_RETRY_SECONDS = 5.0
"""After looks that failed the pause doubles up to this."""
_LOOK_SECONDS = 5.0
"""A look that takes longer than this counts as failed until it comes back."""
_ABANDON_SECONDS = 60.0
"""After this a look is given up, and another one begun."""
_FIRST_PASS_SECONDS = 30.0
"""A task whose first load takes longer than this does not keep the server from being ready."""
_EAGER_SECONDS = 5.0
"""For so long the first pass loads masks; of tasks that come later in it, it reads the manifests alone."""
_FILL = "(fill)"
_CLOSE_SECONDS = 2.0
_STEP_SECONDS = 0.05


@dataclass(frozen=True)
class _Look:
    """What a look at the store found.

    Attributes:
        seen: When it began, in monotonic seconds.
        snapshot: The current versions.
        gone: Tasks in service that the store does not have any more.
        work_seconds: The processor time that it took.
    """

    seen: float
    snapshot: Snapshot
    gone: Set[str]
    work_seconds: float


class StoreWatcher:
    """Keeps what is served in step with the store.

    Attributes:
        loads: Where tasks are loaded.
    """

    def __init__(
        self,
        store: MaskStore,
        rollouts: Rollouts,
        registry: TaskRegistry,
        metrics: Metrics,
        *,
        poll_seconds: float,
        load_threads: int = 1,
        masks: ReadyMasks | None = None,
    ) -> None:
        """Connect the parts; no thread runs yet.

        Args:
            store: What to look at.
            rollouts: Does what there is to do.
            registry: Knows what is served.
            metrics: Learn whether the store can be read.
            poll_seconds: Pause between looks.
            load_threads: How many versions are loaded at once.
            masks: Filled after the first pass, as far as there is room.
        """
        self._store = store
        self._rollouts = rollouts
        self._registry = registry
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._masks = masks
        self._eager_until: float | None = None
        self._work_seconds = 0.0
        self._failures = 0
        self._found_at_start: Set[str] | None = None
        self._first_pass_done = False
        self._settled = Event()
        self._stopping = Event()
        self.thread = SupervisedThread("store watcher", self._watch)
        self.loads = LoadPool(load_threads)

    @property
    def first_pass_done(self) -> bool:
        """Whether every task found at start is loaded or reported, or takes unreasonably long."""
        if not self._first_pass_done and self._found_at_start is not None and not self._stopping.is_set():
            self._first_pass_done = self._found_at_start.isdisjoint(self.loads.busy(_FIRST_PASS_SECONDS))
            if self._first_pass_done:
                self._settled.set()
                self.loads.submit(_FILL, self._fill)
        return self._first_pass_done

    @property
    def alive(self) -> bool:
        """Whether the store is being watched."""
        return self.thread.alive

    def wait_for_first_pass(self) -> None:
        """Wait until the first pass is done, or the watch is closed."""
        self._settled.wait()

    @property
    def pause_seconds(self) -> float:
        """How long until the next look at the store."""
        pause = max(self._poll_seconds, _PAUSE_OVER_LOOK * self._work_seconds)
        retry = self._poll_seconds * 2.0 ** min(self._failures, 64)
        return max(pause, min(retry, _LONGEST_RETRY_SECONDS)) if self._failures else pause

    def start(self) -> None:
        """Start watching."""
        self.thread.start()

    def close(self, seconds: float) -> None:
        """Stop watching; waits a moment for loads in progress, but not longer than `seconds`."""
        self._stopping.set()
        self._settled.set()
        self.thread.stop()
        self.thread.join(seconds)
        self.loads.close(min(seconds, _CLOSE_SECONDS))
        if self._masks is not None:
            self._masks.close(min(seconds, _CLOSE_SECONDS))

    def poll(self) -> None:
        """Look at the store once and have what changed loaded; does not wait for the loads."""
        try:
            look = self._wait_for(in_background(self._look, "store-look"))
        except Exception as error:
            self._note_failure(error)
            return
        if look is None:
            return
        self._note_success(look)
        for name in look.gone:
            self.loads.submit(name, partial(self._rollouts.lifecycle.drop_missing, name))
        for problem in look.snapshot.problems:
            self._rollouts.lifecycle.report_unreadable(problem.task, problem.message)
        traffic, holds = self._active_traffic(look.snapshot), self._holds(look.snapshot)
        found = [Found(v, traffic.get(name), holds.get(name)) for name, v in look.snapshot.current.items()]
        due = [one for one in found if self._rollouts.is_due(one, look.seen)]
        self._registry.expect(one.task for one in due if not self._registry.knows(one.task))
        if self._eager_until is None:
            self._eager_until = time.monotonic() + _EAGER_SECONDS
            due.sort(key=lambda one: not self._registry.keeps(one.task))
        first = self._found_at_start is None
        for one in due:
            self.loads.submit(one.task, partial(self._bring, one, look.seen, first=first))
        self._metrics.retain(
            lambda name: self._registry.knows(name) and not self._registry.entry(name).unloaded
        )
        if self._found_at_start is None:
            self._found_at_start = _names(look.snapshot)
        if self._masks is not None and self._first_pass_done:
            for served in self._registry.required:  # there may have been no room for them before
                self._masks.load(served)

    def _bring(self, found: Found, seen: float, *, first: bool) -> None:
        """Bring a task to what was found, without masks where the server would take too long to be ready."""
        assert self._eager_until is not None
        late = not self._first_pass_done and time.monotonic() >= self._eager_until
        light = late and not self._registry.keeps(found.task)
        self._rollouts.refresh(found, seen, light=light, first=first)

    def _fill(self) -> None:
        """Load masks that the first pass left out, while there is room."""
        for served in self._registry.tasks.values():
            if self._masks is None or self._stopping.is_set() or not self._masks.fill(served):
                return

    def _active_traffic(self, snapshot: Snapshot) -> Mapping[str, Traffic]:
        """Return the traffic of tasks that is active; where it can't be read, what is followed already."""
        active = {name: traffic for name, traffic in snapshot.traffic.items() if traffic.active}
        self._rollouts.forget_unreadable(active)
        followed = self._registry.traffic
        for problem in snapshot.unreadable:
            self._rollouts.report_unreadable(problem.task, problem.message)
            if problem.task in followed:
                active[problem.task] = followed[problem.task].settings
        return active

    def _holds(self, snapshot: Snapshot) -> Mapping[str, Hold]:
        """Return the holds of tasks; where one can't be read, what is kept to already."""
        holds = dict(snapshot.holds)
        for problem in snapshot.unreadable:
            entry = self._registry.entry(problem.task)
            if problem.task not in holds and (entry.unloaded or entry.pinned is not None):
                holds[problem.task] = Hold(task=problem.task, version=entry.pinned, since=datetime.now(UTC))
        return holds

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:
                logger.exception("following the store failed; trying again")
            self._pause(self.pause_seconds)

    def _pause(self, seconds: float) -> None:
        """Wait for the next look; loads go on meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            step = 1.0 if self.first_pass_done else _STEP_SECONDS
            if self._stopping.wait(min(step, left)):
                return
            self.loads.relieve()
            if self._masks is not None:
                self._masks.relieve()

    def _look(self) -> _Look:
        seen, started = time.monotonic(), time.thread_time()
        snapshot = self._store.snapshot()
        gone = self._registry.entries.keys() - _names(snapshot)
        if gone:
            self._store.check()  # if the store vanished while it was read, nothing is removed
        return _Look(seen, snapshot, gone, time.thread_time() - started)

    def _wait_for(self, look: Future[_Look]) -> _Look | None:
        """Return what a look found; None if it was given up, or the watch was closed."""
        begun, late = time.monotonic(), False
        while not self._stopping.is_set() and (waited := time.monotonic() - begun) < _ABANDON_SECONDS:
            if waited > _LOOK_SECONDS and not late:
                late = True
                self._note_failure(StoreUnavailableError(f"no answer within {_LOOK_SECONDS:.0f} s"))
            with suppress(TimeoutError):
                return look.result(_STEP_SECONDS)
            if look.done():
                return look.result()
            self.loads.relieve()
        return None

    def _note_success(self, look: _Look) -> None:
        self._work_seconds = look.work_seconds
        self._metrics.store_seen(readable=True)
        if self._failures:
            logger.info("the store can be read again")
        self._failures = 0

    def _note_failure(self, error: Exception) -> None:
        self._metrics.store_seen(readable=False)
        if not self._failures:
            unforeseen = None if isinstance(error, MaskStoreError) else error
            logger.error(
                "the store can't be read; loaded tasks are served as before: %s", error, exc_info=unforeseen
            )
        self._failures += 1


def _names(snapshot: Snapshot) -> set[str]:
    return {*snapshot.current, *(problem.task for problem in snapshot.problems)}
