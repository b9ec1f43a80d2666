"""How a command ends: what is raised becomes one line on stderr and an exit code.

0 done, 1 something failed on the way (disk, store, learning), 2 bad input (options, data, base or store as
given), 130 stopped by ^C. Which error has which code is in `training.errors`.
"""

import sys
from collections.abc import Callable

from training.distributed import is_main
from training.errors import OptionsError, exit_code

STOPPED = 130


def run_command(work: Callable[[], int]) -> int:
    """Do the work of a command, and turn what is raised into one line on stderr and an exit code.

    Args:
        work: returns the exit code when nothing goes wrong.

    Returns:
        The exit code; of several processes that learn together, the first alone prints.
    """
    try:
        return work()
    except KeyboardInterrupt:
        return _fail("stopped; give the same command again to go on after the last checkpoint", STOPPED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        mistakes = error.problems if isinstance(error, OptionsError) else [str(error)]
        return _fail("\nerror: ".join(mistakes), code)


def _fail(message: str, code: int) -> int:
    if is_main():
        print(f"error: {message}", file=sys.stderr, flush=True)
    return code
