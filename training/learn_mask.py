"""Command ``learn_mask``: learn a task's mask, or an ensemble of them, and publish it; or finetune a copy.

    python -m training.learn_mask --task NAME --kind KIND --base ID_OR_FOLDER --train FILE --dev FILE --store
    DIR

Parses options and prints; the rest is in `training.runs`. Exit codes: 0 published (or finetuned), 1 something
failed on the way (disk, store, learning), 2 bad input (options, data, base or store as given), 130 stopped by
^C.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.cli.command import run_command
from training.cli.parser import add_method, build_parser, parse_options, seed_problems
from training.distributed import is_main
from training.errors import OptionsError

if TYPE_CHECKING:
    from training.runs.report import Report

_DESCRIPTION = """\
Learn a new task for a server of masks. The pretrained encoder (--base) stays as it is; what is learned is one
bit for each of its weights, keep or drop, and published to a store (--store) that servers watch."""

_EPILOG = """\
kinds of task and the columns of their rows (other names: --text-column and so on):
  sequence-classification   text or sentence, label; for pairs of texts text and text_pair, sentence1 and
                            sentence2, premise and hypothesis, question and sentence and others
  token-classification      tokens (list of words), tags (list, one a word)
  multiple-choice           context, choices (list of texts, or columns choice0, choice1 and so on), label
                            (index from 0 or 1, letter or text of the right one)
  multi-label-classification
                            text, labels (a list, or a cell with the labels separated by | ; or ,)
  regression                text, score (a number or a list of numbers); also pairs of texts
  reranking                 query, document, label (relevance: 0 and 1, or grades)
  embedding                 pairs of texts, with or without a score (their similarity)

files: JSON lines or an array (.jsonl, .json), CSV, TSV, CoNLL columns (.conll, .txt), each also .gz, or
Parquet. Several files, or a pattern in quotation marks, are read as one. What was found out is printed.

examples:
  a first task, from two files:
    python -m training.learn_mask --task questions --kind sequence-classification --base bert-base-uncased \\
        --train train.jsonl --dev dev.jsonl --store masks

  named entities from the hub (entity F1 is the dev metric, as the tags are IOB2):
    python -m training.learn_mask --task ner --kind token-classification --base bert-base-cased \\
        --dataset unimelb-nlp/wikiann:en --tags-column ner_tags --store masks

  pairs of texts from CSV with other column names:
    python -m training.learn_mask --task duplicates --kind sequence-classification --base roberta-base \\
        --train train.csv --dev dev.csv --text-column question1 --pair-column question2 \\
        --label-column is_duplicate --store s3://bucket/masks

  two processes, each with half of every batch (on GPUs, one each):
    torchrun --nproc-per-node 2 -m training.learn_mask --task questions ... --batch-size 32

A killed run resumes after its last checkpoint when the same command is given again."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.learn_mask") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = build_parser(prog, _DESCRIPTION, _EPILOG)
    method = add_method(parser)
    method.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="N",
        help="learn a mask for each of these seeds and publish them as one task, an ensemble whose labels, "
        "logits or probabilities are combined, whichever is best on dev",
    )
    method.add_argument(
        "--save-to",
        metavar="DIR",
        help="folder to keep finetuned weights in, as transformers loads it (with --method finetune)",
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments), quiet=arguments.quiet)


def _run(arguments: argparse.Namespace) -> int:
    _check_together(arguments)
    options = parse_options(arguments)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from training.cli.progress import ProgressBar  # noqa: PLC0415
    from training.runs import ensemble, finetune, learn  # noqa: PLC0415

    callbacks = [] if arguments.quiet else [ProgressBar()]
    report: Report
    if arguments.method == "finetune":
        keep = Path(arguments.save_to) if "save_to" in arguments else None
        report = finetune.finetune(options, callbacks=callbacks, keep=keep)
    elif "seeds" in arguments:
        report = ensemble.learn_ensemble(options, arguments.seeds, callbacks=callbacks)
    else:
        report = learn.learn(options, callbacks=callbacks)
    if is_main():
        print(json.dumps(report.to_dict(), ensure_ascii=False, indent=2) if arguments.json else report)
    return 0


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that don't go together.

    Raises:
        OptionsError: Lists every mistake.
    """
    finetunes = arguments.method == "finetune"
    problems = seed_problems(arguments)
    if finetunes and "seeds" in arguments:
        problems.append(
            "--seeds learns an ensemble of masks, which --method finetune doesn't; "
            "training.compare runs both methods for several seeds"
        )
    if "save_to" in arguments and not finetunes:
        problems.append("--save-to is where --method finetune keeps weights; masks are kept in --store")
    if problems:
        raise OptionsError(problems)


if __name__ == "__main__":
    sys.exit(main())
