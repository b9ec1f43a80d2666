"""Settings beyond the paper's, one at a time: what each does to the dev metric.

No result of the paper; it decides which defaults of `training.learn_mask` may differ from the paper's
setting. Everything that a variant doesn't name is the scale's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.report import Result, Table
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS

QUICK_TASKS, FULL_TASKS = ("trec", "cola", "ner"), ("mrpc", "cola", "trec", "ner")
SEEDS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Variant:
    """One way to learn a mask.

    Attributes:
        name: What differs from the paper's setting.
        changes: Fields of `LearnOptions`.
        rate: Factor of the scale's learning rate of masks.
        head_apart: Whether a trained head keeps the scale's rate, and `rate` is for scores alone.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    head_apart: bool = False


VARIANTS = (
    Variant("none: the paper's setting"),
    Variant("learning rate times 2", rate=2.0),
    Variant("head trained", {"head": "trained"}),
    Variant("head trained, learning rate of scores times 2", {"head": "trained"}, rate=2.0, head_apart=True),
    Variant("all blocks", {"blocks": "0-"}),
    Variant("10 % zeros at the start", {"initial_sparsity": 0.1}),
    Variant("scores averaged, decay 0.98", {"average": 0.98}),
    Variant("10 % zeros at the end", {"final_sparsity": 0.1}),
)


def ablation(context: Context) -> Result:
    """Learn masks in every variant on every task."""
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = context.choose_seeds(quick=SEEDS[:1], full=SEEDS)
    found = {
        variant.name: {task: _measure(context, task, variant, seeds) for task in tasks}
        for variant in VARIANTS
    }
    gains = {name: gain(found[VARIANTS[0].name], scores) for name, scores in found.items()}
    return Result(
        title="Settings beyond the paper's",
        tables=[_table(tasks, found, gains)],
        values={
            name: {"gain": gains[name], **{task: one.record() for task, one in scores.items()}}
            for name, scores in found.items()
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=["Gain: mean over tasks of the dev metric less that of the paper's setting, in points."],
    )


def gain(paper: Mapping[str, Scores], variant: Mapping[str, Scores]) -> float:
    """Return the mean over tasks of what a variant gains on the paper's setting, in points."""
    return fmean(scores.mean - paper[task].mean for task, scores in variant.items())


def _measure(context: Context, task: str, variant: Variant, seeds: Sequence[int]) -> Scores:
    changes = changes_of(variant, context.rate(task, "masking"))
    runs = [context.run(task, "masking", seed=seed, **changes) for seed in seeds]
    return Scores(tuple(run.value for run in runs))


def changes_of(variant: Variant, rate: float) -> dict[str, Any]:
    """Return the fields of `LearnOptions` that a variant sets, given the scale's learning rate of masks."""
    head = {"head_lr": rate} if variant.head_apart else {}
    return {**variant.changes, **head, "lr": variant.rate * rate}


def _table(
    tasks: Sequence[str], found: Mapping[str, Mapping[str, Scores]], gains: Mapping[str, float]
) -> Table:
    head = ["what differs", *(f"{TASKS[task].title}, {TASKS[task].metric}" for task in tasks), "gain"]
    rows = [
        [name, *(str(scores[task]) for task in tasks), f"{gains[name]:+.2f}"]
        for name, scores in found.items()
    ]
    return Table(head, rows)
