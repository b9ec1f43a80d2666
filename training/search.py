"""Command ``search``: search a task's learning rate on a grid that extends itself (paper, section 4).

    python -m training.search --task NAME --kind KIND --base ID_OR_FOLDER --train FILE --dev FILE
    [--method finetune]

Takes the options of `training.learn_mask`, publishes nothing, and prints the rate as an option for that
command, such as ``--lr 0.002``; the result of each run is printed on stderr. How the grid grows is told in
`training.runs.rate_search`. Runs that lie far behind are stopped (`training.runs.runner.StopHopeless`), and a
run that diverges counts as worse than any other. Exit codes: see `training.cli.command`.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cli.command import run_command
from training.cli.parser import add_method, build_parser, parse_options, seed_problems
from training.distributed import refuse_several
from training.errors import OptionsError, SearchError
from training.options import LearnOptions, Method
from training.runs.rate_search import FACTOR, MAX_RUNS, PAPER_MAX_RUNS, Found, Grid, rounded, search

if TYPE_CHECKING:
    from training.runs.preparation import Preparation

logger = logging.getLogger("training.search")  # not __name__, which is "__main__" for a command


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
        help="rates to start with (--lr and a step either way; with --preset paper 1, 3, 5, 7 and 9 times "
        "1e-5, and on with each power of ten)",
    )
    group.add_argument("--factor", type=float, help=f"step of the grid ({FACTOR:g})")
    group.add_argument(
        "--max-runs",
        type=int,
        help=f"rates to try at most ({MAX_RUNS}; {PAPER_MAX_RUNS} on the paper's grid)",
    )
    group.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="seeds to take the mean over (the --seed alone)"
    )
    group.add_argument(
        "--results", metavar="FILE.jsonl", help="keeps the result of each run (runs/NAME-search.jsonl)"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments), quiet=arguments.quiet)


def _run(arguments: argparse.Namespace) -> int:
    refuse_several("training.search")
    if problems := seed_problems(arguments):
        raise OptionsError(problems)
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
    ready = prepare(options)
    found = search(ready, arguments.method, grid, runner, getattr(arguments, "seeds", None))
    _log(found, grid)
    _check_learned(found, ready)
    print(json.dumps(_summary(found, grid, arguments.method), indent=2) if arguments.json else _flag(found))
    return 0


def _check_learned(found: Found, ready: "Preparation") -> None:
    """Make sure that a rate learned something; where dev is too small to judge, only warn.

    Raises:
        SearchError: None did.
    """
    from training.runs.acceptance import JUDGED_EXAMPLES  # noqa: PLC0415 (torch, as above)

    if not found.nothing_learned:
        return
    told = (
        f"no rate may have learned anything: the best has dev {ready.metric} {found.best.value:.4f}, and "
        f"{ready.baseline.how} has {ready.baseline.value:.4f}; try more --epochs or other rates (--grid)"
    )
    if len(ready.encoded.dev) >= JUDGED_EXAMPLES:
        raise SearchError(told)
    logger.warning(f"warning: {told}")


def _grid(options: LearnOptions, arguments: argparse.Namespace) -> Grid:
    own = {"grid", "lr", "factor"} & vars(arguments).keys()
    if arguments.preset == "paper" and not own:
        return Grid.paper(getattr(arguments, "max_runs", PAPER_MAX_RUNS))
    factor, max_runs = getattr(arguments, "factor", FACTOR), getattr(arguments, "max_runs", MAX_RUNS)
    if "grid" not in arguments:
        return Grid.around(options.lr, factor=factor, max_runs=max_runs)
    if "lr" in arguments:
        raise OptionsError(["--lr is the middle of the default grid and --grid takes its place: give one"])
    return Grid(tuple(sorted({rounded(rate) for rate in arguments.grid})), factor, max_runs)


def _flag(found: Found) -> str:
    return f"--lr {found.best.lr:g}"


def _summary(found: Found, grid: Grid, method: Method) -> dict[str, Any]:
    return {
        "method": method,
        "lr": found.best.lr,
        "on_border": bool(grid.beyond(found)),
        "runs": [run.to_dict() for trial in found.trials for run in trial.runs],
    }


def _log(found: Found, grid: Grid) -> None:
    for trial in found.trials:
        logger.info(f"{trial}{'  <- best' if trial is found.best else ''}")
    if grid.beyond(found):
        logger.info(
            f"the best rate is on the border of the grid, and {grid.max_runs} rates were tried: raise "
            "--max-runs"
        )


if __name__ == "__main__":
    sys.exit(main())
