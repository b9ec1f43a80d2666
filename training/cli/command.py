"""Command: what is logged and how it ends; what is raised becomes one line on stderr and an exit code.

0 done, 1 something failed on the way (disk, store, learning), 2 bad input (options, data, base or store as
given), 130 stopped by ^C, 141 nobody reads the output. Which error has which code is in `training.errors`.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mask_store.terminal import escape_missing_letters
from training.distributed import is_main
from training.errors import OptionsError, exit_code

STOPPED, BROKEN_PIPE = 130, 141


def run_command(work: Callable[[], int], *, log: str = "training", quiet: bool = False) -> int:
    """Do the work of a command, and turn what is raised into one line on stderr and an exit code.

    Args:
        work: Returns the exit code when nothing goes wrong.
        log: Name of the logger whose lines are printed on stderr.
        quiet: Whether none are printed.

    Returns:
        The exit code; of several processes that learn together, the first alone prints.
    """
    escape_missing_letters()
    try:
        with logged(log, logging.WARNING if quiet else logging.INFO):
            return work()
    except KeyboardInterrupt:
        return _end("stopped; give the same command again to resume after the last checkpoint", STOPPED)
    except BrokenPipeError:  # who reads the output has left, and Python would complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        mistakes = error.problems if isinstance(error, OptionsError) else [str(error)]
        return _end("\n".join(f"error: {mistake}" for mistake in mistakes), code)


@contextmanager
def logged(name: str, level: int = logging.INFO) -> Iterator[None]:
    """Print what a logger gets as plain lines on stderr, in the first process alone."""
    logger, handler = logging.getLogger(name), logging.StreamHandler()
    before = logger.level
    handler.addFilter(lambda record: is_main())
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _end(message: str, code: int) -> int:
    if is_main():
        print(message, file=sys.stderr, flush=True)
    return code
