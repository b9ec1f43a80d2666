"""Command-line parser: the options that `training.learn_mask`, `search` and `compare` share.

Those that stand for a field of `training.options.LearnOptions` are generated from it, with its description,
choices and default. What one command alone takes is added by that command.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from mask_store.terminal import CommandParser
from masking.base_folder import check_folder
from masking.errors import BaseLoadError
from training.errors import OptionsError
from training.options import (
    KIND_NAMES,
    LearnOptions,
    Method,
    Preset,
    choices_of,
    options_of,
    preset_values,
)

logger = logging.getLogger(__name__)

# The groups of `--help` in their order; fields that name no group are of the method itself.
_GROUPS = {
    "task": "task",
    "data": "data",
    "learning": "learning (defaults are the paper's, but for --lr)",
    "masks": "masks (defaults are the paper's, but for --head)",
    "extras": "beyond the paper's setting (off by default)",
    "run": "run",
}


def build_parser(prog: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Build a command's parser with the options that all commands take.

    Args:
        prog: The program's name, such as ``python -m training.learn_mask``.
        description: What ``--help`` says before the options.
        epilog: What it says after them.
    """
    parser = CommandParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what isn't given keeps the default of LearnOptions
        allow_abbrev=False,
    )
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    groups["learning"].add_argument(
        "--preset",
        choices=get_args(Preset),
        default=None,
        help="paper: the paper's value of every setting but --seed, whatever the defaults are; they can't be "
        "given as well, but for --lr. Rate and batch size depend on base and task, where the paper has them",
    )
    for name, field in _options():
        group = groups[_display(field)["group"]]
        group.add_argument(f"--{name.replace('_', '-')}", **_arguments(field))
    groups["run"].add_argument("--quiet", action="store_true", default=False, help="show no progress")
    groups["run"].add_argument(
        "--json", action="store_true", default=False, help="print the final report as JSON"
    )
    return parser


def parse_options(arguments: argparse.Namespace) -> LearnOptions:
    """Turn parsed arguments into options.

    Raises:
        OptionsError: They don't make sense (every mistake is listed), or the base's folder can't be loaded.
    """
    names = {name for name, _ in _options()}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    method: Method = getattr(arguments, "method", "mask")
    options = options_of(given, arguments.preset, method)
    try:
        check_folder(options.base)
    except (BaseLoadError, OSError) as error:
        raise OptionsError([f"--base {options.base}: {error}"]) from None
    if arguments.preset:
        _tell(options, arguments.preset, method, given)
    return options


def _tell(options: LearnOptions, preset: Preset, method: Method, given: Mapping[str, Any]) -> None:
    """Say which rate and batch size a preset comes to for a task."""
    known = preset_values(preset, given, method).get("lr")
    where = f"{options.task} on {Path(options.base).name}"
    if known is None:
        origin = f"the paper has none for {where}; training.search finds one"
    else:
        origin = f"the paper's for {where}, Table 4, is {known:g}"
    logger.info(f"preset {preset}: lr {options.lr:g} ({origin}), batch size {options.batch_size}")


def add_method(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the choice between masking and finetuning; returns its group."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        choices=get_args(Method),
        default="mask",
        help="learn a mask, or finetune a copy of the base on the same data, for comparison (mask); options "
        "of masks mean nothing to finetuning",
    )
    return group


def seed_problems(arguments: argparse.Namespace) -> list[str]:
    """Return what is wrong with `--seeds` and with it and `--seed` together, one sentence each."""
    seeds = getattr(arguments, "seeds", [])
    checks = [
        (not seeds or "seed" not in arguments, "--seed and --seeds: give one or the other"),
        (len(set(seeds)) == len(seeds), "--seeds: give each seed once"),
    ]
    return [message for good, message in checks if not good]


def _options() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field with the name of its option, group by group."""
    named = [(field.alias or name, field) for name, field in LearnOptions.model_fields.items()]
    yield from sorted(named, key=lambda option: list(_GROUPS).index(_display(option[1])["group"]))


def _display(field: FieldInfo) -> dict[str, Any]:
    """Return the group of a field, and what its value is called."""
    return {"group": "masks", "metavar": None, **dict(field.json_schema_extra or {})}  # type: ignore[arg-type]


def _arguments(field: FieldInfo) -> dict[str, Any]:
    """Return what argparse takes for a field."""
    arguments: dict[str, Any] = {"help": _help(field)}
    if field.annotation is bool:
        arguments["action"] = "store_true"
    elif choices := choices_of(field):
        arguments["choices"] = choices
        if field is LearnOptions.model_fields["kind"]:
            arguments["type"] = lambda name: KIND_NAMES.get(name, name)
    else:
        kinds = (field.annotation, *get_args(field.annotation))
        arguments["type"] = next((kind for kind in (float, int, str) if kind in kinds), str)
        arguments["metavar"] = _display(field)["metavar"]
    if any(get_origin(kind) is tuple for kind in (field.annotation, *get_args(field.annotation))):
        arguments["nargs"] = "+"
    return arguments | ({"required": True} if field.is_required() else {})


def _help(field: FieldInfo) -> str:
    silent = field.is_required() or field.default is None or field.default is False
    default = "" if silent else f" ({field.default})"
    return f"{field.description}{default}".replace("%", "%%")
