"""How much is learned from, and how: the quick and the full scale, and what a command changes of them."""

import dataclasses
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from experiments.common.runs import METHODS, Scale
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.published.facts import Method
from masking.kernels import choose_precision
from training.options import PRESETS, LearnOptions, broken_rule
from training.paper import task_batch_size

PAPER = PRESETS["paper"]
FULL = Scale(
    "full", train_rows=None, dev_rows=None, options=PAPER, rates={"masking": "paper", "finetuning": "paper"}
)

_ROWS = re.compile(r"(?:(\w+)=)?([1-9]\d*|all)/([1-9]\d*|all)")
_SETTING = re.compile(r"(?:(\w+)\.)?(\w+)=(.+)")
_RATES: dict[str, Method] = {f"{method}_lr": method for method in METHODS}
_RATE_ORIGINS = ("paper", "search")
_DATA = ("task", "kind", "base", "store", "train", "dev", "dataset", "metric")  # not settings of learning
_OWN = ("lr", "seed", "run_dir", "fresh")  # set for each run
HOLD_OUT = "hold_out"
_ROW_FIELDS = ("train_rows", "dev_rows")
# They decide where and how, not what.
_HARMLESS = ("device", "threads", "save_steps", "tensorboard", "track", "force")
_FIELDS = {
    field.alias or name: field
    for name, field in LearnOptions.model_fields.items()
    if name not in (*_DATA, *_OWN) and not name.endswith(("_column", "_split"))
} | dict.fromkeys(_RATES, LearnOptions.model_fields["lr"])


@dataclass(frozen=True)
class Change:
    """One thing that a command changes of its scale.

    Attributes:
        task: The task it is for; None for all.
        field: ``train_rows``, ``dev_rows``, ``hold_out``, a field of `LearnOptions`, ``masking_lr`` or
            ``finetuning_lr``.
        value: Its value.
    """

    task: str | None
    field: str
    value: Any

    def __str__(self) -> str:
        """Write it: ``sst2.epochs=5``."""
        return f"{'' if self.task is None else f'{self.task}.'}{self.field}={self.value}"


def read_rows(texts: Sequence[str]) -> list[Change]:
    """Read ``[TASK=]TRAIN/DEV``, such as ``sst2=6000/872`` or ``all/500``.

    Raises:
        ExperimentOptionsError: A text is something else, or names no task.
    """
    changes = []
    for text in texts:
        match = _ROWS.fullmatch(text)
        if not match:
            raise ExperimentOptionsError(
                f"--rows {text}: write [TASK=]TRAIN/DEV, such as sst2=6000/872 or all/500"
            )
        for field, most in zip(_ROW_FIELDS, match.groups()[1:], strict=True):
            changes.append(Change(_task(match[1]), field, None if most == "all" else int(most)))
    return changes


def read_hold_out(share: float | None) -> list[Change]:
    """Return the change that holds a share of train out; none where there is no share.

    Raises:
        ExperimentOptionsError: It does not lie between 0 and 1.
    """
    if share is None:
        return []
    if not 0 < share < 1:
        raise ExperimentOptionsError(f"--hold-out {share:g}: must lie between 0 and 1")
    return [Change(None, HOLD_OUT, share)]


def whole(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes without those of rows."""
    return tuple(change for change in changes if change.field not in (*_ROW_FIELDS, HOLD_OUT))


def read_settings(texts: Sequence[str]) -> list[Change]:
    """Read ``[TASK.]FIELD=VALUE``, such as ``epochs=5`` or ``agnews.masking_lr=0.002``.

    Raises:
        ExperimentOptionsError: A text is something else, or names no task or no setting.
    """
    changes = []
    for text in texts:
        match = _SETTING.fullmatch(text)
        if not match or match[2] not in _FIELDS:
            names = ", ".join(_FIELDS)
            raise ExperimentOptionsError(f"--set {text}: write [TASK.]NAME=VALUE; the names are {names}")
        changes.append(Change(_task(match[1]), match[2], _value(match[2], match[3])))
    return changes


@cache
def quick_scale() -> Scale:
    """Return the quick scale, in bf16 where the device multiplies it: emulated it is far slower than fp32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Scale(
        "quick",
        train_rows=800,
        dev_rows=400,
        options={
            **PAPER,
            "epochs": 3,
            "precision": choose_precision("auto", device),
            "group_by_length": True,
            "max_length": 64,
        },
        rates={"masking": 2e-3, "finetuning": 1e-4},
    )


def scale_of(quick: bool, changes: Sequence[Change], task: str | None) -> Scale:
    """Return the scale at which a task is learned; a change for the task goes before one for all tasks."""
    scale = quick_scale() if quick else _full(task)
    for change in sorted(changes, key=lambda change: change.task is not None):
        if change.task in (None, task):
            scale = _changed(scale, change)
    return scale


def _full(task: str | None) -> Scale:
    size = task_batch_size(task) if task else None
    return FULL if size is None else dataclasses.replace(FULL, options={**PAPER, "batch_size": size})


def departures(changes: Sequence[Change]) -> list[str]:
    """Return the changes that make a result another than the paper's, as they are written for ``--set``."""
    return [str(change) for change in changes if not _is_papers(change)]


def _is_papers(change: Change) -> bool:
    papers_rate = change.field in _RATES and change.value in _RATE_ORIGINS
    return change.field in _HARMLESS or papers_rate or (change.field in _ROW_FIELDS and change.value is None)


def describe(scale: Scale) -> dict[str, Any]:
    """Return what differs from the paper's settings, the rows and the rates, for a report."""
    rows: dict[str, Any] = {"train_rows": scale.train_rows or "all", "dev_rows": scale.dev_rows or "all"}
    if scale.hold_out is not None:
        rows[HOLD_OUT] = scale.hold_out
    options = {name: value for name, value in scale.options.items() if PAPER.get(name) != value}
    return {**rows, **{f"{method}_lr": rate for method, rate in scale.rates.items()}, **options}


def _changed(scale: Scale, change: Change) -> Scale:
    if change.field in (*_ROW_FIELDS, HOLD_OUT):
        return dataclasses.replace(scale, **{change.field: change.value})
    if change.field in _RATES:
        return dataclasses.replace(scale, rates={**scale.rates, _RATES[change.field]: change.value})
    return dataclasses.replace(scale, options={**scale.options, change.field: change.value})


def _task(name: str | None) -> str | None:
    return None if name is None else check_task(name)


def check_task(name: str) -> str:
    """Return the name of a task.

    Raises:
        ExperimentOptionsError: There is no such task.
    """
    if name not in TASKS:
        raise ExperimentOptionsError(f"task {name}: no such task; there are {', '.join(TASKS)}")
    return name


def _value(name: str, text: str) -> Any:
    """Return the value of a setting: the text itself, where its field takes that, or the JSON it is."""
    if name in _RATES and text in _RATE_ORIGINS:
        return text
    field = _FIELDS[name]
    kind: Any = field.annotation
    for bound in field.metadata:
        kind = Annotated[kind, bound]
    adapter = TypeAdapter[Any](kind, config=ConfigDict(strict=True, allow_inf_nan=False))
    with suppress(ValidationError):
        return adapter.validate_python(text)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        rule = broken_rule(field, error.errors()[0])
        raise ExperimentOptionsError(f"--{name.replace('_', '-')} {text}: {rule}") from None
