"""Command: python -m server.tenants, which makes, lists and removes the API keys of a keys file."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mask_store.terminal import CommandParser, escape_missing_letters

_EXAMPLES = """examples:
  %(prog)s add --file keys.json --name team-a --tasks sentiment 'guard-*' --rows-per-second 200
  %(prog)s add --file keys.json --name operator --tasks '*' --admin
  %(prog)s list --file keys.json
  %(prog)s remove --file keys.json --name team-a

A server that was started with --keys-file keys.json follows the file within seconds."""
_COLUMNS = ("name", "tasks", "rows_per_second", "rows_in_flight", "admin", "created")


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m server.tenants") -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name; None for the process's own.
        prog: The program's name, for its help and messages.

    Returns:
        0, or 1 if the file can't be read or written or does not hold what is asked for. A command line that
        is not understood raises SystemExit(2).
    """
    escape_missing_letters()
    options = _parser(prog).parse_args(arguments)
    from server.tenants.keys_file import KeysFileError  # noqa: PLC0415 (pydantic, which --help need not)

    try:
        options.run(options)
    except KeysFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _add(options: argparse.Namespace) -> None:
    """Make a key; its hash is in the file before it is printed."""
    from pydantic import ValidationError  # noqa: PLC0415

    from server.tenants.keys_file import KeyEntry, KeysFileError, changing, hash_of, new_key  # noqa: PLC0415

    key = new_key()
    try:
        entry = KeyEntry(
            name=options.name,
            sha256=hash_of(key).hex(),
            tasks=tuple(dict.fromkeys(options.tasks)),
            rows_per_second=options.rows_per_second,
            rows_in_flight=options.rows_in_flight,
            admin=options.admin,
            created=datetime.now(UTC).replace(microsecond=0),
        )
    except ValidationError as error:
        (first, *_) = error.errors()
        raise KeysFileError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from None
    with changing(options.file) as keys:
        if any(other.name == entry.name for other in keys):
            raise KeysFileError(
                f"{options.file} has a key {entry.name!r} already; remove it first, or take another name"
            )
        keys.append(entry)
    print(
        f"The key {entry.name!r}, which is shown this once: clients send it as Authorization: Bearer KEY",
        file=sys.stderr,
    )
    print(key)


def _list(options: argparse.Namespace) -> None:
    from mask_store.cli.printing import print_json, print_table  # noqa: PLC0415
    from server.tenants.keys_file import read_keys  # noqa: PLC0415

    keys = [entry.model_dump(mode="json", include=set(_COLUMNS)) for entry in read_keys(options.file)]
    if options.json:
        print_json({"keys": keys})
        return
    rows = [tuple(_cell(key[column]) for column in _COLUMNS) for key in keys]
    print_table(tuple(column.replace("_", " ") for column in _COLUMNS), rows)


def _remove(options: argparse.Namespace) -> None:
    from server.tenants.keys_file import KeysFileError, changing  # noqa: PLC0415

    with changing(options.file) as keys:
        kept = [key for key in keys if key.name != options.name]
        if len(kept) == len(keys):
            raise KeysFileError(f"{options.file} has no key {options.name!r}; `list` shows those there are")
        keys[:] = kept
    print(f"removed key {options.name!r}")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if value is None or value is False:
        return "-"
    return "yes" if value is True else str(value)


def _parser(prog: str) -> argparse.ArgumentParser:
    made = CommandParser(
        prog=prog,
        description="Make, list and remove API keys. The file holds hashes; a key is printed once, when it "
        "is made.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    file = CommandParser(add_help=False)
    file.add_argument("--file", required=True, type=Path, metavar="KEYS", help="the keys file")
    add = commands.add_parser("add", parents=[file], help="make a key and print it, once")
    add.set_defaults(run=_add)
    add.add_argument("--name", required=True, help="what logs and metrics call it")
    add.add_argument(
        "--tasks",
        required=True,
        nargs="+",
        metavar="TASK",
        help="what it may call: names, or 'guard-*'",
    )
    add.add_argument("--rows-per-second", type=float, metavar="N", help="rows that it may ask, on average")
    add.add_argument("--rows-in-flight", type=int, metavar="N", help="rows computed for it at a time")
    add.add_argument("--admin", action="store_true", help="it may change these tasks, too")
    shown = commands.add_parser("list", parents=[file], help="the keys, without their hashes")
    shown.set_defaults(run=_list)
    shown.add_argument("--json", action="store_true", help="print one JSON document")
    remove = commands.add_parser("remove", parents=[file], help="remove a key")
    remove.set_defaults(run=_remove)
    remove.add_argument("--name", required=True, help="of the key")
    return made


if __name__ == "__main__":
    sys.exit(main())
