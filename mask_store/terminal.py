"""Terminal output: what a terminal has no letters for is shown as an escape, not an error."""

import io
import sys


def escape_missing_letters() -> None:
    r"""Make stdout and stderr write ``\u1234`` for what they can't encode; every command calls this first.

    Labels and texts of any language are printed, and a terminal or a pipe may be ASCII or Latin-1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
