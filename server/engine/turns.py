"""Turns: answers of a batch, which are there at once, let the event loop see new requests in between.

Decoding and writing an answer takes a fraction of a millisecond of the loop. A whole batch of them one after
another would hold up every new request, and every refusal, for tens of milliseconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from masking.tasks.predictions import Floats

_MOST_AT_ONCE = 2
_FEW_LOGITS = 4096  # work on more of them would hold up the event loop, so a thread does it

Result = TypeVar("Result")


class Turns:
    """Lets few of those that wait go on in one pass of the event loop. Not thread-safe."""

    def __init__(self, most: int = _MOST_AT_ONCE) -> None:
        """Let `most` go on in a pass."""
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun = False

    async def take(self) -> None:
        """Wait for a turn, in the order of the calls."""
        loop = asyncio.get_running_loop()
        if not self._begun:
            self._begun = True
            loop.call_soon(self._next_pass, loop)
        if self._left:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    async def run(self, work: Callable[[], Result], logits: Iterable[Floats]) -> Result:
        """Wait for a turn, then do some work on logits: here where they are few, else in a thread."""
        await self.take()
        few = sum(values.size for values in logits) <= _FEW_LOGITS
        return work() if few else await asyncio.to_thread(work)

    def _next_pass(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a pass; what waits goes first."""
        self._left = self._most
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its request may have been cancelled
                self._left -= 1
                turn.set_result(None)
        self._begun = self._left < self._most
        if self._begun:
            loop.call_soon(self._next_pass, loop)
