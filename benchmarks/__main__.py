"""Command line: one subcommand per benchmark."""

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks.cases import figure, masked_linear, memory, mixed_batch, serving, swap, training_step
from benchmarks.errors import BenchmarkError
from lab.extras import MissingExtraError
from lab.server_process import ServerStartError

BENCHMARKS: dict[
    str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
] = {
    "masked_linear": (masked_linear.add_arguments, masked_linear.main),
    "mixed_batch": (mixed_batch.add_arguments, mixed_batch.main),
    "serving": (serving.add_arguments, serving.main),
    "swap": (swap.add_arguments, swap.main),
    "memory": (memory.add_arguments, memory.main),
    "training_step": (training_step.add_arguments, training_step.main),
    "figure": (figure.add_arguments, figure.main),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the arguments name; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (add_arguments, _) in BENCHMARKS.items():
        add_arguments(commands.add_parser(name))
    chosen = parser.parse_args(arguments)
    try:
        return BENCHMARKS[chosen.benchmark][1](chosen)
    except (BenchmarkError, MissingExtraError, ServerStartError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
