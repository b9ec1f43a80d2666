"""Command line: one subcommand per benchmark."""

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks import masked_linear, training_step

BENCHMARKS: dict[
    str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
] = {
    "masked_linear": (masked_linear.add_arguments, masked_linear.main),
    "training_step": (training_step.add_arguments, training_step.main),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (add_arguments, _) in BENCHMARKS.items():
        add_arguments(commands.add_parser(name))
    chosen = parser.parse_args(arguments)
    return BENCHMARKS[chosen.benchmark][1](chosen)


if __name__ == "__main__":
    sys.exit(main())
