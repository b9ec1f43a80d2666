"""Supervision: threads that are started again when they die, until they die too often.

A thread whose work ends in an exception, whatever it is, is replaced by a new one after a pause. One that
dies again and again within a short time is not started any more; what is wrong there a new process may mend,
so `failure` is set and the process is to end with it.
"""

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

logger = logging.getLogger(__name__)

_MOST_DEATHS = 5
_SHORT_SECONDS = 60.0


def do_nothing() -> None:
    """Do nothing: what is called where the caller gives no function."""


class SupervisedThread:
    """Work in a thread of its own, under a supervisor; both are daemons, so neither keeps a process alive.

    Attributes:
        name: What it is called in logs and metrics.
        restarts: How many times it was started again.
        failure: Why it is not started again, in words; None as long as it is.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        on_end: Callable[[], None] = do_nothing,
        on_failure: Callable[[], None] = do_nothing,
        restart_seconds: float = 1.0,
    ) -> None:
        """Keep what to do; no thread runs yet.

        Args:
            name: What it is called in logs and metrics.
            work: Runs until there is nothing more to do, then returns; started again if it raises.
            on_end: Called after each end of the work, before it is started again.
            on_failure: Called once it is not started again because it died too often.
            restart_seconds: Pause before a new thread is started.
        """
        self.name = name
        self.restarts = 0
        self.failure: str | None = None
        self._work = work
        self._on_end = on_end
        self._on_failure = on_failure
        self._restart_seconds = restart_seconds
        self._stopping = Event()
        self._finished = False
        self._worker = Thread()
        self._supervisor = Thread(target=self._supervise, name=f"{name}-supervisor", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether a thread does the work now."""
        return self._worker.is_alive()

    @property
    def running(self) -> bool:
        """Whether the work is done, or will be done again after a pause."""
        return self._supervisor.is_alive()

    def start(self) -> None:
        """Start the work."""
        self._supervisor.start()

    def stop(self) -> None:
        """Start it never again; the work has to find out by itself that it is to end."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the work.

        Returns:
            False if it takes longer than `seconds`.
        """
        if self._supervisor.ident is not None:
            self._supervisor.join(seconds)
        return not self._supervisor.is_alive()

    def _supervise(self) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            self._work_once()
            self._on_end()
            if self._finished or self._stopping.is_set():
                return
            deaths = deaths + 1 if time.monotonic() - began < _SHORT_SECONDS else 1
            if deaths == _MOST_DEATHS:
                self._give_up()
                return
            self._stopping.wait(self._restart_seconds)
            if self._stopping.is_set():
                return
            self.restarts += 1

    def _work_once(self) -> None:
        """Do the work in a thread, until it ends; a thread that can't be started counts as one that died."""
        self._worker = Thread(target=self._run, name=self.name, daemon=True)
        try:
            self._worker.start()
        except RuntimeError:
            logger.critical("no thread can be started for the %s", self.name, exc_info=True)
        else:
            self._worker.join()

    def _run(self) -> None:
        try:
            self._work()
            self._finished = True
        except BaseException:
            logger.critical("the %s died", self.name, exc_info=True)

    def _give_up(self) -> None:
        self.failure = (
            f"the {self.name} died {_MOST_DEATHS} times in a row; the log says of what. "
            "This process can't go on"
        )
        logger.critical(self.failure)
        self._on_failure()
