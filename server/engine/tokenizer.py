"""Tokenizer threads: tokenise off the event loop, in turns, so that no request waits for a long one.

A turn is a few milliseconds of work. The request of which the fewest characters were read goes first: a new
one before those that had a turn. What nobody waits for any more has no turn.
"""

import asyncio
import heapq
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from threading import Condition, Lock, Thread

from masking import Features, InputLimits, LoadedTask, TaskInput
from masking.tasks.tokenizing import STEP_CHARACTERS, Steps
from server.engine.queue import BatchLimits
from server.errors import QueueFullError, ServerError, ShuttingDownError

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    """One request that is being tokenised."""

    steps: Steps[list[Features]]
    number: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Features]]
    read: int = 0

    def __lt__(self, other: "_Job") -> bool:
        return (self.read, self.number) < (other.read, other.number)

    def take_turn(self) -> bool:
        """Do some steps; return whether there is more to do."""
        end = self.read + STEP_CHARACTERS
        try:
            while self.read < end and not self.future.cancelled():
                self.read += next(self.steps)
        except StopIteration as finished:
            self.answer(finished.value)
        except Exception as error:
            self.answer(error)
        except BaseException as error:  # such as a panic of the tokenizers library
            failure = ServerError()
            failure.__cause__ = error
            self.answer(failure)
            logger.critical("tokenising failed", exc_info=True)
        else:
            return not self.future.cancelled()
        return False

    def answer(self, result: list[Features] | Exception) -> None:
        """Hand the result to the event loop that waits for it, if it still runs."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver, result)

    def _deliver(self, result: list[Features] | Exception) -> None:
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class TokenizerStage:
    """The threads that tokenise, and what waits for them."""

    def __init__(self, limits: BatchLimits, *, threads: int, most_characters: int) -> None:
        """Start idle; threads run from the first request on, or from `revive`.

        Args:
            limits: An input over those of a batch is refused as soon as that is known.
            threads: How many tokenise at once.
            most_characters: Most characters of all requests that are being tokenised; a single request may
                have more.
        """
        self.characters = 0
        self._limits = limits
        self._most_characters = most_characters
        self._threads: list[Thread | None] = [None] * threads
        self._reviving = Lock()
        self._changed = Condition()
        self._waiting: list[_Job] = []
        self._numbers = count()
        self._closed = False

    async def encode(
        self, task: LoadedTask, inputs: Sequence[TaskInput], *, truncate: bool
    ) -> Sequence[Features]:
        """Tokenise the inputs of one request; cancelling the call drops what is not tokenised yet.

        Raises:
            TaskInputError: An input is not one that the task can take.
            QueueFullError: Too many characters wait to be tokenised.
            ShuttingDownError: The stage is closed.
        """
        characters = sum(item.characters for item in inputs)
        if self.characters and self.characters + characters > self._most_characters:
            raise QueueFullError(self.characters, self._most_characters, unit="characters")
        limits = InputLimits(self._limits.rows // len(task.members), self._limits.tokens // len(task.members))
        loop = asyncio.get_running_loop()
        steps = task.codec.encode_steps(inputs, truncate=truncate, limits=limits)
        job = _Job(steps, next(self._numbers), loop, loop.create_future())
        self.characters += characters
        try:
            self.revive()
            self._add(job)
            return await job.future
        finally:
            self.characters -= characters

    def revive(self) -> bool:
        """Start the threads that do not run, if any died; return whether all of them run."""
        with self._reviving:
            for place, thread in enumerate(self._threads):
                if (thread is None or not thread.is_alive()) and not self._closed:
                    self._threads[place] = started = Thread(
                        target=self._run, name=f"tokenizer-{place}", daemon=True
                    )
                    started.start()
        return all(thread is not None and thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Drop what waits and stop the threads."""
        with self._changed:
            self._closed = True
            dropped, self._waiting = self._waiting, []
            self._changed.notify_all()
        for job in dropped:
            job.answer(ShuttingDownError())

    def _add(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                job.answer(ShuttingDownError())
                return
            heapq.heappush(self._waiting, job)
            self._changed.notify()

    def _next(self) -> _Job | None:
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            return None if self._closed else heapq.heappop(self._waiting)

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                if job.take_turn():
                    self._add(job)
                job = None  # a thread that waits keeps no task version alive
        except BaseException:
            logger.critical("a tokenizer thread died and is started again", exc_info=True)
