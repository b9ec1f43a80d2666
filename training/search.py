"""Command ``search``: search a task's learning rate on a grid that extends itself (paper, section 4).

    python -m training.search --task NAME --kind KIND --base ID_OR_FOLDER --train FILE --dev FILE
    [--method finetune]

Takes the options of `training.learn_mask`, publishes nothing, and prints the rate as an option for that
command, such as ``--lr 0.002``; the result of each run is printed on stderr. The grid grows by a step at its
lower or upper end until the best rate is not on its border; runs that lie far behind are stopped
(`training.runs.runner.StopHopeless`), and a run that diverges counts as worse than any other. Exit codes: see
`training.cli.command`.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cli.command import run_command
from training.cli.parser import add_method, build_parser, parse_options
from training.distributed import refuse_several
from training.errors import OptionsError, SearchError
from training.options import LearnOptions, Method

if TYPE_CHECKING:
    from training.runs.preparation import Preparation
    from training.runs.results import Result
    from training.runs.runner import Runner

logger = logging.getLogger("training.search")  # not __name__, which is "__main__" for a command

FACTOR = 2.0
MAX_RUNS = 12


@dataclass(frozen=True)
class Grid:
    """Grid of learning rates: where a search starts and how it is extended.

    Attributes:
        rates: Learning rates to start with, rising.
        factor: Step from the border to the next rate.
        max_runs: Rates to try at most, those that are known from earlier included.

    Raises:
        OptionsError: When built with values that don't make sense; lists every mistake.
    """

    rates: tuple[float, ...]
    factor: float = FACTOR
    max_runs: int = MAX_RUNS

    def __post_init__(self) -> None:
        """Check everything at once."""
        given = " ".join(f"{rate:g}" for rate in self.rates)
        checks = [
            (all(0 < rate < math.inf for rate in self.rates), f"--grid {given}: rates must lie above 0"),
            (1 < self.factor < math.inf, f"--factor {self.factor:g}: must be above 1"),
            (
                self.max_runs >= len(self.rates),
                f"--max-runs {self.max_runs}: the grid alone has {len(self.rates)} rates",
            ),
        ]
        problems = [message for good, message in checks if not good]
        if problems:
            raise OptionsError(problems)

    @classmethod
    def around(cls, lr: float, *, factor: float = FACTOR, max_runs: int = MAX_RUNS) -> "Grid":
        """Make a grid of a rate and its neighbours on both sides."""
        return cls((_rounded(lr / factor), _rounded(lr), _rounded(lr * factor)), factor, max_runs)

    def in_order(self) -> list[float]:
        """Return the rates from the middle outwards: likely ones first, for the rest to be held against."""
        middle = math.log(self.rates[len(self.rates) // 2])
        return sorted(self.rates, key=lambda rate: abs(math.log(rate) - middle))

    def beyond(self, found: "Found") -> float | None:
        """Return the rate that extends a search past its best one; None where that is not on the border."""
        best, rates = found.best, [run.lr for run in found.runs]
        if best.lr == rates[0] or not best.values:  # where every run diverged, lower is the way
            return _rounded(rates[0] / self.factor)
        return _rounded(best.lr * self.factor) if best.lr == rates[-1] else None


@dataclass(frozen=True)
class Found:
    """Runs of a search so far.

    Attributes:
        runs: Every run, by rising rate; at least one.
    """

    runs: "tuple[Result, ...]"

    @property
    def best(self) -> "Result":
        """The run with the best dev value; of several with equal values the middle one by rate."""
        top = max(run.value for run in self.runs)
        equal = [run for run in self.runs if run.value == top]
        return equal[len(equal) // 2]


def search(ready: "Preparation", method: Method, grid: Grid, runner: "Runner") -> Found:
    """Search the learning rate; every run that the runner's results hold counts, whatever grid it came from.

    Args:
        ready: The task and its settings; its rate is not used.
        method: How to learn it.
        grid: Where to start and how to extend it.
        runner: Makes the runs.

    Returns:
        All runs of these settings. The best one is on the border only if `grid.max_runs` ended the search.

    Raises:
        SearchError: Every run diverged.
        TrainingError, MaskingError: As in `training.runs.learn.learn`.
    """
    known = {run.lr: run for run in runner.results.over("lr", ready.identity_for(method))}
    waiting = grid.in_order()
    while waiting:
        lr = waiting.pop(0)
        if lr not in known and len(known) < grid.max_runs:
            rival = _found(known).best if known else None
            known[lr] = runner.run(ready.varied(lr=lr), method, rival)
            logger.info(f"{known[lr]} ({len(known)} of at most {grid.max_runs} runs)")
        if not waiting and len(known) < grid.max_runs:
            beyond = grid.beyond(_found(known))
            waiting = [] if beyond is None else [beyond]
    found = _found(known)
    if not found.best.values:
        raise SearchError(f"every rate from {found.runs[0].lr:g} to {found.runs[-1].lr:g} diverged")
    return found


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.search") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = build_parser(
        prog,
        "Search the learning rate of a task: a grid that extends itself until the best rate is not on its "
        "border. Prints the rate as an option for training.learn_mask and publishes nothing.",
        "A search that was killed resumes when the same command is given again.",
    )
    add_method(parser)
    group = parser.add_argument_group("search")
    group.add_argument(
        "--grid",
        type=float,
        nargs="+",
        metavar="LR",
        help="rates to start with (--lr and a step either way)",
    )
    group.add_argument("--factor", type=float, default=FACTOR, help=f"step of the grid ({FACTOR:g})")
    group.add_argument("--max-runs", type=int, default=MAX_RUNS, help=f"rates to try at most ({MAX_RUNS})")
    group.add_argument(
        "--results", metavar="FILE.jsonl", help="keeps the result of each run (runs/NAME-search.jsonl)"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments), quiet=arguments.quiet)


def _run(arguments: argparse.Namespace) -> int:
    refuse_several("training.search")
    options = parse_options(arguments)
    grid = _grid(options, arguments)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.cli.progress import ProgressBar  # noqa: PLC0415
    from training.runs.preparation import prepare  # noqa: PLC0415
    from training.runs.results import Results  # noqa: PLC0415
    from training.runs.runner import Runner  # noqa: PLC0415

    results = Results(Path(getattr(arguments, "results", f"{options.run_folder}-search.jsonl")))
    callbacks = [] if arguments.quiet else [ProgressBar()]
    runner = Runner(results, Path(f"{options.run_folder}-search"), callbacks)
    found = search(prepare(options), arguments.method, grid, runner)
    _log(found, grid)
    print(json.dumps(_summary(found, grid, arguments.method), indent=2) if arguments.json else _flag(found))
    return 0


def _grid(options: LearnOptions, arguments: argparse.Namespace) -> Grid:
    factor, max_runs = arguments.factor, arguments.max_runs
    if "grid" not in arguments:
        return Grid.around(options.lr, factor=factor, max_runs=max_runs)
    if "lr" in arguments:
        raise OptionsError(["--lr is the middle of the default grid and --grid takes its place: give one"])
    return Grid(tuple(sorted({_rounded(rate) for rate in arguments.grid})), factor, max_runs)


def _found(known: "dict[float, Result]") -> Found:
    return Found(tuple(known[lr] for lr in sorted(known)))


def _flag(found: Found) -> str:
    return f"--lr {found.best.lr:g}"


def _summary(found: Found, grid: Grid, method: Method) -> dict[str, Any]:
    return {
        "method": method,
        "lr": found.best.lr,
        "on_border": grid.beyond(found) is not None,
        "runs": [run.to_dict() for run in found.runs],
    }


def _log(found: Found, grid: Grid) -> None:
    for run in found.runs:
        logger.info(f"{run}{'  <- best' if run is found.best else ''}")
    if grid.beyond(found) is not None:
        logger.info(
            f"the best rate is on the border of the grid, but {grid.max_runs} runs (--max-runs) are made"
        )


def _rounded(rate: float) -> float:
    """Six digits, so that a rate is the same as an option, in a file and in the next search."""
    return float(f"{rate:.6g}")


if __name__ == "__main__":
    sys.exit(main())
