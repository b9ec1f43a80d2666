"""Structure: zeros that fill whole heads and feed-forward neurons, so that a task's forward pass skips them.

The paper's future work, "masks that make inference faster", as an experiment of our own. Each task's plain
mask, of all blocks, is learned first. From it on bits and units (`experiments.beyond.units`) are learned
together, while the share of units that are dropped rises to a target; share 0 learns as long and drops none.
What is dropped is zeros of an ordinary mask, so bundles stay as they are. Times are those of BERT-base's
shape (`experiments.beyond.gathered`), whose blocks have the shares of units that were learned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from experiments.beyond.gathered import Shares, Times, time_gathered
from experiments.beyond.structured_runs import (
    COMPARED,
    EPOCHS,
    TEST_ROWS,
    Measured,
    learn_share,
    measured,
)
from experiments.beyond.units import KINDS, Kind
from experiments.common.context import Context
from experiments.common.drawing import BAND, DARK, SERIES, clear, title_of
from experiments.common.once import once
from experiments.common.report import Result, Table
from experiments.common.runs import Run
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from lab.machine import describe_machine, processor_line
from training.runs.results import short_hash

LEARNED = ("trec", "sst2", "agnews")
SEEDS = (1,)
SHARES = (0.0, 0.25, 0.4, 0.55)
SHAPE = "bert-base"
BATCHES = {(1, 32): 9, (8, 128): 3}
"""Rounds of timing by rows and tokens of the batch."""
ADOPTED, GOAL, POINT = 1.3, 1.5, 1.0
"""How many times faster a task must be to be adopted, and should be, at how many points of loss."""


@dataclass(frozen=True)
class Point:
    """One share on one task.

    Attributes:
        share: Share of units that is dropped.
        scores: The metric over seeds.
        kept: Shares of units that are there, by kind and block, mean over seeds.
        difference: See `Measured`; the largest over seeds.
    """

    share: float
    scores: Scores
    kept: Shares
    difference: float

    @classmethod
    def of(cls, share: float, found: Sequence[Measured]) -> "Point":
        """Sum up the seeds of a share."""
        scores = Scores(tuple(one.value for one in found))
        kept = mean_shares([one.kept for one in found])
        return cls(share, scores, kept, max(one.difference for one in found))


@dataclass(frozen=True)
class Frontier:
    """Quality of one task by the share that is dropped.

    Attributes:
        task: Its name.
        plain: The metric of the plain mask over seeds.
        points: The shares, ascending; the first is 0.
    """

    task: str
    plain: Scores
    points: Sequence[Point]

    def losses(self) -> list[float]:
        """Return what each share loses against share 0, in points."""
        return [self.points[0].scores.mean - point.scores.mean for point in self.points]


def structure(context: Context) -> Result:
    """Learn every share on every task, and time an encoder without the units that are dropped.

    Raises:
        TrainingError, MaskingError: A mask can't be learned.
    """
    tasks = context.choose_tasks(quick=LEARNED[:1], full=LEARNED)
    seeds = context.choose_seeds(quick=SEEDS, full=SEEDS)
    runs = {task: [_learn_all(context, task, seed) for seed in seeds] for task in tasks}
    frontiers = [_frontier(context, task, own) for task, own in runs.items()]
    first = frontiers[0]
    times = _timed(context, [point.kept for point in first.points[1:]])
    return Result(
        title="Structure: heads and neurons that a task's forward pass skips",
        tables=[_table(frontiers, times), _times_table(times), _kept_table(frontiers)],
        values={
            "tasks": {own.task: _record(own) for own in frontiers},
            "times": [asdict(one) for one in times],
            "faster_at_one_point": {own.task: _at_one_point(own, times) for own in frontiers},
        },
        settings={
            "Tasks": listed(tasks),
            "Seeds": listed(seeds),
            "Measured on": _split(context, tasks),
            "Epochs": f"of the plain mask as below, then {EPOCHS} for each share",
            "Times": f"{SHAPE}, random weights, units by block as {first.task} has them; fp32, one thread",
        },
        notes=[*_verdict(frontiers, times), *_NOTES, _exactness(frontiers)],
        draw=lambda figure: _draw(figure, frontiers, times, context),
    )


_NOTES = (
    "Plain mask: all blocks masked, no units. Share 0: learned on from there as long as the others, no unit "
    "dropped. Dropped: that share of the heads and of the neurons of all blocks together.",
    "Times faster: than the full encoder with the same masks, both by this project's engine; the gathered "
    "encoder has weights and bits of a task's units alone, a copy that no other task shares.",
    "A kernel that skips units of the shared weights instead has to leave out rows of W_Q, W_K, W_V and W_I, "
    "which lie in strips of 16 rows (a head of 64 is 4 whole strips; neurons would have to be dropped 16 at "
    "a time), and columns of W_AO and W_O, task by task of a mixed batch.",
)


def mean_shares(kept: Sequence[Shares]) -> dict[Kind, list[float]]:
    """Return shares by kind and block, mean over several."""
    return {kind: [fmean(one) for one in zip(*(own[kind] for own in kept), strict=True)] for kind in KINDS}


def fastest(faster: Sequence[float], losses: Sequence[float], most: float) -> float:
    """Return how many times faster the fastest share is that loses at most so much.

    Args:
        faster: By share, the first 1 for share 0.
        losses: Likewise, in points; the first is 0.
        most: Points that may be lost.
    """
    return max(speed for speed, loss in zip(faster, losses, strict=True) if loss <= most)


def _learn_all(context: Context, task: str, seed: int) -> list[Run]:
    """Return the runs of the plain mask and of every share."""
    plain = context.run(task, "masking", seed=seed, blocks="0-")
    return [plain, *(learn_share(context, plain, share) for share in SHARES)]


def _frontier(context: Context, task: str, seeds: Sequence[Sequence[Run]]) -> Frontier:
    found = [[measured(context, run) for run in runs] for runs in seeds]
    plain, *shares = zip(*found, strict=True)
    points = [Point.of(share, own) for share, own in zip(SHARES, shares, strict=True)]
    return Frontier(task, Scores(tuple(one.value for one in plain)), points)


def _timed(context: Context, kept: Sequence[Shares]) -> list[Times]:
    """Time encoders of these shares, unless that is done on such a machine."""
    machine = [processor_line(), describe_machine()["versions"]]
    batches = [[*batch, n] for batch, n in BATCHES.items()]
    asked = {"kept": kept, "shape": SHAPE, "batches": batches, "machine": machine}
    path = context.runs_dir / f"structure-times-{short_hash(asked)}.json"
    found = once(path, lambda: [asdict(one) for one in time_gathered(SHAPE, kept, BATCHES)])
    return [Times(**one) for one in found]


def _split(context: Context, tasks: Sequence[str]) -> str:
    held = all(context.scale_of(task).hold_out for task in tasks)
    return f"the sets' own dev rows, at most {TEST_ROWS:,}" if held else "dev, which chose the epoch too"


def _batch(one: Times) -> str:
    return f"{one.rows} row{'s' * (one.rows > 1)} of {one.tokens} tokens"


def _table(frontiers: Sequence[Frontier], times: Sequence[Times]) -> Table:
    rows = []
    speeds = [[f"{one.faster['masked'][place]:.2f}" for one in times] for place in range(len(SHARES))]
    for own in frontiers:
        title, metric = TASKS[own.task].title, TASKS[own.task].metric
        rows.append([title, metric, "plain mask", str(own.plain), "", "", *("" for _ in times)])
        for place, (point, loss) in enumerate(zip(own.points, own.losses(), strict=True)):
            against_plain = point.scores.mean - own.plain.mean
            cells = [f"{point.share:.0%}", str(point.scores), f"{0 - loss:+.2f}", f"{against_plain:+.2f}"]
            rows.append([title, metric, *cells, *speeds[place]])
    for share, losses, faster in zip(
        SHARES, zip(*(own.losses() for own in frontiers), strict=True), speeds, strict=True
    ):
        rows.append(["mean", "", f"{share:.0%}", "", f"{0 - fmean(losses):+.2f}", "", *faster])
    head = ["task", "metric", "units dropped", "metric, %", "against share 0", "against the plain mask"]
    return Table(
        [*head, *(f"times faster, {_batch(one)}" for one in times)], rows, "Quality, in points, and speed"
    )


def _times_table(times: Sequence[Times]) -> Table:
    names = {"dense": "torch, weights as they are", "masked": "this project's engine, masked"}
    rows = [
        [_batch(one), names[name], *(f"{1000 * own:.0f} ({n:.2f})" for own, n in _pairs(one, name))]
        for one in times
        for name in one.seconds
    ]
    head = ["batch", "computed by", *(f"{share:.0%} dropped" for share in SHARES)]
    return Table(head, rows, "Milliseconds (times faster, median of rounds)")


def _pairs(one: Times, name: str) -> Iterator[tuple[float, float]]:
    return zip(one.seconds[name], one.faster[name], strict=True)


def _kept_table(frontiers: Sequence[Frontier]) -> Table:
    rows = [
        [TASKS[own.task].title, f"{point.share:.0%}", kind, *(f"{100 * one:.0f}" for one in point.kept[kind])]
        for own in frontiers
        for point in own.points[1:]
        for kind in KINDS
    ]
    blocks = [f"block {number}" for number in range(len(frontiers[0].points[0].kept["heads"]))]
    return Table(["task", "dropped", "units", *blocks], rows, "Units that are left in each block, %")


def _at_one_point(own: Frontier, times: Sequence[Times]) -> float:
    """Return how many times faster a task is at one point of loss, in the batch where that is least."""
    return min(fastest(one.faster["masked"], own.losses(), POINT) for one in times)


def _verdict(frontiers: Sequence[Frontier], times: Sequence[Times]) -> list[str]:
    found = {own.task: _at_one_point(own, times) for own in frontiers}
    each = listed(f"{TASKS[task].title} {faster:.2f}" for task, faster in found.items())
    least = min(found.values())
    reached = "reached" if least >= GOAL else "not reached"
    adopted = "adopted" if least >= ADOPTED else "not adopted"
    return [
        f"Times faster with the fastest share that loses at most {POINT:g} point against share 0, in the "
        f"batch where that is least: {each}.",
        f"Goal, {GOAL:g} times on every task: {reached}. As an option of learning, from {ADOPTED:g} on: "
        f"{adopted}.",
    ]


def _exactness(frontiers: Sequence[Frontier]) -> str:
    largest = max(point.difference for own in frontiers for point in own.points)
    return (
        f"The gathered model gives the logits of the full masked one: largest difference {largest:.1e} on "
        f"{COMPARED} inputs of each run."
    )


def _record(own: Frontier) -> dict[str, Any]:
    return {
        "plain": own.plain.record(),
        "shares": [
            {
                "share": point.share,
                **point.scores.record(),
                "loss": loss,
                "kept": point.kept,
                "difference": point.difference,
            }
            for point, loss in zip(own.points, own.losses(), strict=True)
        ],
    }


def _draw(figure: Any, frontiers: Sequence[Frontier], times: Sequence[Times], context: Context) -> None:
    panels = figure.subplots(1, len(times), sharex=True, sharey=True)
    for axes, one in zip(panels, times, strict=True):
        faster = one.faster["masked"]
        for own, color in zip(frontiers, SERIES, strict=False):
            label = f"{TASKS[own.task].title} ({TASKS[own.task].metric.replace('_', ' ')})"
            gains = [-loss for loss in own.losses()]
            axes.plot(faster, gains, color=color, marker="o", markersize=4, label=label)
        axes.set_title(_batch(one))
        axes.set_xlabel("times faster than the full masked encoder")
        clear(axes)
    (_, right), (low, high) = panels[0].get_xlim(), panels[0].get_ylim()
    low, high, right = min(low, -2 * POINT), max(high, POINT), max(right, GOAL + 0.1)
    for axes in panels:
        axes.fill_between([GOAL, right], -POINT, high, color=BAND, zorder=0, label="the goal")
        axes.axvline(ADOPTED, color=DARK, linewidth=0.8, linestyle=":", label=f"{ADOPTED:g} times faster")
        axes.axhline(-POINT, color=DARK, linewidth=0.8, linestyle="--", label=f"{POINT:g} point lost")
        axes.set(xlim=(None, right), ylim=(low, high))
    panels[0].set_ylabel("metric less that of share 0, points")
    shares = listed(f"{100 * share:.0f}" for share in SHARES)
    figure.suptitle(title_of(f"Quality against speed with {shares} % of heads and neurons dropped", context))
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center")
