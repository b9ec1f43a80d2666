"""How much is learned from, and how: the quick and the full scale, and what a command changes of them."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.common.runs import METHODS, Method, Scale
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from training.options import PRESETS, LearnOptions

PAPER = PRESETS["paper"]
QUICK = Scale(
    "quick",
    train_rows=800,
    dev_rows=400,
    options={**PAPER, "epochs": 3, "precision": "bf16", "group_by_length": True, "max_length": 64},
    rates={"masking": 2e-3, "finetuning": 1e-4},
)
FULL = Scale(
    "full", train_rows=None, dev_rows=None, options=PAPER, rates={"masking": 1e-3, "finetuning": 5e-5}
)

_ROWS = re.compile(r"(?:(\w+)=)?([1-9]\d*|all)/([1-9]\d*|all)")
_SETTING = re.compile(r"(?:(\w+)\.)?(\w+)=(.+)")
_RATES: dict[str, Method] = {f"{method}_lr": method for method in METHODS}
_DATA = ("task", "kind", "base", "store", "train", "dev", "dataset", "metric")  # not settings of learning
_OWN = ("lr", "seed", "run_dir", "fresh")  # set for each run
_TEXTS, _WHOLE = ("tensorboard",), ("threads", "save_steps")  # whose default, None, says no type
_DEFAULTS = {
    field.alias or name: field.default
    for name, field in LearnOptions.model_fields.items()
    if name not in (*_DATA, *_OWN) and not name.endswith(("_column", "_split"))
}


@dataclass(frozen=True)
class Change:
    """One thing that a command changes of its scale.

    Attributes:
        task: the task it is for; None for all.
        field: ``train_rows``, ``dev_rows``, a field of `LearnOptions`, ``masking_lr`` or ``finetuning_lr``.
        value: its value.
    """

    task: str | None
    field: str
    value: Any


def read_rows(texts: Sequence[str]) -> list[Change]:
    """Read ``[TASK=]TRAIN/DEV``, such as ``sst2=6000/872`` or ``all/500``.

    Raises:
        ExperimentOptionsError: a text is something else, or names no task.
    """
    changes = []
    for text in texts:
        match = _ROWS.fullmatch(text)
        if not match:
            raise ExperimentOptionsError(
                f"--rows {text}: write [TASK=]TRAIN/DEV, such as sst2=6000/872 or all/500"
            )
        for field, most in zip(("train_rows", "dev_rows"), match.groups()[1:], strict=True):
            changes.append(Change(_task(match[1]), field, None if most == "all" else int(most)))
    return changes


def read_settings(texts: Sequence[str]) -> list[Change]:
    """Read ``[TASK.]FIELD=VALUE``, such as ``epochs=5`` or ``agnews.masking_lr=0.002``.

    Raises:
        ExperimentOptionsError: a text is something else, or names no task or no setting.
    """
    changes = []
    for text in texts:
        match = _SETTING.fullmatch(text)
        if not match or match[2] not in (*_RATES, *_DEFAULTS):
            names = ", ".join([*_RATES, *_DEFAULTS])
            raise ExperimentOptionsError(f"--set {text}: write [TASK.]NAME=VALUE; the names are {names}")
        changes.append(Change(_task(match[1]), match[2], _value(text, match[2], match[3])))
    return changes


def scale_of(quick: bool, changes: Sequence[Change], task: str | None) -> Scale:
    """The scale at which a task is learned; a change for the task goes before one for all tasks."""
    scale = QUICK if quick else FULL
    for change in sorted(changes, key=lambda change: change.task is not None):
        if change.task in (None, task):
            scale = _changed(scale, change)
    return scale


def describe(scale: Scale) -> dict[str, Any]:
    """What differs from the paper's settings, the rows and the rates, for a report."""
    rows = {"train_rows": scale.train_rows or "all", "dev_rows": scale.dev_rows or "all"}
    options = {name: value for name, value in scale.options.items() if PAPER.get(name) != value}
    return {**rows, **{f"{method}_lr": rate for method, rate in scale.rates.items()}, **options}


def _changed(scale: Scale, change: Change) -> Scale:
    if change.field in ("train_rows", "dev_rows"):
        return dataclasses.replace(scale, **{change.field: change.value})
    if change.field in _RATES:
        return dataclasses.replace(scale, rates={**scale.rates, _RATES[change.field]: change.value})
    return dataclasses.replace(scale, options={**scale.options, change.field: change.value})


def _task(name: str | None) -> str | None:
    return None if name is None else check_task(name)


def check_task(name: str) -> str:
    """Return the name of a task.

    Raises:
        ExperimentOptionsError: there is no such task.
    """
    if name not in TASKS:
        raise ExperimentOptionsError(f"task {name}: no such task; there are {', '.join(TASKS)}")
    return name


def _value(whole: str, field: str, text: str) -> Any:
    """The value in the type that the field has."""
    default = _DEFAULTS.get(field)
    if isinstance(default, str) or field in _TEXTS:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    kinds, wanted = _kinds(field, default)
    can_be_off = field in _DEFAULTS and default is None  # by null
    if type(value) not in kinds and not (can_be_off and value is None):  # a bool is an int to isinstance
        raise ExperimentOptionsError(f"--set {whole}: the value must be {wanted}")
    return value


def _kinds(field: str, default: Any) -> tuple[tuple[type, ...], str]:
    """The types that a value of a field may have, and how they are called."""
    if isinstance(default, bool):
        return (bool,), "true or false"
    if isinstance(default, int) or field in _WHOLE:
        return (int,), "a whole number"
    return (int, float), "a number"
