"""Command: python -m benchmarks, one subcommand for each benchmark."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from benchmarks.errors import BenchmarkError
from lab.extras import MissingExtraError
from lab.server_process import ServerStartError
from mask_store.terminal import CommandParser, escape_missing_letters

BENCHMARKS: Mapping[str, str] = {
    "masked_linear": "one linear layer under the masks of many tasks",
    "mixed_batch": "batches of many tasks, against dense models, finetuned copies and adapters",
    "signs": "batches of finetuned copies as signs, beside masks and one dense model",
    "precision": "metrics and labels of learned tasks in each precision, against fp32",
    "serving": "the server under concurrent clients: HTTP, engine, one batch per task",
    "neighbours": "the server among busy neighbours and under a CPU quota",
    "fanout": "one text for many tasks, against separate rows and separate requests",
    "residency": "ten thousand tasks, of which a few hundred fit into memory; a thousand that all do",
    "swap": "from publishing a version to its first answer",
    "memory": "bytes per task",
    "training_step": "time and memory of a learning step, against finetuning",
    "figure": "draws the results of mixed_batch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the arguments name.

    Args:
        arguments: The command line without the program's name; None for the process's own.

    Returns:
        The exit code.
    """
    escape_missing_letters()
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = CommandParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    parsers = {name: commands.add_parser(name, help=text) for name, text in BENCHMARKS.items()}
    if not given or given[0] not in BENCHMARKS:
        parser.parse_args(given)  # --help or a mistake; neither waits for torch
    case = import_module(f"benchmarks.cases.{given[0]}")
    case.add_arguments(parsers[given[0]])
    code: int
    try:
        code = case.main(parser.parse_args(given))
    except (BenchmarkError, MissingExtraError, ServerStartError) as error:
        print(error, file=sys.stderr)
        code = getattr(error, "exit_code", 1)
    return code


if __name__ == "__main__":
    sys.exit(main())
