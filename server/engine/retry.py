"""Retry: a batch that fails as a whole is computed in smaller pieces.

A batch that runs out of memory is halved, down to one input; one that fails for another reason is tried again
task by task, so that only the task that causes it fails.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from masking import TaskBatch
from masking.tasks.predictions import Floats
from server.engine.pending import QueueEntry
from server.errors import BackendFailedError, OutOfMemoryError, ServerError

logger = logging.getLogger(__name__)

Compute = Callable[[Sequence[TaskBatch]], Sequence[Sequence[Floats]]]
FailureReason = Literal["failed", "out_of_memory"]

_ALLOCATORS = (
    "not enough memory",
    "CUDA error: out of memory",
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class BatchResult:
    """What computing a batch gave.

    Attributes:
        answers: Each input with its logits, or with the error that its request is to fail with.
        failures: Why a try failed, once for each, those included that a smaller one made good.
    """

    answers: tuple[tuple[QueueEntry, Floats | ServerError], ...]
    failures: tuple[FailureReason, ...] = ()


def compute_with_retry(compute: Compute, entries: Sequence[QueueEntry]) -> BatchResult:
    """Compute inputs of any tasks together, or piece by piece where that fails.

    Raises:
        torch.AcceleratorError: The device can't compute any more, whatever it is given.
    """
    groups = group_by_task(entries)
    try:
        return BatchResult(_matched(groups, compute([task_batch(group) for group in groups])))
    except Exception as error:
        if _is_lost_device(error):
            raise
        reason: FailureReason = "out_of_memory" if _is_out_of_memory(error) else "failed"
        pieces: Sequence[Sequence[QueueEntry]] = _halves(entries) if reason == "out_of_memory" else groups
        _log(entries, reason, len(pieces))
    # Not in the handler: the error's traceback would hold the tensors of the failed try.
    if len(pieces) == 1:
        failure = OutOfMemoryError() if reason == "out_of_memory" else BackendFailedError()
        return BatchResult(tuple((entry, failure) for entry in entries), (reason,))
    results = [compute_with_retry(compute, piece) for piece in pieces]
    return BatchResult(
        tuple(answer for one in results for answer in one.answers),
        (reason, *(again for one in results for again in one.failures)),
    )


def group_by_task(entries: Iterable[QueueEntry]) -> list[list[QueueEntry]]:
    """Group inputs by task version, in the order of the first of each."""
    groups: dict[str, list[QueueEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.request.task.digest, []).append(entry)
    return list(groups.values())


def task_batch(group: Sequence[QueueEntry]) -> TaskBatch:
    """Return inputs of one task version in the form that is computed."""
    return TaskBatch(group[0].request.task, [entry.features for entry in group])


def _matched(
    groups: Sequence[Sequence[QueueEntry]], logits: Sequence[Sequence[Floats]]
) -> tuple[tuple[QueueEntry, Floats | ServerError], ...]:
    """Pair each input with its logits.

    Raises:
        RuntimeError: There are not as many logits as inputs.
    """
    wanted, given = [len(group) for group in groups], [len(values) for values in logits]
    if wanted != given:
        raise RuntimeError(f"compute was given {wanted} inputs by task and answered {given}")
    return tuple(
        pair for group, values in zip(groups, logits, strict=True) for pair in zip(group, values, strict=True)
    )


def _halves(entries: Sequence[QueueEntry]) -> list[Sequence[QueueEntry]]:
    """Return two halves; one piece where there is nothing to halve."""
    middle = len(entries) // 2
    return [piece for piece in (entries[:middle], entries[middle:]) if piece]


def _is_lost_device(error: Exception) -> bool:
    """Tell whether an error stays with the process, such as an illegal address on a GPU."""
    return isinstance(error, torch.AcceleratorError) and not _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _ALLOCATORS)


def _log(entries: Sequence[QueueEntry], reason: FailureReason, pieces: int) -> None:
    """Log the exception that is being handled."""
    ids = ", ".join(dict.fromkeys(entry.request.request_id for entry in entries))
    logger.log(
        logging.ERROR if pieces == 1 else logging.WARNING,
        "computing %d inputs failed (%s); %s; requests: %s",
        len(entries),
        reason,
        "their requests fail" if pieces == 1 else f"they are computed again in {pieces} pieces",
        ids,
        exc_info=True,
    )
