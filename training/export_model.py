"""Command ``export``: write a published task as an ordinary folder of transformers.

    python -m training.export_model --task NAME --store DIR --base ID_OR_FOLDER --to FOLDER

Exit codes: see `training.cli.command`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mask_store import MaskStore
from mask_store.terminal import CommandParser
from training.cli.command import run_command
from training.errors import OptionsError

_DESCRIPTION = """\
Write a task as a folder with config.json, model.safetensors and the tokenizer, its bits folded into the
weights. transformers.pipeline loads it, and answers as the task does; embeddings are for
sentence-transformers."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training.export_model") -> int:
    """Run the command.

    Args:
        argv: Arguments; None for the process's own.
        prog: The program's name, for `--help`.

    Returns:
        The exit code.
    """
    parser = CommandParser(prog=prog, description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--task", required=True, metavar="NAME", help="the task")
    parser.add_argument("--version", type=int, metavar="N", help="number of the version (the current one)")
    parser.add_argument("--store", required=True, metavar="DIR", help="its store, a folder or URL")
    parser.add_argument("--base", required=True, metavar="ID_OR_FOLDER", help="the encoder it belongs to")
    parser.add_argument("--base-revision", metavar="NAME", help="branch, tag or commit of the base")
    parser.add_argument("--to", required=True, metavar="FOLDER", help="folder to write; must be new or empty")
    parser.add_argument(
        "--onnx", action="store_true", help="write model.onnx, too, for ONNX Runtime (needs the extra onnx)"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.to)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionsError([f"--to {folder}: is there already; name a new folder"])
    store = MaskStore.open(arguments.store)
    version = store.version(arguments.task, arguments.version)
    bundle = store.load(version)
    # torch takes seconds to import, which --help and mistakes don't wait for
    from masking import load_base  # noqa: PLC0415
    from masking.checkpoints import export_task  # noqa: PLC0415

    base = load_base(arguments.base, revision=arguments.base_revision)
    export_task(bundle, base, folder, onnx=arguments.onnx)
    print(f"{version} is in {folder}, for transformers' {bundle.manifest.kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
