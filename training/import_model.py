"""Command ``import``: make tasks of finetuned checkpoints, one bit per weight each, and publish them.

    python -m training.import_model --model ID_OR_FOLDER --base ID_OR_FOLDER --task NAME --store DIR

Parses options and prints; the rest is in `training.copies.importing`. Exit codes: see `training.cli.command`.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mask_store import MaskStore, Pooling, WordPiece
from mask_store.terminal import CommandParser
from training.cli.command import run_command
from training.errors import FAILED, OptionsError, exit_code
from training.options import CopyEmbeddings, CopyForm, LoopOptions, Precision

if TYPE_CHECKING:
    from training.copies.importing import ImportReport

logger = logging.getLogger("training.import_model")  # not __name__, which is "__main__" for a command

_DESCRIPTION = """\
Make a task of a finetuned classifier of transformers, or of a sentence encoder, whose base a server has: the
sign of each weight's change, and a scale for each row, with nothing to learn; or, with --as mask, a mask that
is learned from its answers to text. What was not finetuned from the base is refused. A sentence encoder that
is the base itself needs no bits."""

_EPILOG = """\
examples:
  one checkpoint, compared with the task on your own text (answers, if there are any, are measured):
    maskserve import --model my-bert-trec --base bert-base-uncased --task trec --store masks --text dev.jsonl

  a mask learned from its answers to text without labels:
    maskserve import --model my-bert-trec --base bert-base-uncased --task trec --store masks --as mask \\
        --text questions.jsonl

  a sentence encoder that is the base, for embeddings:
    maskserve import --model all-MiniLM-L6-v2 --base all-MiniLM-L6-v2 --task semantic --store masks

  a folder of them, each under the name of its folder:
    maskserve import --models checkpoints --base bert-base-uncased --store masks

