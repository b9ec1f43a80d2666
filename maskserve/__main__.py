"""Command: maskserve, or python -m maskserve; hands on to the module of each."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mask_store.terminal import CommandParser
from maskserve.completion import SHELLS, completion

_USAGE = 2
_ROOT = Path(__file__).parents[1]
_OWN = ("maskserve", "server", "training", "masking", "mask_store", "demo", "lab")


@dataclass(frozen=True)
class Command:
    """A command of a module of its own.

    Attributes:
        module: The module whose `main` takes the arguments and the name of the program.
        extra: Extra that installs what it needs; None where nothing more is needed.
        text: One line of help.
    """

    module: str
    extra: str | None
    text: str


COMMANDS: Mapping[str, Command] = {
    "serve": Command("server.__main__", "serve", "answer requests for every task of a store, over HTTP"),
    "learn": Command("training.learn_mask", "train", "learn a task from labelled examples and publish it"),
    "import": Command(
        "training.import_model", "train", "make tasks of finetuned checkpoints, one bit per weight each"
    ),
    "export": Command(
        "training.export_model", "train", "write a task as a folder that transformers.pipeline loads"
    ),
    "search": Command("training.search", "train", "search the learning rate of a task"),
    "compare": Command("training.compare", "train", "compare masks with finetuned copies on your own data"),
    "evaluate": Command("training.evaluate", "train", "measure a published task on labelled rows"),
    "report": Command("training.report", "train", "write the report of a run as one HTML file"),
    "predict": Command("training.predict", "train", "label the rows of a file, without a server"),
    "store": Command("mask_store.__main__", None, "look at a store, check it, choose what version is served"),
    "keys": Command("server.tenants.__main__", None, "make, list and remove API keys with tasks and limits"),
    "doctor": Command(
        "maskserve.doctor", None, "tell what this machine can compute, and whether it is right"
    ),
    "demo": Command("demo.__main__", "demo", "learn four tasks, serve them, query them (in a checkout)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name; None for the process's own.

    Returns:
        The exit code: 2 if the command line makes no sense or a package is missing, else the command's own.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] in COMMANDS:
        return _hand_on(arguments[0], arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        from maskserve.version import __version__  # noqa: PLC0415 (only here)

        print(f"maskserve {__version__}")
    elif options.command == "completion":
        if options.shell is None:
            parser.error(f"completion is printed for one of {', '.join(SHELLS)}")
        print(completion(options.shell, [*COMMANDS, "completion"]), end="")
    else:
        parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = {name: command.text for name, command in COMMANDS.items()}
    lines[f"completion {{{','.join(SHELLS)}}}"] = (
        "print a script that completes commands and options with TAB"
    )
    width = max(map(len, lines)) + 2
    parser = CommandParser(
        prog="maskserve",
        description="Many tasks from one pretrained encoder, each a one-bit mask over its weights.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}{text}" for name, text in lines.items())
        + "\n\nmaskserve COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = [*COMMANDS, "completion"]
    parser.add_argument("command", nargs="?", metavar="COMMAND", choices=commands, help=argparse.SUPPRESS)
    parser.add_argument("shell", nargs="?", choices=SHELLS, help=argparse.SUPPRESS)
    return parser


def _hand_on(name: str, arguments: Sequence[str]) -> int:
    command = COMMANDS[name]
    if name == "demo":
        if not _is_checkout():
            return _refuse("the demo is not installed, it is part of the source: make demo in a checkout")
        sys.path.insert(0, str(_ROOT))
    try:
        code: int = importlib.import_module(command.module).main(arguments, prog=f"maskserve {name}")
    except ModuleNotFoundError as error:
        missing = _missing(error)
        if command.extra is None or missing in (None, *_OWN):
            raise
        return _refuse(f"{name} needs {missing}: pip install 'maskserve[{command.extra}]'")
    return code


def _missing(error: BaseException | None) -> str | None:
    """Return the package that is missing: libraries raise errors of their own around the one that says so."""
    name = None
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            name = error.name.partition(".")[0]
        error = error.__cause__
    return name


def _is_checkout() -> bool:
    """Tell whether this package is part of a checkout, which has the demo, too."""
    return (_ROOT / "pyproject.toml").is_file() and (_ROOT / "demo" / "__main__.py").is_file()


def _refuse(message: str) -> int:
    print(f"maskserve: {message}", file=sys.stderr)
    return _USAGE


if __name__ == "__main__":
    sys.exit(main())
