"""Interpreter: how Python's threads and its garbage collector share a process that serves."""

import gc
import sys

_SWITCH_SECONDS = 0.0002  # how long a thread keeps the interpreter lock while another one waits for it
_COLLECTED = (2000, 10_000, 10_000)  # new objects, then collections of the generation before
_MANY = 10  # collections of new objects


def share_interpreter() -> None:
    """Let no thread stop the others for long, by Python code or by collecting garbage.

    No request leaves cycles behind: what it made is free by its count. So collections find little, and
    looking takes long: a microsecond for an object, and a request that waits has two hundred. So new objects
    alone are looked at often, a few at a time.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*_COLLECTED)


def look_at_new() -> None:
    """Look at what the last collections of new objects left, if that is much; called after work on a body.

    A large body is hundreds of thousands of objects: all at once would take a tenth of a second.
    """
    if gc.get_count()[1] >= _MANY:
        gc.collect(1)


def keep_loaded() -> None:
    """Collect what loading left behind, and never look at what is there now again.

    Libraries, kernels and tasks are hundreds of thousands of objects; looking at them takes a quarter of a
    second.
    """
    gc.collect()
    gc.freeze()
