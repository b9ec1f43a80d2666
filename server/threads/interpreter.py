"""Interpreter: how Python's threads and its garbage collector share a process that serves."""

import gc
import sys

_SWITCH_SECONDS = 0.0002  # how long a thread keeps the interpreter lock while another one waits for it
_COLLECTED = (2000, 10, 1000)  # new objects, then collections of the generation before


def share_interpreter() -> None:
    """Let no thread stop the others for long, by Python code or by collecting garbage.

    A full collection looks at every object: at the hundreds of thousands of the libraries, unless they are
    frozen, and at those of the rows of a large body, which took 100 ms and more. So full ones are seldom;
    what is free by its count needs none.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
