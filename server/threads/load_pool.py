"""Load pool: work on tasks, off the request path, in a bounded number of threads.

Work on one task is done one piece at a time. A piece that takes long stops counting towards the bound, so
that one slow task holds up no other. The threads are daemons: the process ends without them.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Condition, Thread

from server.threads.heap import give_back_freed

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 2.0
_MOST_THREADS = 32
_TASKS_PER_PROGRESS_LINE = 100

Work = Callable[[], object]


class LoadPool:
    """Does what there is to do for tasks; safe to use from any thread."""

    def __init__(self, threads: int, *, patience: float = _PATIENCE_SECONDS, in_bulk: bool = True) -> None:
        """Begin with no work.

        Args:
            threads: How many work, beside those that have been at one task for longer than `patience`.
            patience: In seconds.
            in_bulk: Whether work comes for many tasks at once: how far it is is told then, and memory that it
                leaves is returned to the system.
        """
        self._threads = threads
        self._in_bulk = in_bulk
        self._patience = patience
        self._waiting: OrderedDict[str, Work] = OrderedDict()  # whose first is found at once, of any number
        self._running: dict[str, float] = {}
        self._done = 0
        self._closed = False
        self._changed = Condition()

    def submit(self, task: str, work: Work) -> bool:
        """Have something done for a task, unless something is being done for it already; tell which."""
        with self._changed:
            if self._closed or task in self._waiting or task in self._running:
                return False
            self._waiting[task] = work
        self.relieve()
        return True

    def relieve(self) -> None:
        """Start threads for what waits: to be called now and then, for slow work makes room only by time."""
        while (piece := self._next()) is not None:
            first = [piece]  # for a thread keeps its arguments as long as it lives
            try:
                Thread(target=self._work, args=(first,), name=f"load-{piece[0]}", daemon=True).start()
            except RuntimeError as error:  # of processes or memory there are too few
                logger.error("task %s waits to be loaded: %s", piece[0], error)
                self._put_back(*piece)
                return

    def busy(self, patience: float) -> set[str]:
        """Return tasks with work that waits, or has been running for at most `patience` seconds."""
        with self._changed:
            return {*self._waiting, *self._quick(patience)}

    def wait(self, seconds: float) -> bool:
        """Wait until there is nothing to do; tell whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._running), seconds)

    def close(self, seconds: float) -> bool:
        """Begin nothing more, and wait as `wait` does."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
        return self.wait(seconds)

    def _quick(self, patience: float) -> list[str]:
        now = time.monotonic()
        return [task for task, since in self._running.items() if now - since <= patience]

    def _next(self) -> tuple[str, Work] | None:
        """Take a piece of work that may begin now."""
        with self._changed:
            room = len(self._running) < _MOST_THREADS and len(self._quick(self._patience)) < self._threads
            if not self._waiting or not room:
                return None
            task, work = self._waiting.popitem(last=False)
            self._running[task] = time.monotonic()
            return task, work

    def _put_back(self, task: str, work: Work) -> None:
        """Let a piece of work wait again, before all others."""
        with self._changed:
            del self._running[task]
            self._waiting[task] = work
            self._waiting.move_to_end(task, last=False)

    def _work(self, first: list[tuple[str, Work]]) -> None:
        piece: tuple[str, Work] | None = first.pop()
        while piece is not None:
            task, work = piece
            try:
                work()
            except Exception:
                logger.exception("task %s: loading failed in an unforeseen way", task)
            del piece, work  # nothing is kept of what is done
            self._note_done(task)
            piece = self._next()
        if self._in_bulk:
            give_back_freed()

    def _note_done(self, task: str) -> None:
        with self._changed:
            del self._running[task]
            self._done += 1
            left = len(self._waiting) + len(self._running)
            if self._in_bulk and self._done % _TASKS_PER_PROGRESS_LINE == 0:
                logger.info("%d of %d tasks loaded or reported", self._done, self._done + left)
            if not left:
                self._done = 0
            self._changed.notify_all()
