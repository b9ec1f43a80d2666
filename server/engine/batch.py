"""Batch: inputs that are computed together, and how large it and the queue may become."""

import math
from dataclasses import dataclass
from typing import Literal

from server.engine.pending import Cost, PendingRequest, QueueEntry

CloseReason = Literal["full_rows", "full_tokens", "waited", "idle", "drained"]


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch and the queue may become.

    Attributes:
        rows: Most rows in one batch.
        tokens: Most tokens in one batch, of all rows, without padding.
        wait_seconds: How long a batch that is not full waits for more inputs.
        waiting: Most rows in the queue.
        waiting_seconds: Most seconds that what is computed before a new request may take.
    """

    rows: int
    tokens: int
    wait_seconds: float
    waiting: int
    waiting_seconds: float = math.inf

    def exceeded_by(self, cost: Cost) -> Literal["full_rows", "full_tokens"] | None:
        """Return the limit of a batch that this is over, if there is one."""
        if cost.rows > self.rows:
            return "full_rows"
        return "full_tokens" if cost.tokens > self.tokens else None


@dataclass(frozen=True)
class Batch:
    """Inputs to be computed together.

    Attributes:
        entries: The inputs, in the order in which they were taken.
        reason: Why nothing more was taken: `full_rows` and `full_tokens` (the next input would have been over
            that limit); else the queue was empty, after the longest wait (`waited`), with nothing to wait for
            (`idle`), or for good (`drained`).
    """

    entries: tuple[QueueEntry, ...]
    reason: CloseReason

    @property
    def cost(self) -> Cost:
        """Rows and tokens of all inputs."""
        return sum((entry.cost for entry in self.entries), Cost())

    @property
    def tasks(self) -> int:
        """Task versions that it mixes."""
        return len({entry.request.task.digest for entry in self.entries})

    @property
    def padding_tokens(self) -> int:
        """Tokens that padding every row to the longest one would add."""
        longest = max(entry.features.longest for entry in self.entries)
        return self.cost.rows * longest - self.cost.tokens

    @property
    def requests(self) -> list[PendingRequest]:
        """The requests that have an input in this batch, each once."""
        return list({id(entry.request): entry.request for entry in self.entries}.values())
