"""Command: learn a task by masking and by finetuning, and set the two side by side (paper, Table 1).

    python -m training.compare --task NAME --kind KIND --base ID_OR_FOLDER --train FILE --dev FILE --store
    DIR [--seeds 1 2 3 4]

Takes the options of `training.learn_mask`; masks are published as that command would. Exit codes are the
same too.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from training.learn_mask import build_parser, parse_options, run_command, say
from training.options import LearnOptions
from training.processes import is_main

FINETUNE_LR = 5e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit code.
    """
    parser = build_parser()
    parser.prog = "python -m training.compare"
    parser.description = (
        "Learn a task by masking and by finetuning the same encoder on the same data, with the same metric "
        "and early stopping, and print both."
    )
    parser.epilog = None
    group = parser.add_argument_group("comparison")
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to run (the --seed alone)")
    group.add_argument(
        "--finetune-lr", type=float, default=FINETUNE_LR, help=f"Adam's rate in finetuning ({FINETUNE_LR})"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _compare(parse_options(arguments), arguments))


def _compare(options: LearnOptions, arguments: argparse.Namespace) -> int:
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.finetune import finetune  # noqa: PLC0415
    from training.learn import learn  # noqa: PLC0415
    from training.progress import ProgressBar  # noqa: PLC0415

    quiet = arguments.quiet
    runs: list[dict[str, Any]] = []
    for seed in getattr(arguments, "seeds", None) or [options.seed]:
        seeded = dataclasses.replace(options, seed=seed, run_dir=f"{options.run_folder}-seed{seed}")
        mask = learn(seeded, callbacks=_bars(quiet, ProgressBar), say=None if quiet else say)
        tuned = finetune(
            dataclasses.replace(seeded, lr=arguments.finetune_lr),
            callbacks=_bars(quiet, ProgressBar),
            say=None if quiet else say,
        )
        runs += [
            _run("masking", seed, mask.metric, mask.value, mask.mask_bytes, mask.seconds),
            _run("finetuning", seed, tuned.metric, tuned.value, tuned.model_bytes, tuned.seconds),
        ]
    if is_main():
        print(json.dumps(runs, indent=2) if arguments.json else comparison_table(options.task, runs))
    return 0


def comparison_table(task: str, runs: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds of each method, and what a task takes in memory.

    Args:
        task: name of the task.
        runs: one record per method and seed, as the command collects them.
    """
    lines = [f"{task}: dev {runs[0]['metric']} over {len(runs) // 2} seed(s)"]
    lines.append(f"{'method':<12}{'mean':>9}{'sd':>9}{'bytes a task':>16}{'seconds':>10}")
    for method in ("masking", "finetuning"):
        own = [run for run in runs if run["method"] == method]
        values = [100 * run["value"] for run in own]
        spread = f"{stdev(values):.2f}" if len(values) > 1 else "-"
        seconds = fmean(run["seconds"] for run in own)
        lines.append(f"{method:<12}{fmean(values):>9.2f}{spread:>9}{own[0]['bytes']:>16,}{seconds:>10.0f}")
    return "\n".join(lines)


def _run(method: str, seed: int, metric: str, value: float, size: int, seconds: float) -> dict[str, Any]:
    return dict(method=method, seed=seed, metric=metric, value=value, bytes=size, seconds=seconds)


def _bars(quiet: bool, bar: Any) -> list[Any]:
    return [] if quiet else [bar()]


if __name__ == "__main__":
    sys.exit(main())
