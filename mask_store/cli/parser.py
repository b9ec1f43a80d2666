"""Parser of the store's command line."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from mask_store.cli import changing, holding, looking, traffic
from mask_store.format.manifest import MAX_MEMBERS, MIN_MEMBERS, CombineRule
from mask_store.terminal import CommandParser

if TYPE_CHECKING:
    from mask_store.store.store import MaskStore

Run = Callable[["MaskStore", argparse.Namespace], int]

_STORE = "folder of the store, or an fsspec URL"
_MOST = 100_000  # versions, or days: more than there are, and within what dates can hold
_EXAMPLES = """examples:
  python -m mask_store --store masks list                        what is there
  python -m mask_store --store masks show trec                   what the current version is and has learned
  python -m mask_store --store masks verify                      read and check every version of every task
  python -m mask_store --store masks clean                       remove what killed publishes left behind
  python -m mask_store --store masks rollback trec               back to the version before the current one
  python -m mask_store --store masks rollback trec --version 3   back (or forward) to version 3
  python -m mask_store --store masks diff trec 3 4               what changed from version 3 to 4
  python -m mask_store --store masks delete trec --version 2     delete one version that is not current
  python -m mask_store --store masks delete trec --all-versions  delete the task
  python -m mask_store --store masks prune --keep 3 --days 30    delete what is neither new nor recent
  python -m mask_store --store masks traffic trec --weights 3=90 4=10 --shadow 4 --abort-agreement 0.95
                                                                 versions side by side, 4 compared with 3
  python -m mask_store --store masks promote trec                the other version gets all requests
  python -m mask_store --store masks pin trec --version 3        keep to 3 until it is released
  python -m mask_store --store masks ensemble trec-3 --combine probabilities trec@1 trec@2 trec@3
                                                                 a task that three versions answer together
  python -m mask_store --store masks copy --to s3://bucket/masks trec intents@4
                                                                 publish versions in another store
  python -m mask_store --store s3://bucket/masks list --json     any URL that fsspec knows; JSON for programs

Running servers follow the store: what is rolled back, pinned or deleted here is so there within seconds."""


def parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser; what it parses has the store's place and a command to `run`."""
    made = CommandParser(
        prog=prog,
        description="Look at a store of masks, check it, and choose which version of a task is served.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--store", metavar="DIR", help=f"{_STORE}; it may follow the command, too")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_looking(commands)
    _add_changing(commands)
    _add_traffic(commands)
    _add_holding(commands)
    _add_prune(commands)
    _add_ensemble(commands)
    _add_copy(commands)
    return made


def _add_looking(commands: Any) -> None:
    _command(commands, "list", looking.list_tasks, "current version of every task")
    about = "one version of a task: labels, base, sparsity, metrics, sizes"
    _task_and_version(_command(commands, "show", looking.show, about), "default: the current one")
    about = "read and check every version; exit 1 if any is broken"
    verify = _command(commands, "verify", looking.verify, about)
    verify.add_argument("task", nargs="?", help="only this task")
    about = "what changed between two versions: bits, sparsity, metrics"
    diff = _command(commands, "diff", looking.diff, about)
    diff.add_argument("task")
    diff.add_argument("a", type=int, help="number of one version")
    diff.add_argument("b", type=int, help="number of the other")


def _add_changing(commands: Any) -> None:
    _command(commands, "clean", changing.clean, "remove what publishes that were killed left behind")
    rollback = _command(commands, "rollback", changing.rollback, "make another version the current one")
    _task_and_version(rollback, "default: the newest before the current one with other contents")
    about = "delete a version that is not current, or a whole task"
    delete = _command(commands, "delete", changing.delete, about)
    delete.add_argument("task")
    which = delete.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", type=int, metavar="N", help="delete this version")
    which.add_argument("--all-versions", action="store_true", help="delete the task with all its versions")


