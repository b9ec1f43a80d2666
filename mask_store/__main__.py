"""The command line of a store: python -m mask_store --store DIR COMMAND.

Tables for people, or one JSON document with --json. Exit status: 0 done, 1 a problem was found or the
operation failed (one line on stderr says why), 2 the command was not understood.
"""

import signal
import sys
from collections.abc import Sequence

from mask_store.cli.parser import parser
from mask_store.errors import MaskStoreError, UnknownTaskError
from mask_store.terminal import escape_missing_letters


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m mask_store") -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process if None.
        prog: The program's name, for `--help`.

    Returns:
        The exit status: 0 or 1. A command that is not understood raises SystemExit(2).
    """
    escape_missing_letters()
    commands = parser(prog)
    options = commands.parse_args(argv)
    if options.store is None:
        commands.error("--store DIR is missing")
    from mask_store.store.store import MaskStore  # noqa: PLC0415 (NumPy and fsspec, which --help need not)

    try:
        store = MaskStore.open(options.store)
        status: int = options.run(store, options)
    except UnknownTaskError as error:
        print(f"error: {error}; `list` shows the tasks there are", file=sys.stderr)
        return 1
    except MaskStoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when `| head` has seen enough
    sys.exit(main())
