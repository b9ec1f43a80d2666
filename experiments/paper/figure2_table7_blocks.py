"""Figure 2 and Table 7: which transformer blocks are masked.

The same runs, as curves and as numbers. From the top, the blocks nearest to the output are masked; from the
bottom, those nearest to the embeddings. Pooler and classifier are masked always.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from experiments.common.context import Context
from experiments.common.drawing import SERIES, clear, draw_scores, where
from experiments.common.report import Claim, Result, Table
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.paper.quotes import NOT_AVAILABLE_NOTE, quote

Direction = Literal["top-down", "bottom-up"]
DIRECTIONS: tuple[Direction, ...] = ("top-down", "bottom-up")
QUICK_TASKS, FULL_TASKS = ("trec", "sst2"), ("mrpc", "rte", "cola")
SEEDS = (0, 1, 2, 3)
_STYLES = {"top-down": "-", "bottom-up": "--"}
_STEPS = {True: 3, False: 6}  # numbers of masked blocks, by whether the scale is quick


@dataclass(frozen=True)
class Point:
    """One choice of blocks on one task.

    Attributes:
        task: Name of the task.
        direction: Where masking starts.
        count: Number of masked blocks.
        blocks: The blocks, as `LearnOptions` takes them.
        scores: Dev metric over seeds.
        nbytes: Bytes of the masks.
    """

    task: str
    direction: Direction
    count: int
    blocks: str
    scores: Scores
    nbytes: int


def figure2(context: Context) -> Result:
    """Draw the dev metric against the number of masked blocks, from the top and from the bottom."""
    return _result(context, "Figure 2: which blocks are masked")


def table7(context: Context) -> Result:
    """Give the dev metric for each choice of blocks, and the bytes of its masks."""
    return _result(context, "Table 7: which blocks are masked, in numbers")


def blocks_of(direction: Direction, count: int, blocks: int) -> str:
    """Return the blocks to mask.

    Args:
        direction: Where masking starts.
        count: Number of blocks to mask.
        blocks: Number of blocks of the base.
    """
    first = 0 if direction == "bottom-up" else blocks - count
    return f"{first}-{first + count - 1}"


def counts_of(blocks: int, steps: int) -> list[int]:
    """Return at most `steps` numbers of masked blocks, evenly spaced, up to all."""
    return sorted({round(blocks * step / steps) for step in range(1, steps + 1)} - {0})


def judge(points: Sequence[Point]) -> Claim:
    """Set the paper's claim against all choices that leave some blocks unmasked."""
    most = max(point.count for point in points)
    means = [
        fmean(p.scores.mean for p in points if p.direction == direction and p.count < most)
        for direction in DIRECTIONS
    ]
    return Claim(
        "masking from the top down is better than masking as many blocks from the bottom up.",
        "the mean metric over tasks and numbers of blocks (less than all) is higher from the top: "
        f"{means[0]:.2f} against {means[1]:.2f}",
        means[0] > means[1],
    )


def _result(context: Context, title: str) -> Result:
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = context.choose_seeds(quick=SEEDS[:1], full=SEEDS)
    points = [point for task in tasks for point in _measure(context, task, seeds)]
    claim = judge(points)
    return Result(
        title=title,
        tables=[_table(context, task, [p for p in points if p.task == task]) for task in tasks],
        values={"points": [_record(point) for point in points], "claim": claim.values()},
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[claim.note("Here"), NOT_AVAILABLE_NOTE],
        draw=lambda figure: _draw(figure, points, where(context)),
    )


def _measure(context: Context, task: str, seeds: Sequence[int]) -> list[Point]:
    base = context.setting(task).base
    blocks = base.num_blocks
    if blocks < 2:  # noqa: PLR2004
        raise ExperimentOptionsError(f"{base.info.name} has one block: there is nothing to choose")
    points = []
    for direction in DIRECTIONS:
        for count in counts_of(blocks, _STEPS[context.quick]):
            chosen = blocks_of(direction, count, blocks)
            found = [context.run(task, "masking", seed=seed, blocks=chosen) for seed in seeds]
            scores = Scores(tuple(run.value for run in found))
            points.append(Point(task, direction, count, chosen, scores, found[0].nbytes))
    return points


def _table(context: Context, task: str, points: Sequence[Point]) -> Table:
    rows = [
        [
            str(point.count),
            point.direction,
            point.blocks,
            str(point.scores),
            quote("table7", context.base, task, point.blocks),
            f"{point.nbytes:,}",
        ]
        for point in sorted(points, key=lambda point: point.count)
    ]
    head = ["masked blocks", "direction", "which", "dev metric, %", "paper", "bytes of masks"]
    return Table(head, rows, f"{TASKS[task].title}, {TASKS[task].metric}")


def _record(point: Point) -> dict[str, Any]:
    return {
        "task": point.task,
        "direction": point.direction,
        "count": point.count,
        "blocks": point.blocks,
        **point.scores.record(),
        "bytes": point.nbytes,
    }


def _draw(figure: Any, points: Sequence[Point], title: str) -> None:
    axes = figure.subplots()
    for index, task in enumerate(dict.fromkeys(point.task for point in points)):
        for direction in DIRECTIONS:
            own = [p for p in points if (p.task, p.direction) == (task, direction)]
            draw_scores(
                axes,
                [p.count for p in own],
                [p.scores for p in own],
                color=SERIES[index % len(SERIES)],
                linestyle=_STYLES[direction],
                label=f"{TASKS[task].title}, {direction}",
            )
    axes.set_xticks(sorted({point.count for point in points}))
    axes.set_xlabel("number of masked blocks")
    axes.set_ylabel("dev metric, %")
    axes.set_title(title, loc="left", fontsize=9)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    clear(axes)
