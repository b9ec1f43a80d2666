"""Figure 1: the share of zeros that masks start with (paper, section 5.1).

Everything else is fixed, the learning rate too: one for all shares and tasks. The share decides the range
that scores are drawn from, and a fixed rate moves a narrower range faster; that is part of the paper's
experiment. All blocks are masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import BAND, SERIES, clear, draw_scores, title_of
from experiments.common.report import Result, Table, short_name
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.published.facts import FACTS
from experiments.published.figures import F1A, F1B, F1C, F1D, BySparsity

QUICK_SHARES = (0.01, 0.03, 0.05, 0.1, 0.3, 0.6, 0.95)
QUICK_TASKS, FULL_TASKS = ("trec", "sst2"), ("rte", "mrpc", "cola", "sst2")


@dataclass(frozen=True)
class Point:
    """One initial share of zeros on one task.

    Attributes:
        task: Name of the task.
        share: Share of zeros before learning.
        scores: Dev metric over seeds.
        final: Share of zeros after the last epoch, mean over seeds.
    """

    task: str
    share: float
    scores: Scores
    final: float


def figure1(context: Context) -> Result:
    """Learn masks from several initial shares of zeros."""
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds)
    shares = QUICK_SHARES if context.quick else FACTS.figure1.initial_sparsities
    points = [measure(context, task, share, seeds) for task in tasks for share in shares]
    rates = {task: rate_of(context, task) for task in tasks}
    return Result(
        title="Figure 1: the share of zeros that masks start with",
        tables=[_table(tasks, shares, points)],
        values={"points": [_record(point) for point in points], "lr": rates},
        settings={
            "Tasks": listed(tasks),
            "Seeds": listed(seeds),
            "Learning rate of all shares": listed(dict.fromkeys(f"{rate:g}" for rate in rates.values())),
            "Masked blocks": "all",
        },
        verdicts=[rule.verdict(short_name(context.base), means(points)) for rule in (F1A, F1B, F1C, F1D)],
        draw=lambda figure: _draw(figure, points, context),
    )


def rate_of(context: Context, task: str) -> float:
    """Return the one rate of a task: the paper's, or the number that the scale or the command sets."""
    rate = context.scale_of(task).rates["masking"]
    return FACTS.figure1.rate if isinstance(rate, str) else rate


def measure(context: Context, task: str, share: float, seeds: Sequence[int]) -> Point:
    """Learn one share on one task, in the figure's own batches at the full scale."""
    changes: dict[str, Any] = {"blocks": "0-", "initial_sparsity": share, "lr": rate_of(context, task)}
    named = any(one.field == "batch_size" and one.task in (None, task) for one in context.changes)
    if not context.quick and not named and task in FACTS.figure1.batch_size:
        changes["batch_size"] = FACTS.figure1.batch_size[task]
    found = [context.run(task, "masking", seed=seed, weights=False, **changes) for seed in seeds]
    scores = Scores(tuple(run.value for run in found))
    return Point(task, share, scores, fmean(run.epochs[-1].zeros for run in found))


def means(points: Sequence[Point]) -> BySparsity:
    """Return the mean dev metric in percent by task and share."""
    tasks = dict.fromkeys(point.task for point in points)
    return {
        task: {point.share: point.scores.mean for point in points if point.task == task} for task in tasks
    }


def _table(tasks: Sequence[str], shares: Sequence[float], points: Sequence[Point]) -> Table:
    cells = {(point.task, point.share): str(point.scores) for point in points}
    head = ["zeros at the start", *(f"{TASKS[task].title}, {TASKS[task].metric}" for task in tasks)]
    rows = [[f"{share:.0%}", *(cells[task, share] for task in tasks)] for share in shares]
    return Table(head, rows, "Dev metric in percent, mean ± standard deviation over seeds")


def _record(point: Point) -> dict[str, Any]:
    return {
        "task": point.task,
        "initial_sparsity": point.share,
        **point.scores.record(),
        "final_sparsity": point.final,
    }


def _draw(figure: Any, points: Sequence[Point], context: Context) -> None:
    axes = figure.subplots()
    for task, color in zip(dict.fromkeys(point.task for point in points), SERIES, strict=False):
        own = [point for point in points if point.task == task]
        places = [100 * point.share for point in own]
        label = f"{TASKS[task].title} ({TASKS[task].metric.replace('_', ' ')})"
        draw_scores(axes, places, [point.scores for point in own], color=color, label=label)
    low, high = FACTS.figure1.good
    axes.axvspan(100 * low, 100 * high, color=BAND, label="3 to 10 %: the paper's choice", zorder=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("zeros at the start, %")
    axes.set_ylabel("dev metric, %")
    figure.suptitle(title_of("Masks by the share of zeros that they start with", context))
    figure.legend(frameon=False, ncols=2, loc="outside lower center")
    clear(axes)
