"""Distributed learning: several processes that learn one task together, as torchrun starts them.

All go through the same batches in the same order; each computes its share of every batch, and gradients are
added up. The first process alone prints, writes and publishes. What fails in one ends all of them, where
accelerate's own helpers would leave the others waiting. With one process everything here is a plain call.
"""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from training.errors import FAILED, OptionsError, OtherProcessError, exit_code

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return the number of this process among those of its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """Return how many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def count() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Tell whether this is the process that prints, writes and publishes."""
    return rank() == 0


def refuse_several(what: str) -> None:
    """Make sure that there is one process, for work that is not shared out.

    Args:
        what: The work, for the message.

    Raises:
        OptionsError: There are several.
    """
    if count() > 1:
        raise OptionsError([f"{what} is for one process, not for {count()}: start it without torchrun"])


def join(device: str) -> None:
    """Meet the other processes, if there are any; must come before all that follows here.

    Args:
        device: Where this process learns; processes on CPUs talk by gloo, those on GPUs by NCCL.
    """
    if count() == 1:
        return
    # torch takes seconds to import, which commands that only print their help don't wait for
    from accelerate import PartialState  # noqa: PLC0415
    from torch import distributed  # noqa: PLC0415

    if not distributed.is_initialized():
        PartialState(cpu=device == "cpu")
        atexit.register(distributed.destroy_process_group)


@contextmanager
def together() -> Iterator[None]:
    """Wait at the end for all processes, and continue only if none has failed inside.

    Raises:
        OtherProcessError: Another process failed, this one didn't.
    """
    try:
        yield
    except Exception as error:
        _gather((exit_code(error) or FAILED, f"process {rank()}: {error}"))
        raise
    failures = [failure for failure in _gather(None) if failure]
    if failures:
        code, message = failures[0]
        raise OtherProcessError(message, code)


def on_main(work: Callable[[], T]) -> T:
    """Do something in the first process only; the others wait and get its result.

    Args:
        work: What to do; its result must be picklable.

    Raises:
        OtherProcessError: It failed, which the processes other than the first learn in this way.
    """
    with together():
        result = work() if is_main() else None
    return cast(T, _gather(result)[0])


def main_first(work: Callable[[], T]) -> T:
    """Do something in the first process and, once that has succeeded, in the others.

    Raises:
        OtherProcessError: It failed in another process.
    """
    with together():
        result = work() if is_main() else None
    with together():
        return cast(T, result) if is_main() else work()


def share(items: Sequence[T]) -> Sequence[T]:
    """Return the items that are this process's part; may be empty where there are few."""
    return items[rank() :: count()]


def gather_shares(results: Sequence[T]) -> list[T]:
    """Put together what each process made of its `share`, a result an item, in the order of the items."""
    parts = _gather(list(results))
    return [parts[index % len(parts)][index // len(parts)] for index in range(sum(map(len, parts)))]


def add_up(tensors: Sequence["Tensor"]) -> None:
    """Replace tensors by their sums over all processes, in place; all have the same in the same order."""
    if count() > 1:
        from torch import distributed  # noqa: PLC0415

        for work in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
            work.wait()


def _gather(value: Any) -> list[Any]:
    """Return the value of each process, in all of them."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object  # noqa: PLC0415

    return list(gather_object([value]))
