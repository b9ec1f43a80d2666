"""Daemon threads for what may hang: work on the store, and closing the service.

The pools of asyncio and Starlette are for predictions. A thread of theirs that hangs is missing there, and
the process waits for it at its end; it waits for none of these.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from mask_store.background import in_background
from server.errors import OperatorsBusyError

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def in_daemon(
    name: str, work: Callable[[], Result], done: Callable[[], object] | None = None
) -> Result:
    """Do work in a daemon thread of its own; cancelling the call stops the wait, not the work.

    Args:
        name: The thread's name.
        work: What to do.
        done: Called on the event loop once the work is over, even if nobody waits any more.
    """
    return await asyncio.shield(_begun(name, work, done))


def _begun(
    name: str, work: Callable[[], Result], done: Callable[[], object] | None
) -> asyncio.Future[Result]:
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if done is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(done)

    outcome = in_background(work, name)
    outcome.add_done_callback(lambda _: tell())
    return asyncio.wrap_future(outcome)


class OperatorThreads:
    """Work for operators: so many pieces at a time, in threads that nothing else needs."""

    def __init__(self, name: str, most: int, *, patience_seconds: float = 30.0) -> None:
        """Allow so many threads; a piece of work waits for one of them at most `patience_seconds`."""
        self._name = name
        self._patience_seconds = patience_seconds
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Do a piece of work off the event loop.

        Raises:
            OperatorsBusyError: All threads are still at work that was asked for before.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise OperatorsBusyError from None
        try:
            outcome = _begun(self._name, lambda: work(*args, **kwargs), self._free.release)
        except BaseException:  # there is no thread that would release it
            self._free.release()
            raise
        return await asyncio.shield(outcome)
