"""Options of the commands that use a published task: which one, over which encoder, on which columns."""

import argparse
from typing import get_args

from mask_store.terminal import CommandParser
from training.data.rows import RowSet
from training.options import DELIMITERS, LearnOptions, Role

_COPIED = ("task", "store", "base", "revision", "device", "threads", "encoding", "delimiter")
_PRECISIONS = ("auto", "fp32", "bf16", "int8", "tf32", "tf32x3")


def task_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Build a parser with the options that both commands take.

    Args:
        prog: The program's name.
        description: What ``--help`` says before the options.
    """
    parser = CommandParser(prog=prog, description=description, allow_abbrev=False)
    for name in _COPIED:
        field = LearnOptions.model_fields[name]
        extra = dict(field.json_schema_extra or {})  # type: ignore[arg-type]
        required = name in ("task", "store", "base")
        parser.add_argument(
            f"--{name}",
            required=required,
            metavar=str(extra.get("metavar") or name.upper()),
            type=int if name == "threads" else str,
            default="auto" if name == "device" else None,
            help=_HELP.get(name, field.description),
        )
    parser.add_argument("--version", type=int, metavar="N", help="its version (the current one)")
    parser.add_argument(
        "--precision", choices=_PRECISIONS, default="auto", help="how masked layers are multiplied (auto)"
    )
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="rows of a batch (32)")
    for role in get_args(Role):
        parser.add_argument(f"--{role}-column", metavar="NAME", help=f"column of the {role}")
    return parser


_HELP = {
    "task": "name of the task",
    "store": "store that holds it: folder or URL",
    "device": "cpu, cuda or auto (auto)",
}


def read_rows(arguments: argparse.Namespace, path: str) -> RowSet:
    """Read the rows of a file."""
    from training.data.sources import read_file  # noqa: PLC0415

    delimiter = DELIMITERS.get(arguments.delimiter or "", arguments.delimiter)
    return read_file(path, encoding=arguments.encoding, delimiter=delimiter)


def named_columns(arguments: argparse.Namespace) -> dict[Role, str | None]:
    """Return the columns that the user named, None for the default."""
    return {role: getattr(arguments, f"{role}_column") for role in get_args(Role)}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
