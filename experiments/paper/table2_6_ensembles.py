"""Tables 2 and 6: error and memory of one model and of an ensemble (paper section 5.3).

An ensemble is made of the runs of all seeds, by masking or by finetuning. Table 2 shows the rule of combining
that is best on dev, Table 6 every rule. Errors are on the test rows where the data have a ``test`` file, and
otherwise on dev, which has also chosen epochs and rule: errors of both methods are then too low, alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.common.context import Context
from experiments.common.held_out import read_test
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import METHODS, Run
from experiments.common.scores import Scores, errors_of, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.paper.quotes import NOT_AVAILABLE_NOTE, quote
from experiments.published.facts import Method
from mask_store import CombineRule
from training.data.features import EncodedExample
from training.loop.evaluation import measure, predict_logits
from training.runs.combining import RULES, choose_rule, measure_together
from training.runs.preparation import Preparation

QUICK_TASKS = ("trec", "sst2")
FULL_TASKS = ("sem", "trec", "agnews", "pos", "ner")
SEEDS = (0, 1, 2, 3)
_MEGABYTE_BYTES = 1e6
_DEV_NOTE = (
    "There is no test file, so errors are on dev, which has also chosen epochs and rule: those of both "
    "methods are too low, alike."
)


@dataclass(frozen=True)
class Group:
    """The models of one method on one task, alone and together.

    Attributes:
        task: Name of the task.
        method: How the models were learned.
        split: ``test`` or ``dev``, where errors were measured.
        single: Error of each model.
        rules: Error of the ensemble by rule.
        chosen: The rule that is best on dev.
        single_bytes: Bytes of one model: copy, or base, masks and head.
        ensemble_bytes: Bytes of all models: copies, or the base once, masks and heads.
    """

    task: str
    method: Method
    split: str
    single: Scores
    rules: dict[CombineRule, float]
    chosen: CombineRule
    single_bytes: int
    ensemble_bytes: int


def table2(context: Context) -> Result:
    """Compare one model with the ensemble whose rule is best on dev."""
    groups = _groups(context)
    head = ["task", "method", "single", "ensemble", "rule", "paper: single", "paper: ensemble"]
    rows = [
        [
            TASKS[group.task].title,
            group.method,
            str(group.single),
            _percent(group.rules[group.chosen]),
            group.chosen,
            *(
                quote("table2", context.base, group.task, group.method, which)
                for which in ("single", "ensemble")
            ),
            *(f"{size / _MEGABYTE_BYTES:.1f}" for size in (group.single_bytes, group.ensemble_bytes)),
        ]
        for group in groups
    ]
    table = Table([*head, "MB: single", "MB: ensemble"], rows, _caption(context, groups))
    return _result(context, "Table 2: error and memory of one model and of an ensemble", groups, table)


def table6(context: Context) -> Result:
    """Give the error of the ensemble under every rule."""
    groups = _groups(context)
    rows = [
        [
            TASKS[group.task].title,
            group.method,
            str(group.single),
            *(_percent(group.rules[rule]) for rule in RULES),
            *(quote("table6", context.base, group.task, group.method, rule) for rule in RULES),
            group.chosen,
        ]
        for group in groups
    ]
    head = ["task", "method", "single", *RULES, *(f"paper: {rule}" for rule in RULES), "best on dev"]
    title = "Table 6: error of the ensemble under each rule of combining"
    return _result(context, title, groups, Table(head, rows, _caption(context, groups)))


def _groups(context: Context) -> list[Group]:
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = context.choose_seeds(quick=SEEDS, full=SEEDS)
    if len(seeds) < 2:  # noqa: PLR2004
        raise ExperimentOptionsError("an ensemble has at least two members: give --seeds two numbers or more")
    groups = []
    for task in tasks:
        test = read_test(context.data, context.setting(task))
        groups += [_group(context, task, method, seeds, test) for method in METHODS]
    return groups


def _group(
    context: Context,
    task: str,
    method: Method,
    seeds: Sequence[int],
    test: Sequence[EncodedExample] | None,
) -> Group:
    setting = context.setting(task)
    members = [context.run(task, method, seed=seed) for seed in seeds]
    dev = _Measured(setting, members, setting.encoded.dev)
    seen = dev if test is None else _Measured(setting, members, test)
    one = members[0].task_bytes
    shared = 0 if method == "finetuning" else setting.base.nbytes
    return Group(
        task,
        method,
        "dev" if test is None else "test",
        errors_of(seen.single),
        {rule: 1 - metrics[setting.metric] for rule, metrics in seen.rules.items()},
        choose_rule(dev.rules, setting.metric),
        shared + one,
        shared + len(members) * one,
    )


class _Measured:
    """The metric of models alone and together on some examples."""

    def __init__(
        self, setting: Preparation, members: Sequence[Run], examples: Sequence[EncodedExample]
    ) -> None:
        codec, size = setting.codec, setting.options.batch_size
        logits = [predict_logits(run.model(), codec, examples, max_rows=size) for run in members]
        alone = [measure(codec, examples, [codec.decode(one) for one in own]) for own in logits]
        self.single = [metrics[setting.metric] for metrics in alone]
        self.rules = measure_together(codec, examples, logits)


def _result(context: Context, title: str, groups: Sequence[Group], table: Table) -> Result:
    notes = [
        "Error is 1 less the task's metric, in percent; of one model: mean ± standard deviation over seeds."
    ]
    if any(group.split == "dev" for group in groups):
        notes.append(_DEV_NOTE)
    seeds = context.choose_seeds(quick=SEEDS, full=SEEDS)
    return Result(
        title=title,
        tables=[table],
        values={"groups": [_record(group) for group in groups]},
        settings={"Tasks": listed(dict.fromkeys(group.task for group in groups)), "Seeds": listed(seeds)},
        notes=[*notes, NOT_AVAILABLE_NOTE],
    )


def _caption(context: Context, groups: Sequence[Group]) -> str:
    splits = listed(sorted({group.split for group in groups}))
    return f"{short_name(context.base)}, error in percent on {splits}"


def _percent(error: float) -> str:
    return f"{100 * error:.2f}"


def _record(group: Group) -> dict[str, Any]:
    return {
        "task": group.task,
        "method": group.method,
        "metric": TASKS[group.task].metric,
        "split": group.split,
        "single": group.single.record(),
        "ensemble": {rule: 100 * error for rule, error in group.rules.items()},
        "chosen_on_dev": group.chosen,
        "single_bytes": group.single_bytes,
        "ensemble_bytes": group.ensemble_bytes,
    }
