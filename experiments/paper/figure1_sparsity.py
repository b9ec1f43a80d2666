"""Figure 1: the share of zeros that masks start with.

The share decides the range that scores are drawn from, and the learning rate belongs to that range: a rate
that is right for one hardly moves the scores of another, or throws them about. So each share is learned with
the rate as it stands and with the rate scaled by the width of the range, and the better one on dev counts, as
a search over rates would choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import PRETRAINED, SERIES, clear, draw_scores, where
from experiments.common.report import Claim, Result, Table
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS

QUICK_SHARES = (0.01, 0.05, 0.15, 0.5, 0.95)
FULL_SHARES = (0.01, 0.03, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.95)
BEST_SHARES = (0.03, 0.1)
QUICK_TASKS, FULL_TASKS = ("trec", "sst2"), ("mrpc", "rte", "cola")
SEEDS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Point:
    """One initial share of zeros on one task.

    Attributes:
        task: Name of the task.
        share: Share of zeros before learning.
        by_rate: Dev metric over seeds by learning rate.
        final: Share of zeros at the best rate's last epoch, mean over seeds.
    """

    task: str
    share: float
    by_rate: dict[float, Scores]
    final: float

    @property
    def rate(self) -> float:
        """The better learning rate."""
        return max(self.by_rate, key=lambda rate: self.by_rate[rate].mean)

    @property
    def scores(self) -> Scores:
        """Dev metric over seeds at the better rate."""
        return self.by_rate[self.rate]


def figure1(context: Context) -> Result:
    """Learn masks from several initial shares of zeros."""
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = context.choose_seeds(quick=SEEDS[:1], full=SEEDS)
    shares = QUICK_SHARES if context.quick else FULL_SHARES
    points = [measure(context, task, share, seeds) for task in tasks for share in shares]
    claim = judge(points)
    return Result(
        title="Figure 1: the share of zeros that masks start with",
        tables=[_table(task, [p for p in points if p.task == task]) for task in tasks],
        values={"points": [_record(point) for point in points], "claim": claim.values()},
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[claim.note("Here")],
        draw=lambda figure: _draw(figure, points, where(context)),
    )


def rates_of(own: float, share: float, rate: float) -> tuple[float, ...]:
    """Return the learning rates to try: the rate as it stands, and scaled by the width of the range.

    Args:
        own: Share of zeros before learning that `rate` belongs to.
        share: The wanted share; the range of scores is as much narrower as the share is larger.
        rate: Learning rate.
    """
    return tuple(dict.fromkeys((rate, float(f"{rate * own / share:.3g}"))))


def measure(context: Context, task: str, share: float, seeds: Sequence[int]) -> Point:
    """Learn one share on one task at each rate that `rates_of` gives."""
    rate = context.scale_of(task).rates["masking"]
    own = context.setting(task).options.initial_sparsity
    by_rate, finals = {}, {}
    for one in rates_of(own, share, rate):
        found = [context.run(task, "masking", seed=seed, initial_sparsity=share, lr=one) for seed in seeds]
        by_rate[one] = Scores(tuple(run.value for run in found))
        finals[one] = fmean(run.epochs[-1].zeros for run in found)
    best = max(by_rate, key=lambda one: by_rate[one].mean)
    return Point(task, share, by_rate, finals[best])


def judge(points: Sequence[Point]) -> Claim:
    """Set the paper's claim against the mean over tasks at each share."""
    means = {
        share: fmean(point.scores.mean for point in points if point.share == share)
        for share in dict.fromkeys(point.share for point in points)
    }
    best = max(means, key=lambda share: means[share])
    low, high = BEST_SHARES
    return Claim(
        f"masks that start with {low:.0%} to {high:.0%} zeros do best.",
        f"the best mean over tasks lies there (it lies at {best:.0%})",
        low <= best <= high,
    )


def _table(task: str, points: Sequence[Point]) -> Table:
    rows = [
        [
            f"{point.share:.0%}",
            str(point.scores),
            f"{point.rate:g}",
            "; ".join(f"{rate:g}: {scores}" for rate, scores in point.by_rate.items()),
            f"{point.final:.1%}",
        ]
        for point in points
    ]
    head = ["zeros at start", "dev metric, %", "learning rate", "by learning rate", "zeros at the end"]
    return Table(head, rows, f"{TASKS[task].title}, {TASKS[task].metric}")


def _record(point: Point) -> dict[str, Any]:
    return {
        "task": point.task,
        "initial_sparsity": point.share,
        "lr": point.rate,
        **point.scores.record(),
        "by_lr": {f"{rate:g}": scores.record() for rate, scores in point.by_rate.items()},
        "final_sparsity": point.final,
    }


def _draw(figure: Any, points: Sequence[Point], title: str) -> None:
    axes = figure.subplots()
    shares = sorted({point.share for point in points})
    for index, task in enumerate(dict.fromkeys(point.task for point in points)):
        own = [point for point in points if point.task == task]
        draw_scores(
            axes,
            [shares.index(p.share) for p in own],
            [p.scores for p in own],
            color=SERIES[index % len(SERIES)],
            label=TASKS[task].title,
        )
    low, high = BEST_SHARES
    best = [place for place, share in enumerate(shares) if low <= share <= high]
    axes.axvspan(best[0] - 0.5, best[-1] + 0.5, color=PRETRAINED, alpha=0.3, label="the paper's best")
    axes.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
    axes.set_xlabel("zeros at the start")
    axes.set_ylabel("dev metric, %")
    axes.set_title(title, loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    clear(axes)
