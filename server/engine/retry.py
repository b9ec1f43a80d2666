"""Computing one batch, in smaller pieces where the whole of it fails.

A batch that runs out of memory is halved, down to one input; one that fails for another reason is tried again
task by task, so that only the task that causes it fails. Nothing here waits, counts or resolves a request.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from masking import Features, LoadedTask
from server.engine.pending import Floats, Item
from server.engine.queue import Part, parts_of
from server.errors import BackendFailedError, OutOfMemoryError, ServerError

logger = logging.getLogger(__name__)

Compute = Callable[[Sequence[tuple[LoadedTask, Sequence[Features]]]], Sequence[Sequence[Floats]]]
FailureReason = Literal["failed", "out_of_memory"]

_ALLOCATORS = ("not enough memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Attempt:
    """What became of some inputs.

    Attributes:
        answers: Each input with its logits, or with the error that its request is to fail with.
        failures: Why a try failed, once for each, those that a smaller one made good included.
    """

    answers: tuple[tuple[Item, Floats | ServerError], ...]
    failures: tuple[FailureReason, ...] = ()


def attempt(compute: Compute, items: Sequence[Item]) -> Attempt:
    """Compute inputs of any tasks together, or piece by piece where that fails."""
    parts = parts_of(items)
    try:
        return Attempt(_matched(parts, compute([(part.task, part.features) for part in parts])))
    except Exception as error:
        reason: FailureReason = "out_of_memory" if _is_out_of_memory(error) else "failed"
        pieces = _halves(items) if reason == "out_of_memory" else [part.items for part in parts]
        _log(items, reason, len(pieces))
    # Not in the handler: the error's traceback would hold the tensors of the failed try.
    if len(pieces) == 1:
        failure = OutOfMemoryError() if reason == "out_of_memory" else BackendFailedError()
        return Attempt(tuple((item, failure) for item in items), (reason,))
    tries = [attempt(compute, piece) for piece in pieces]
    return Attempt(
        tuple(answer for one in tries for answer in one.answers),
        (reason, *(again for one in tries for again in one.failures)),
    )


def _matched(
    parts: Sequence[Part], logits: Sequence[Sequence[Floats]]
) -> tuple[tuple[Item, Floats | ServerError], ...]:
    """Each input with its logits.

    Raises:
        RuntimeError: There are not as many logits as inputs.
    """
    wanted, given = [len(part.items) for part in parts], [len(values) for values in logits]
    if wanted != given:
        raise RuntimeError(f"compute was given {wanted} inputs by task and answered {given}")
    return tuple(
        pair
        for part, values in zip(parts, logits, strict=True)
        for pair in zip(part.items, values, strict=True)
    )


def _halves(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Two halves; one piece where there is nothing to halve."""
    middle = len(items) // 2
    return [piece for piece in (items[:middle], items[middle:]) if piece]


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _ALLOCATORS)


def _log(items: Sequence[Item], reason: FailureReason, pieces: int) -> None:
    """Log the exception that is being handled."""
    ids = ", ".join(dict.fromkeys(item.ticket.request_id for item in items))
    logger.log(
        logging.ERROR if pieces == 1 else logging.WARNING,
        "computing %d inputs failed (%s); %s; requests: %s",
        len(items),
        reason,
        "their requests fail" if pieces == 1 else f"they are computed again in {pieces} pieces",
        ids,
        exc_info=True,
    )
