"""Terminal: output in letters that it has, and mistakes in a command line told in one line."""

import argparse
import io
import sys
from typing import NoReturn


def escape_missing_letters() -> None:
    r"""Make stdout and stderr write ``\u1234`` for what they can't encode; every command calls this first.

    Labels and texts of any language are printed, and a terminal or a pipe may be ASCII or Latin-1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class CommandParser(argparse.ArgumentParser):
    """Parser of a command line that answers a mistake with one line, not with all options."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end the process with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; --help lists what there is\n")
