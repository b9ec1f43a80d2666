"""Background calls: what may never return is called in a thread that the process need not wait for."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

_Result = TypeVar("_Result")


def in_background(call: Callable[[], _Result], name: str) -> Future[_Result]:
    """Begin a call in a daemon thread of its own.

    Args:
        call: What to call.
        name: The thread's name.

    Returns:
        Its outcome. Who stops waiting for it leaves the thread behind; the process can end without it.
    """
    outcome: Future[_Result] = Future()
    Thread(target=_run, args=(call, outcome), name=name, daemon=True).start()
    return outcome


def _run(call: Callable[[], _Result], outcome: Future[_Result]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
    finally:
        del outcome  # the error knows this frame: it would keep itself, and all that the call had in hand
