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
from threading import Condition

from masking import Features, InputLimits, KnownTask, TaskInput
from masking.tasks.tokenizing import STEP_CHARACTERS, Steps
from server.engine.batch import BatchLimits
from server.errors import QueueFullError, ServerError, ShuttingDownError, UnhealthyError
from server.threads.supervision import SupervisedThread

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
        except BaseException:  # such as a panic of the tokenizers library
            logger.exception("tokenising failed")
            self.answer(ServerError())
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
    """The threads that tokenise, and what waits for them.

    Attributes:
        threads: The threads.
        characters: Characters of the requests that are being tokenised, or wait for it.
    """

    def __init__(self, limits: BatchLimits, *, threads: int, most_characters: int) -> None:
        """Build the stage; no thread runs yet.

        Args:
            limits: An input over those of a batch is refused as soon as that is known.
            threads: How many tokenise at once.
            most_characters: Most `characters`; a request that comes alone may have more.
        """
        self.threads = tuple(SupervisedThread(f"tokenizer {n + 1}", self._work) for n in range(threads))
        self.characters = 0
        self._limits = limits
        self._most_characters = most_characters
        self._changed = Condition()
        self._waiting: list[_Job] = []
        self._numbers = count()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether a thread tokenises."""
        return any(thread.alive for thread in self.threads)

    def start(self) -> None:
        """Start the threads, each under its supervisor."""
        for thread in self.threads:
            thread.start()

    async def encode(
        self, task: KnownTask, inputs: Sequence[TaskInput], *, truncate: bool, patient: bool = False
    ) -> Sequence[Features]:
        """Tokenise the inputs of one request; cancelling the call drops what is not tokenised yet.

        Args:
            task: Its codec does it.
            inputs: The inputs.
            truncate: Cut what is too long instead of refusing it.
            patient: Never refuse the request for what others have waiting.

        Raises:
            TaskInputError: An input is not one that the task can take.
            QueueFullError: Too many characters wait to be tokenised.
            ShuttingDownError: The stage is closed.
        """
        characters = sum(item.characters for item in inputs)
        if not patient:
            self._check_room(characters)
        limits = InputLimits(self._limits.rows // task.copies, self._limits.tokens // task.copies)
        loop = asyncio.get_running_loop()
        steps = task.codec.encode_steps(inputs, truncate=truncate, limits=limits)
        job = _Job(steps, next(self._numbers), loop, loop.create_future())
        self.characters += characters
        try:
            self._add(job)
            return await job.future
        finally:
            self.characters -= characters

    def close(self) -> None:
        """Drop what waits and stop the threads."""
        for thread in self.threads:
            thread.stop()
        with self._changed:
            self._closed = True
            dropped, self._waiting = self._waiting, []
            self._changed.notify_all()
        for job in dropped:
            job.answer(ShuttingDownError())

    def _check_room(self, characters: int) -> None:
        if self.characters and self.characters + characters > self._most_characters:
            raise QueueFullError(
                f"{self.characters} characters wait to be tokenised and the limit is "
                f"{self._most_characters}; try again after Retry-After"
            )

    def _add(self, job: _Job) -> None:
        with self._changed:
            if not self._closed:
                heapq.heappush(self._waiting, job)
                self._changed.notify()
                return
        job.answer(ShuttingDownError())

    def _next(self) -> _Job | None:
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            return None if self._closed else heapq.heappop(self._waiting)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                if job.take_turn():
                    self._add(job)
            except BaseException:  # the thread was ended from outside
                job.answer(UnhealthyError())
                raise
            del job  # a thread that waits keeps no task version alive
