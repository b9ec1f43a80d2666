"""Command ``report``: write the report of a run as one HTML file.

    python -m training.report RUN [--output FILE.html]

RUN is the folder of a run that has finished (``runs/NAME``), or its name there. Where the task was compared
with finetuning (`training.compare`), the page shows both. Exit codes: see `training.cli.command`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mask_store.terminal import CommandParser
from training.cli.command import run_command
from training.errors import ReportError
from training.options import RUNS


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.report") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = CommandParser(
        prog=prog,
        description="Write the report of a run as one HTML file: curves, confusions, labels, calibration, "
        "worst errors, and finetuning beside it where the task was compared. It needs no network.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help=f"folder of a finished run, or its name in {RUNS}/")
    parser.add_argument("--output", metavar="FILE.html", help="where to write it (report.html in the folder)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> int:
    # slow to import, which --help and mistakes don't wait for
    from training.page.page import PAGE, run_page  # noqa: PLC0415
    from training.page.record import read_run  # noqa: PLC0415

    folder = Path(arguments.run)
    if not folder.is_dir() and (RUNS / arguments.run).is_dir():
        folder = RUNS / arguments.run
    if not folder.is_dir():
        raise ReportError(f"{arguments.run}: there is no such folder, nor one of that name in {RUNS}/")
    page = run_page(read_run(folder))
    path = Path(arguments.output) if arguments.output else folder / PAGE
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
