"""Options of the package's commands: those that `training.learn_mask`, `search` and `compare` share.

Most stand for a field of `training.options.LearnOptions`, where the defaults and the checks are. What one
command alone takes is with that command. No torch is loaded here.
"""

import argparse
import dataclasses
from typing import get_args

from mask_store import HeadMode, ScoreGradient, ScoreInit, TaskKind
from training.options import DEFAULT_LR, Device, LearnOptions, Method, Metric, Precision
from training.presets import Preset, options_of


def build_parser(module: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Build a command's parser with the options that all commands take.

    Args:
        module: the command, such as ``training.learn_mask``.
        description: what ``--help`` says before the options.
        epilog: what it says after them.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what isn't given keeps the default of LearnOptions
        allow_abbrev=False,
    )
    _add_task(parser.add_argument_group("task"))
    _add_data(parser.add_argument_group("data"))
    _add_learning(parser.add_argument_group("learning (defaults are the paper's, but for --lr)"))
    _add_masks(parser.add_argument_group("masks (defaults are the paper's, but for --head)"))
    _add_extras(parser.add_argument_group("beyond the paper's setting (off by default)"))
    _add_run(parser.add_argument_group("run"))
    return parser


def parse_options(arguments: argparse.Namespace) -> LearnOptions:
    """Turn parsed arguments into options.

    Raises:
        OptionsError: they don't make sense; lists every mistake.
    """
    names = {field.name for field in dataclasses.fields(LearnOptions)}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    return options_of({"lr": DEFAULT_LR[getattr(arguments, "method", "mask")]} | given, arguments.preset)


def add_method(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the choice between masking and finetuning; returns its group."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        choices=get_args(Method),
        default="mask",
        help="learn a mask, or finetune a copy of the base on the same data, for comparison (mask); options "
        "of masks say nothing to finetuning",
    )
    return group


def seed_problems(arguments: argparse.Namespace) -> list[str]:
    """Return what is wrong with `--seeds` beside the other options, one sentence each."""
    seeds = getattr(arguments, "seeds", [])
    checks = [
        (not seeds or "seed" not in arguments, "--seed and --seeds: give one or the other"),
        (len(set(seeds)) == len(seeds), "--seeds: give each seed once"),
    ]
    return [message for good, message in checks if not good]


def _add_task(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--task", required=True, metavar="NAME", help="name to publish under: a-z, 0-9, . _ -")
    group.add_argument("--kind", required=True, choices=get_args(TaskKind), help="what the task predicts")
    group.add_argument(
        "--base", required=True, metavar="ID_OR_FOLDER", help="pretrained encoder: hub id or folder"
    )
    group.add_argument(
        "--store", metavar="DIR", help="store to publish masks to, made if absent: folder or URL"
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train", metavar="FILE", help="labelled rows to learn from")
    group.add_argument("--dev", metavar="FILE", help="labelled rows to choose the best epoch by")
    group.add_argument("--dataset", metavar="ID[:CONFIG]", help="hub dataset, in place of --train and --dev")
    group.add_argument("--train-split", metavar="SPLIT", help="its split to learn from (train)")
    group.add_argument("--dev-split", metavar="SPLIT", help="its split to choose by (validation)")
    for role in ("text", "pair", "label", "tokens", "tags", "context", "choices"):
        group.add_argument(
            f"--{role}-column", metavar="NAME", help=f"column of the {role}, where named otherwise"
        )


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--preset",
        choices=get_args(Preset),
        default=None,
        help="paper: the paper's value of every setting but --lr and --seed, whatever the defaults are; "
        "those can't be given as well",
    )
    group.add_argument(
        "--lr",
        type=float,
        help="Adam's rate, constant (0.001; in finetuning 0.00005); that of masks belongs to the range that "
        "scores start in, so another --initial-sparsity, --threshold or --score-low wants another rate",
    )
    group.add_argument("--epochs", type=int, help="most passes over the training rows (10)")
    group.add_argument("--patience", type=int, help="stop after so many epochs without gain (2)")
    group.add_argument(
        "--batch-size", type=int, help="examples in a batch (32; the paper: 128 for large sets)"
    )
    group.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="batches a step of Adam: as one batch N times the size, in the memory of one (1)",
    )
    group.add_argument(
        "--group-by-length", action="store_true", help="batches of inputs of similar length: less padding"
    )
    group.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="bf16: matrix products in bfloat16, what is learned in float32; faster where the processor "
        "has it (fp32)",
    )
    group.add_argument("--max-length", type=int, help="tokens that longer inputs are cut to (128)")
    group.add_argument(
        "--metric", choices=get_args(Metric), help="dev metric to choose by (accuracy; f1 for IOB2 tags)"
    )
    group.add_argument("--seed", type=int, help="decides scores, head, order and dropout (0)")


def _add_masks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--blocks", metavar="LIST", help="blocks to mask, such as 2-11 or 0,3,8- (2-, from 2 to the last)"
    )
    group.add_argument(
        "--initial-sparsity", type=float, metavar="SHARE", help="share of zeros at the start (0.05)"
    )
    group.add_argument("--threshold", type=float, help="score from which a weight is kept (0.01)")
    group.add_argument("--score-low", type=float, help="lowest score at the start (-0.02)")
    group.add_argument(
        "--head",
        choices=get_args(HeadMode),
        help="trained and dense, or the paper's: random, frozen and masked (trained)",
    )


def _add_extras(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--score-init",
        choices=get_args(ScoreInit),
        help="which weights start with low scores: any (uniform), or the smallest, so that learning starts "
        "from magnitude pruning (magnitude)",
    )
    group.add_argument(
        "--score-gradient",
        choices=get_args(ScoreGradient),
        help="a score gets its bit's gradient as it is (straight-through), or the less of it the farther it "
        "is from the threshold (sigmoid, with --temperature)",
    )
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="width of that sigmoid, in units of scores, such as 0.1",
    )
    group.add_argument(
        "--average",
        type=float,
        metavar="DECAY",
        help="take masks from a moving average of the scores over the steps; 0.99 looks back about 100 steps",
    )
    group.add_argument(
        "--final-sparsity",
        type=float,
        metavar="SHARE",
        help="share of zeros to end with; the threshold moves there over the first half of --epochs, and "
        "only epochs from then on can be the best",
    )
    group.add_argument(
        "--scale-lr",
        action="store_true",
        help="scale --lr by the width of the initial scores' range over the paper's 0.60, so that one rate "
        "fits other --initial-sparsity",
    )
    group.add_argument(
        "--head-lr", type=float, help="Adam's rate on a head that is trained (--lr, never scaled)"
    )


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device", choices=get_args(Device), help="where to learn (auto: the GPU where there is one)"
    )
    group.add_argument("--threads", type=int, help="CPU threads (torch's choice)")
    group.add_argument("--run-dir", metavar="DIR", help="folder of checkpoints (runs/NAME)")
    group.add_argument(
        "--fresh",
        action="store_true",
        help="drop an unfinished run there instead of going on with it (a file of results stays as it is)",
    )
    group.add_argument(
        "--save-steps", type=int, metavar="N", help="a checkpoint every N steps too, not only every epoch"
    )
    group.add_argument(
        "--tensorboard", metavar="DIR", help="folder for TensorBoard: loss, dev metrics, zeros, flipped bits"
    )
    group.add_argument("--quiet", action="store_true", default=False, help="show no progress")
    group.add_argument("--json", action="store_true", default=False, help="print the final report as JSON")
