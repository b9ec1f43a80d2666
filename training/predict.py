"""Command ``predict``: label the rows of a file with a published task, without a server.

    python -m training.predict --task NAME --store DIR --base ID_OR_FOLDER FILE [--output FILE]

Exit codes: see `training.cli.command`.
"""

import argparse
import csv
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from training.cli.command import run_command
from training.cli.published import named_columns, read_rows, task_parser
from training.errors import OptionsError

logger = logging.getLogger("training.predict")  # not __name__, which is "__main__" for a command

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_FORMATS = (".jsonl", ".ndjson", *_DELIMITERS)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.predict") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = task_parser(
        prog,
        "Predict every row of a file: the rows are written again, with the prediction in the column "
        "`predicted` and its score beside it. Labels in the file are not needed, and not looked at.",
    )
    parser.add_argument("file", metavar="FILE", help="rows, in the formats of learning")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=f"where to write, in the format of its name: {', '.join(_FORMATS)} (JSON lines on stdout)",
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _predict(arguments))


def _predict(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output) if arguments.output else None
    if output is not None and output.suffix not in _FORMATS:
        raise OptionsError([f"--output {output}: the name must end in {', '.join(_FORMATS)}"])
    if output is not None and not output.parent.is_dir():
        raise OptionsError([f"--output {output}: there is no folder {output.parent}"])
    rows = read_rows(arguments, arguments.file)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.published.labelling import answer_columns, label_rows  # noqa: PLC0415
    from training.published.task import PublishedTask  # noqa: PLC0415

    published = PublishedTask.of_arguments(arguments)
    labelled = label_rows(published, rows, named_columns(arguments), max_rows=arguments.batch_size)
    with _opened(output) as stream:
        if output is None or output.suffix not in _DELIMITERS:
            failed = _write_lines(labelled, stream)
        else:
            names = dict.fromkeys([*rows.columns, *answer_columns(published.task.spec.kind)])
            failed = _write_table(labelled, stream, list(names), _DELIMITERS[output.suffix])
    left = f", {failed} of them can't be predicted and say why under `error`" if failed else ""
    logger.info(f"{arguments.task} version {published.number}: {len(rows.rows)} rows{left}")
    return 0


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    part = output.with_name(f"{output.name}.part")  # a file of that name stays whole until all is written
    try:
        with part.open("w", encoding="utf-8", newline="", errors="backslashreplace") as stream:
            yield stream
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _write_lines(rows: Iterable[dict[str, Any]], stream: IO[str]) -> int:
    """Write rows as JSON lines; returns how many have no prediction."""
    failed = 0
    for row in rows:
        failed += row["predicted"] is None
        stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return failed


def _write_table(
    rows: Iterable[dict[str, Any]], stream: IO[str], names: Sequence[str], delimiter: str
) -> int:
    """Write rows under a header, lists and objects as JSON; returns how many have no prediction."""
    writer, failed = csv.DictWriter(stream, names, delimiter=delimiter, lineterminator="\n"), 0
    writer.writeheader()
    for row in rows:
        failed += row["predicted"] is None
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return failed


def _cell(value: object) -> object:
    """Return a value as a field: lists and objects as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


if __name__ == "__main__":
    sys.exit(main())
