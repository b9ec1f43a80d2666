"""Command: python -m server, which serves the tasks of a store over HTTP until SIGTERM."""

import sys
from collections.abc import Sequence

from server.settings import SettingsError, load_settings
from server.threads import leave_cores_free


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m server") -> int:
    """Run the server.

    Args:
        arguments: The command line without the program's name; None for the process's own.
        prog: The program's name, for its help and messages.

    Returns:
        0 after a shutdown by signal, 1 if the base, the store or the port can't be used, 2 if a setting
        is wrong.
    """
    try:
        settings = load_settings(sys.argv[1:] if arguments is None else arguments, prog)
    except SettingsError as error:
        for problem in str(error).splitlines():
            print(f"{prog}: {problem}", file=sys.stderr)
        return 2
    leave_cores_free()
    # Imports torch: after the threads' settings, which it reads, and after --help, which needs none of it.
    from server.process import run  # noqa: PLC0415

    return run(settings, prog)


if __name__ == "__main__":
    sys.exit(main())