Embeddings of tokens stay the base's, unless with --embeddings changed, those of token types are the copy's;
what of the copy has moved farthest and is not kept is printed."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.import_model") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    arguments = _parser(prog).parse_args(argv)
    return run_command(lambda: _run(arguments), quiet=arguments.quiet)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="ID_OR_FOLDER", help="the classifier, or sentence encoder")
    which.add_argument("--models", metavar="DIR", help="folder of folders of such models")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of --model on the hub")
    parser.add_argument("--base", required=True, metavar="ID_OR_FOLDER", help="the encoder it was made from")
    parser.add_argument("--base-revision", metavar="NAME", help="branch, tag or commit of the base")
    parser.add_argument("--task", metavar="NAME", help="name to publish --model under")
    parser.add_argument("--store", required=True, metavar="DIR", help="store to publish to, a folder or URL")
    parser.add_argument(
        "--as",
        dest="form",
        choices=get_args(CopyForm),
        default="sign",
        help="signs of what finetuning changed, in seconds, or a 0/1 mask, learned from the model's answers "
        "to --text (sign)",
    )
    parser.add_argument("--pair", action="store_true", help="inputs are pairs of texts (which --text tells)")
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="tokens of an input at most (what the model takes)"
    )
    parser.add_argument(
        "--word-piece",
        choices=get_args(WordPiece),
        default="first",
        help="wordpiece of a word at which a token classifier was finetuned to tell its label (first)",
    )
    parser.add_argument(
        "--pooling",
        choices=get_args(Pooling),
        help="of an encoder alone, what embeddings are made of: the mean of a text's tokens, or [CLS] (what "
        "its files of sentence-transformers say)",
    )
    parser.add_argument(
        "--embeddings",
        choices=get_args(CopyEmbeddings),
        default="base",
        help="embeddings of tokens: the base's, or beside the signs the rows that finetuning changed, which "
        "take 4 bytes a number (base)",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        default=[],
        metavar="FILE",
        help="inputs to compare on, with answers or without; without --fit they choose the factor, too, and "
        "a mask is learned on nine tenths of them and compared on the last",
    )
    parser.add_argument(
        "--fit",
        nargs="+",
        default=[],
        metavar="FILE",
        help="some hundred inputs to fit a scale for each row on, by the copy's answers, in minutes; or to "
        "learn a mask on",
    )
    parser.add_argument(
        "--factor",
        type=float,
        metavar="X",
        help="scales as a multiple of the mean change of each row (the best of a few, by the answers)",
    )
    learning = parser.add_argument_group("of a mask (defaults are those of maskserve learn)")
    learning.add_argument("--epochs", type=int, metavar="N", help="most passes over the inputs")
    learning.add_argument("--lr", type=float, metavar="RATE", help="Adam's rate")
    learning.add_argument("--seed", type=int, metavar="N", help="decides scores, head, order and dropout")
    learning.add_argument("--precision", choices=get_args(Precision), help="of matrix products")
    learning.add_argument("--run-dir", metavar="DIR", help="folder of checkpoints (runs/NAME)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    models = _models(arguments)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from masking import load_base  # noqa: PLC0415
    from training.cli.progress import ProgressBar  # noqa: PLC0415
    from training.copies.importing import ImportOptions, import_copy  # noqa: PLC0415
    from training.runs.preparation import choose_device  # noqa: PLC0415

    store = MaskStore.open(arguments.store, create=True)
    store.check_writable()
    device = choose_device("auto") if arguments.form == "mask" else "cpu"
    base = load_base(arguments.base, revision=arguments.base_revision, device=device)
    callbacks = [] if arguments.quiet else [ProgressBar()]
    options = ImportOptions(
        form=arguments.form,
        pair=arguments.pair,
        max_length=arguments.max_length,
        word_piece=arguments.word_piece,
        pooling=arguments.pooling,
        embeddings=arguments.embeddings,
        text=tuple(arguments.text),
        fit=tuple(arguments.fit),
        factor=arguments.factor,
        loop=LoopOptions(**_learning(arguments)),
        run_dir=arguments.run_dir,
    )
    reports: list[ImportReport] = []
    refused = 0
    for task, model in models.items():
        try:
            reports.append(
                import_copy(
                    *(model, base, task, store, options), revision=arguments.revision, callbacks=callbacks
                )
            )
        except Exception as error:
            if arguments.model or exit_code(error) is None:
                raise
            refused += 1
            logger.warning(f"refused: {error}")
        else:
            logger.info(f"{task}: published version {reports[-1].version}")
    _print(reports, arguments)
    return FAILED if refused else 0


def _models(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the checkpoints to import by the names of their tasks."""
    problems = []
    if arguments.factor is not None and not arguments.factor > 0:
        problems.append(f"--factor {arguments.factor:g}: must be above 0")
    if arguments.max_length is not None and arguments.max_length < 1:
        problems.append(f"--max-length {arguments.max_length}: must be above 0")
    learning = {**_learning(arguments), **({"run-dir": 0} if arguments.run_dir else {})}
    if arguments.form == "sign":
        problems += [f"--{name} goes with --as mask: of signs nothing is learned" for name in learning]
    if arguments.model:
        if not arguments.task:
            problems.append("--task missing: name the task to publish the model as")
        found = {str(arguments.task): str(arguments.model)}
    else:
        options = {
            "--as mask": arguments.form == "mask",
            "--task": arguments.task,
            "--revision": arguments.revision,
            "--text": arguments.text,
            "--fit": arguments.fit,
        }
        problems += [f"{name} goes with --model alone" for name, value in options.items() if value]
        folders = sorted(path.parent for path in Path(arguments.models).glob("*/config.json"))
        found = {task_name(folder.name): str(folder) for folder in folders}
        if len(found) < len(folders) or not folders:
            problems.append(f"--models {arguments.models}: no folders with a config.json of different names")
    if problems:
        raise OptionsError(problems)
    return found


def _learning(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the given options of the loop that learns a mask."""
    given = {name: getattr(arguments, name) for name in ("epochs", "lr", "seed", "precision")}
    return {name: value for name, value in given.items() if value is not None}


def task_name(name: str) -> str:
    """Make a task's name of a folder's."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:64] or "task"


def _print(reports: "Sequence[ImportReport]", arguments: argparse.Namespace) -> None:
    if arguments.json:
        dicts = [report.to_dict() for report in reports]
        print(json.dumps(dicts[0] if arguments.model else dicts, ensure_ascii=False, indent=2))
    elif arguments.model:
        print(reports[0])
    elif reports:
        print(table(reports))


def table(reports: "Sequence[ImportReport]") -> str:
    """Write a line for each import."""
    wide = max(len("task"), *(len(report.task) for report in reports)) + 2
    head = f"{'task':<{wide}}{'kind':<26}{'labels':>6}{'bytes':>12}{'factor':>8}{'seconds':>9}"
    return "\n".join(
        [
            head,
            *(
                f"{one.task:<{wide}}{one.kind:<26}{len(one.labels):>6}{one.bundle_bytes:>12,}"
                f"{'' if one.factor is None else f'{one.factor:g}':>8}{one.seconds:>9.1f}"
                for one in reports
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
