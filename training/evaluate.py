"""Command ``evaluate``: how well a published task answers labelled rows.

    python -m training.evaluate --task NAME --store DIR --base ID_OR_FOLDER --file FILE [--json]
    [--picture FILE.png]

Exit codes: see `training.cli.command`.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.cli.command import run_command
from training.cli.published import named_columns, read_rows, task_parser
from training.options import DELIMITERS

logger = logging.getLogger("training.evaluate")  # not __name__, which is "__main__" for a command


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.evaluate") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = task_parser(
        prog,
        "Measure a published task on labelled rows: metrics beside the baseline of one answer, precision, "
        "recall and F1 of each label, confusions, calibration, and the worst errors.",
    )
    parser.add_argument("--file", required=True, metavar="FILE", help="labelled rows, as for learning")
    parser.add_argument(
        "--label-separator", metavar="NAME", help="what is between the labels of a cell (found by trying)"
    )
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="errors to show (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument(
        "--picture", metavar="FILE", help="draw confusions and calibration (needs matplotlib)"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _evaluate(arguments))


def _evaluate(arguments: argparse.Namespace) -> int:
    rows = read_rows(arguments, arguments.file)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.data.examples import describe_unusable  # noqa: PLC0415
    from training.data.known_task import read_known  # noqa: PLC0415
    from training.judging.picture import draw  # noqa: PLC0415
    from training.judging.text import evaluation_text  # noqa: PLC0415
    from training.published.task import PublishedTask  # noqa: PLC0415

    published = PublishedTask.of_arguments(arguments)
    separator = DELIMITERS.get(arguments.label_separator or "", arguments.label_separator)
    columns = published.named_columns(named_columns(arguments))
    examples = read_known(rows, published.task.spec, columns, separator)
    for line in describe_unusable(examples.unusable, examples.unit):
        logger.info(f"left out: {line}")
    found = published.judge(examples, max_rows=arguments.batch_size, worst=max(0, arguments.worst))
    title = f"{arguments.task} version {published.number}"
    if arguments.json:
        print(json.dumps(published.identity() | found.to_dict(), indent=2))
    else:
        print(evaluation_text(found, title))
    if arguments.picture:
        draw(found, Path(arguments.picture), title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
