"""Tokenizer thread: tokenises off the event loop; what arrives while it is busy is tokenised together.

One thread, because a fast tokenizer must not be called from several at once. A request that finds the thread
idle is tokenised at once, so a single client does not wait.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from masking import Features, LoadedTask, TaskInput


@dataclass(frozen=True, eq=False)
class _Job:
    """The inputs of one request; made on the event loop that waits for them."""

    task: LoadedTask
    inputs: Sequence[TaskInput]
    truncate: bool
    future: asyncio.Future[list[Features]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def encoding(self) -> tuple[object, ...]:
        """What decides, with the base, how inputs are tokenised; jobs that agree share a call."""
        spec = self.task.spec
        return spec.kind, spec.pair, spec.max_length, self.truncate


_Result = tuple[_Job, list[Features] | Exception]


class TokenizerStage:
    """The thread that tokenises, and what waits for it."""

    def __init__(self) -> None:
        """Start idle."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._waiting: deque[_Job] = deque()

    async def encode(
        self, task: LoadedTask, inputs: Sequence[TaskInput], *, truncate: bool
    ) -> Sequence[Features]:
        """Tokenise the inputs of one request; cancelling the call drops what is not tokenised yet.

        Raises:
            TaskInputError: An input is not one that the task can take.
        """
        job = _Job(task, inputs, truncate)
        self._waiting.append(job)
        self._thread.submit(self._encode_waiting)
        return await job.future

    def close(self) -> None:
        """Tokenise what waits, then stop the thread."""
        self._thread.shutdown()

    def _encode_waiting(self) -> None:
        """Tokenise all that waits now; an earlier call may have taken it along."""
        groups: dict[tuple[object, ...], list[_Job]] = {}
        while self._waiting:
            job = self._waiting.popleft()
            if not job.future.cancelled():
                groups.setdefault(job.encoding, []).append(job)
        for jobs in groups.values():
            results = _encode(jobs)
            jobs[0].future.get_loop().call_soon_threadsafe(_deliver, results)


def _encode(jobs: Sequence[_Job]) -> list[_Result]:
    """Tokenise jobs of one encoding in one call; one by one where that fails: each gets its own error."""
    try:
        first, inputs = jobs[0], [item for job in jobs for item in job.inputs]
        features = iter(first.task.codec.encode(inputs, truncate=first.truncate))
        return [(job, [next(features) for _ in job.inputs]) for job in jobs]
    except Exception as error:
        if len(jobs) == 1:
            return [(jobs[0], error)]
    return [result for job in jobs for result in _encode([job])]


def _deliver(results: Sequence[_Result]) -> None:
    for job, result in results:
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
