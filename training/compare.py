"""Command ``compare``: learn a task by masking and by finetuning, and print both (paper, Table 1).

    python -m training.compare --task NAME --kind KIND --base ID_OR_FOLDER --train FILE --dev FILE
    [--seeds 1 2 3 4] [--store DIR] [--results FILE.jsonl]

Takes the options of `training.learn_mask`; masks are published if a store is given. Each run is made once, as
its result is kept in a file, so a comparison that was killed resumes. Exit codes: see `training.cli.command`.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from training.cli.command import run_command
from training.cli.parser import build_parser, parse_options, seed_problems
from training.distributed import refuse_several
from training.errors import OptionsError
from training.options import DEFAULT_LR, LearnOptions, Method
from training.paper import task_rate

if TYPE_CHECKING:
    from training.runs.results import Result

logger = logging.getLogger("training.compare")  # not __name__, which is "__main__" for a command

NAMES: dict[Method, str] = {"mask": "masking", "finetune": "finetuning"}


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.compare") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = build_parser(
        prog,
        "Learn a task by masking and by finetuning the same encoder on the same data, with the same metric "
        "and early stopping, and print both: mean and standard deviation over seeds, size and time.",
    )
    group = parser.add_argument_group("comparison (--lr is the rate of masking)")
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to run (the --seed alone)")
    rate = f"({DEFAULT_LR['finetune']:g}; with --preset the paper's, where it has one)"
    group.add_argument("--finetune-lr", type=float, metavar="LR", help=f"Adam's rate in finetuning {rate}")
    group.add_argument(
        "--results",
        metavar="FILE.jsonl",
        help="keeps the result of each run; a run it holds is not repeated, nor its mask published again "
        "(runs/NAME-compare.jsonl)",
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _compare(arguments), quiet=arguments.quiet)


def _compare(arguments: argparse.Namespace) -> int:
    refuse_several("training.compare")
    problems = seed_problems(arguments)
    if not 0 < getattr(arguments, "finetune_lr", 1.0) < math.inf:
        problems.append(f"--finetune-lr {arguments.finetune_lr}: must be a number above 0")
    if problems:
        raise OptionsError(problems)
    options = parse_options(arguments)
    runs = _run_all(options, arguments)
    _keep(options, runs)
    if arguments.json:
        print(json.dumps([run.to_dict() for run in runs], indent=2))
    else:
        print(comparison_table(options.task, runs))
    return 0


def _keep(options: LearnOptions, runs: "Sequence[Result]") -> None:
    """Leave the comparison and its page in its folder; `training.report` shows it beside a run, too."""
    from training.page.page import PAGE, run_page  # noqa: PLC0415
    from training.page.record import write_comparison  # noqa: PLC0415

    folder = _folder(options)
    page = run_page(write_comparison(folder, [run.to_dict() for run in runs]))
    (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    logger.info(f"page: {folder / PAGE}")


def _folder(options: LearnOptions) -> Path:
    from training.page.record import COMPARED  # noqa: PLC0415

    return Path(f"{options.run_folder}{COMPARED}")


def _run_all(options: LearnOptions, arguments: argparse.Namespace) -> "list[Result]":
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.cli.progress import ProgressBar  # noqa: PLC0415
    from training.runs.learn import open_store  # noqa: PLC0415
    from training.runs.preparation import prepare  # noqa: PLC0415
    from training.runs.results import Results  # noqa: PLC0415
    from training.runs.runner import Runner  # noqa: PLC0415

    results = Results(Path(getattr(arguments, "results", f"{_folder(options)}.jsonl")))
    callbacks = [] if arguments.quiet else [ProgressBar()]
    store = open_store(options) if options.store else None
    ready = prepare(options)
    runner = Runner(results, _folder(options), callbacks, store)
    rates: dict[Method, float] = {"mask": options.lr, "finetune": _finetune_rate(options, arguments)}
    seeds = getattr(arguments, "seeds", [options.seed])
    plan = [(method, ready.varied(seed=seed, lr=rates[method])) for seed in seeds for method in NAMES]
    runs = []
    for method, run in plan:
        runs.append(runner.run(run, method))
        logger.info(f"{NAMES[method]}, seed {run.options.seed}, {runs[-1]}")
    return runs


def _finetune_rate(options: LearnOptions, arguments: argparse.Namespace) -> float:
    known = task_rate(options.base, "finetune", options.task) if arguments.preset else None
    rate: float = getattr(arguments, "finetune_lr", known or DEFAULT_LR["finetune"])
    return rate


def comparison_table(task: str, runs: "Sequence[Result]") -> str:
    """Write both methods below each other, and the difference of their means.

    Args:
        task: Name of the task.
        runs: One for each method and seed.

    Returns:
        Mean and standard deviation over seeds of the dev metric in percent, bytes that one task takes in
        addition to the base, and mean time of a run. Runs that diverged are left out, but counted.
    """
    title = f"{task}: dev {runs[0].metric} over {len({run.seed for run in runs})} seed(s), in percent"
    head = f"{'method':<12}{'mean':>8}{'sd':>7}{'size of a task':>26}{'time of a run':>16}"
    by_method = {method: [run for run in runs if run.method == method] for method in NAMES}
    lines = [f"{NAMES[method]:<12}{_figures(own)}" for method, own in by_method.items()]
    means = [_mean(own) for own in by_method.values()]
    return "\n".join([title, head, *lines, f"{'difference':<12}{means[0] - means[1]:>+8.2f}"])


def _figures(runs: "Sequence[Result]") -> str:
    values = _percents(runs)
    spread = f"{stdev(values):.2f}" if len(values) > 1 else "-"
    size = max(run.nbytes for run in runs)
    seconds = fmean(run.seconds for run in runs)
    diverged = len(runs) - len(values)
    note = f"  {diverged} of {len(runs)} diverged" if diverged else ""
    return f"{_mean(runs):>8.2f}{spread:>7}{f'{size:,} bytes':>26}{seconds:>14,.0f} s{note}"


def _mean(runs: "Sequence[Result]") -> float:
    """Mean in percent; not a number where every run diverged."""
    return fmean(_percents(runs) or [math.nan])


def _percents(runs: "Sequence[Result]") -> list[float]:
    return [100 * run.value for run in runs if run.values]


if __name__ == "__main__":
    sys.exit(main())