def _add_traffic(commands: Any) -> None:
    about = "serve versions of a task side by side, by weight or as a shadow; print what is set"
    command = _command(commands, "traffic", traffic.traffic, about)
    command.add_argument("task")
    command.add_argument(
        "--weights",
        nargs="+",
        type=_weight,
        metavar="N=PERCENT",
        help="per cent of the requests for each version, 100 together; 0 for one that is served by name only",
    )
    command.add_argument(
        "--shadow",
        type=int,
        metavar="N",
        help="version that is computed, too, and compared with the stable one",
    )
    command.add_argument(
        "--stable",
        type=int,
        metavar="N",
        help="version that others are compared with and an abort returns to; default: that of before, else "
        "the current one",
    )
    command.add_argument(
        "--abort-agreement",
        type=_share,
        dest="agreement",
        metavar="SHARE",
        help="servers abort if the shadow agrees on less than this share of the rows",
    )
    command.add_argument(
        "--abort-errors",
        type=_share,
        dest="errors",
        metavar="SHARE",
        help="servers abort if more than this share of the rows of a version but the stable one fails",
    )
    command.add_argument(
        "--abort-rows", type=_count, dest="rows", metavar="N", help="rows before they judge (default: 1000)"
    )
    about = "make a version that has traffic current, and serve it alone"
    promote = _command(commands, "promote", traffic.promote, about)
    _task_and_version(promote, "default: the only one beside the stable one")
    about = "end the traffic of a task: the stable version becomes current, and is served alone"
    abort = _command(commands, "abort", traffic.abort, about)
    abort.add_argument("task")
    abort.add_argument("--reason", default="by an operator", help="kept in the store")


def _add_holding(commands: Any) -> None:
    about = "keep every server to one version of a task, whatever is current, until it is released"
    pin = _command(commands, "pin", holding.pin, about)
    pin.add_argument("task")
    pin.add_argument("--version", type=int, required=True, metavar="N", help="number of the version")
    about = "take a task out of service on every server, until it is released"
    _command(commands, "unload", holding.unload, about).add_argument("task")
    about = "end a pin, or put a task in service again that was unloaded"
    _command(commands, "release", holding.release, about).add_argument("task")


def _add_prune(commands: Any) -> None:
    about = "delete old versions; what is current, pinned or has traffic always stays"
    prune = _command(commands, "prune", changing.prune, about)
    prune.add_argument("tasks", nargs="*", metavar="TASK", help="only these tasks; default: all")
    prune.add_argument("--keep", type=_count, metavar="N", help="the newest N versions of each task stay")
    prune.add_argument(
        "--days",
        type=_count,
        metavar="DAYS",
        help="versions published within DAYS stay; with --keep, a version stays if either option keeps it",
    )
    prune.add_argument(
        "--dry-run", action="store_true", help="print what would be deleted, and delete nothing"
    )


def _add_ensemble(commands: Any) -> None:
    about = "publish a task that several masks answer together"
    ensemble = _command(commands, "ensemble", changing.ensemble, about)
    ensemble.add_argument("task", metavar="NAME", help="task to publish the ensemble as")
    ensemble.add_argument(
        "--combine",
        required=True,
        choices=get_args(CombineRule),
        help="answer by the vote of the members' labels, the mean of their logits or of their probabilities",
    )
    ensemble.add_argument(
        "members",
        nargs="+",
        type=_version,
        metavar="MEMBER[@VERSION]",
        help=f"{MIN_MEMBERS} to {MAX_MEMBERS} tasks, each with the number of a version or the current one",
    )


def _add_copy(commands: Any) -> None:
    copy = _command(commands, "copy", changing.copy, "publish versions of this store in another one")
    copy.add_argument("--to", required=True, metavar="DIR", help="the other store, a folder or an fsspec URL")
    copy.add_argument("--create", action="store_true", help="make the other store where there is none")
    copy.add_argument(
        "versions",
        nargs="*",
        type=_version,
        metavar="TASK[@VERSION]",
        help="tasks, each with the number of a version or the current one; default: every task",
    )


def _command(commands: Any, name: str, run: Run, about: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}."
    )
    made.add_argument("--store", default=argparse.SUPPRESS, metavar="DIR", help=_STORE)
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.set_defaults(run=run, parser=made)
    return made


def _task_and_version(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("task")
    command.add_argument("--version", type=int, metavar="N", help=f"number of the version; {default}")


def _version(text: str) -> tuple[str, int | None]:
    """Read a task and the number of a version, or None, from "task" or "task@number"."""
    task, at, number = text.partition("@")
    if at and not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"expected TASK or TASK@NUMBER, found {text!r}")
    return task, int(number) if at else None


def _weight(text: str) -> tuple[int, float]:
    """Read the number of a version and its weight from "number=weight"."""
    number, _, weight = text.partition("=")
    try:
        return int(number), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected N=PERCENT, such as 4=10, found {text!r}") from None


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a share such as 0.95, found {text!r}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, found {text!r}")
    return min(int(text), _MOST)
