"""Figure 5: how much masks of two tasks differ (paper, section 6.2).

Of pairs of tasks: W_O (the second feed-forward layer) in block 2 and in the last block, as the paper shows
it, and beside that all layers. Masks of a seed start equal whatever the task; what differs was learned.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.dissimilarity import (
    KINDS,
    Grid,
    LearnedMasks,
    block_means,
    by_block,
    mean_grid,
)
from experiments.common.drawing import SERIES, clear, title_of
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import Run
from experiments.common.scores import listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.published.analysis import F5A, F5B, Dissimilarity
from experiments.published.facts import BERT, FACTS
from masking.heads import CLASSIFIER, POOLER

QUICK_TASKS = ("sst2", "sem", "trec", "cola")
LAYER = "output"
_LOWER_BLOCK = FACTS.setup.masked_blocks[BERT][0]
_TASKS = 2
_WHITE_FROM = 0.5  # s from which a cell's number is white

Pair = tuple[str, str]


def figure5(context: Context) -> Result:
    """Compare the masks of tasks by layer.

    Raises:
        ExperimentOptionsError: There is only one task.
    """
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FACTS.setup.tasks)
    seeds = context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds)
    if len(tasks) < _TASKS:
        raise ExperimentOptionsError("figure5 compares masks of tasks: give --tasks two names or more")
    pairs = compare(context, tasks, seeds)
    whole, (lower, last) = mean_grid(list(pairs.values())), shown_blocks(pairs)
    numbers = numbers_of(pairs)
    return Result(
        title="Figure 5: dissimilarity of tasks' masks",
        tables=[
            *(_matrix(tasks, pairs, block) for block in (lower, last)),
            _by_layer(whole),
        ],
        values={
            "pairs": [
                {"tasks": pair, "by_block": {str(b): row for b, row in grid.items()}}
                for pair, grid in pairs.items()
            ],
            "blocks_shown": [lower, last],
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[
            "s is the share of the bits changed by learning that two tasks don't have in common: 0 the same "
            "changes, 1 none in common. Learning that changed shares a and b at random would give "
            "1 - 2ab/(a + b)."
        ],
        verdicts=[rule.verdict(short_name(context.base), numbers) for rule in (F5A, F5B)],
        draw=lambda figure: _draw(figure, tasks, pairs, context),
    )


def masks_of(run: Run) -> LearnedMasks:
    """Read the masks of a run, without the head's."""
    before, after = (
        {name: mask for name, mask in masks.items() if name not in (POOLER, CLASSIFIER)}
        for masks in (run.initial_masks(), run.masks())
    )
    return LearnedMasks(run.task, before, after)


def compare(context: Context, tasks: Sequence[str], seeds: Sequence[int]) -> dict[Pair, Grid]:
    """Return s of each pair of tasks by block and kind of layer, mean over seeds."""
    architecture = context.setting(tasks[0]).base.info.architecture
    found: dict[Pair, list[Grid]] = {pair: [] for pair in combinations(tasks, 2)}
    for seed in seeds:
        masks = {task: masks_of(context.run(task, "masking", seed=seed)) for task in tasks}
        for (one, other), grids in found.items():
            grids.append(by_block(masks[one], masks[other], architecture))
    return {pair: mean_grid(grids) for pair, grids in found.items()}


def shown_blocks(pairs: Mapping[Pair, Grid]) -> tuple[int, int]:
    """Return block 2, or the lowest masked one where that isn't masked, and the last."""
    blocks = next(iter(pairs.values())).keys()
    return (_LOWER_BLOCK if _LOWER_BLOCK in blocks else min(blocks)), max(blocks)


def numbers_of(pairs: Mapping[Pair, Grid]) -> Dissimilarity:
    """Return what the paper's claims are about."""
    lower, last = (
        {listed(pair): grid[block][LAYER] for pair, grid in pairs.items()} for block in shown_blocks(pairs)
    )
    return Dissimilarity(lower, last, block_means(mean_grid(list(pairs.values()))))


def _matrix(tasks: Sequence[str], pairs: Mapping[Pair, Grid], block: int) -> Table:
    rows = [[TASKS[one].title, *(_cell(one, other, pairs, block) for other in tasks)] for one in tasks]
    return Table(["", *(TASKS[task].title for task in tasks)], rows, f"s of W_O in block {block}")


def _cell(one: str, other: str, pairs: Mapping[Pair, Grid], block: int) -> str:
    s = _value(one, other, pairs, block)
    return "" if s is None else f"{s:.3f}"


def _value(one: str, other: str, pairs: Mapping[Pair, Grid], block: int) -> float | None:
    """Return s of W_O of two tasks in either order; None of a task with itself."""
    grid = pairs.get((one, other)) or pairs.get((other, one))
    return grid[block][LAYER] if grid else None


def _by_layer(grid: Grid) -> Table:
    means = block_means(grid)
    rows = [
        [str(block), *(f"{row[kind]:.3f}" for kind in KINDS), f"{means[block]:.3f}"]
        for block, row in grid.items()
    ]
    rows.append(["mean", *(f"{fmean(row[kind] for row in grid.values()):.3f}" for kind in KINDS), ""])
    return Table(["block", *KINDS, "mean"], rows, "Supplement: s of every layer, mean over the pairs")


def _draw(figure: Any, tasks: Sequence[str], pairs: Mapping[Pair, Grid], context: Context) -> None:
    figure.set_size_inches(figure.get_size_inches()[0], 5.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2))
    panels = top.subplots(1, 2)
    for axes, block in zip(panels, shown_blocks(pairs), strict=True):
        image = _draw_matrix(axes, tasks, pairs, block)
    top.colorbar(image, ax=panels, label="dissimilarity s", shrink=0.8)
    _draw_layers(bottom, mean_grid(list(pairs.values())))
    figure.suptitle(title_of("Dissimilarity of tasks' masks: bits changed by one task only", context))


def _draw_matrix(axes: Any, tasks: Sequence[str], pairs: Mapping[Pair, Grid], block: int) -> Any:
    values = [[_value(one, other, pairs, block) for other in tasks] for one in tasks]
    shown = [[float("nan") if s is None else s for s in row] for row in values]
    image = axes.imshow(shown, vmin=0, vmax=1, cmap="Blues")
    for y, row in enumerate(values):
        for x, s in enumerate(row):
            if s is not None:
                color = "white" if s > _WHITE_FROM else "black"
                axes.text(x, y, f"{s:.2f}", ha="center", va="center", color=color, fontsize=7)
    titles = [TASKS[task].title for task in tasks]
    axes.set_xticks(range(len(tasks)), titles, rotation=45, ha="right")
    axes.set_yticks(range(len(tasks)), titles)
    axes.set_title(f"W_O of block {block}")
    return image


def _draw_layers(figure: Any, grid: Grid) -> None:
    axes = figure.subplots()
    for kind, color in zip(KINDS, SERIES, strict=False):
        shares = [row[kind] for row in grid.values()]
        axes.plot(list(grid), shares, marker="o", markersize=3, color=color, label=kind)
    axes.set_xticks(list(grid))
    axes.set_ylim(0, 1)
    axes.set_xlabel("block (0 is the lowest)")
    axes.set_ylabel("dissimilarity s")
    axes.set_title("supplement: all layers, mean over the pairs")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    clear(axes)
