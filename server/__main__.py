"""Command: python -m server, which serves the tasks of a store over HTTP until SIGTERM."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from mask_store.terminal import escape_missing_letters


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m server") -> int:
    """Run the server.

    Args:
        arguments: The command line without the program's name; None for the process's own.
        prog: The program's name, for its help and messages.

    Returns:
        0 after a shutdown by signal, 1 if the base, the store, the keys file or the port can't be used,
        2 if a setting is wrong.
    """
    # First of all: the first process of a container ignores SIGTERM until it has a handler of its own.
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _main(sys.argv[1:] if arguments is None else arguments, prog)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _main(arguments: Sequence[str], prog: str) -> int:
    escape_missing_letters()
    from server.host import prepare  # noqa: PLC0415 (pydantic, after the handlers)
    from server.settings import SettingsError, load_settings  # noqa: PLC0415

    try:
        settings = load_settings(arguments, prog)
    except SettingsError as error:
        return _complain(prog, str(error).splitlines(), 2)
    from server.preflight import problems  # noqa: PLC0415 (the store's library, which --help doesn't need)

    if found := problems(settings):
        return _complain(prog, found, 1)
    prepare(settings)
    # Imports torch: after the threads' settings, which it reads, and after --help, which needs none of it.
    from server.process import run  # noqa: PLC0415

    return run(settings, prog)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing is served yet, and an exception could be swallowed by what is being imported."""
    os._exit(0)


def _complain(prog: str, found: Sequence[str], code: int) -> int:
    for problem in found:
        print(f"{prog}: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
