"""Figure 5: how much masks of two tasks differ, layer by layer.

The masks compared start equal (same seed, same number of labels): what differs was learned. Beside them: each
mask against itself before learning, and what independent random masks would give. Masks of one task with two
seeds start as independent random masks, and are compared where more than one seed is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import torch

from experiments.common.context import Context
from experiments.common.dissimilarity import (
    KINDS,
    MARGIN,
    Grid,
    Masks,
    block_means,
    by_block,
    chance,
    mean_grid,
    rises,
)
from experiments.common.drawing import DARK, SERIES, clear, where
from experiments.common.report import Claim, Result, Table
from experiments.common.runs import Run
from experiments.common.scores import listed
from experiments.errors import ExperimentOptionsError
from masking.heads import CLASSIFIER, POOLER

_TASKS = 2
TITLES = {
    "tasks": "two tasks, same start",
    "learning": "one task, before and after learning",
    "seeds": "one task, two seeds",
}


@dataclass(frozen=True)
class LearnedMasks:
    """The masks of one run.

    Attributes:
        task: Name of the task.
        seed: Seed of the run.
        before: Masks before learning by layer name.
        after: Masks at the best epoch by layer name.
    """

    task: str
    seed: int
    before: Masks
    after: Masks

    @classmethod
    def of(cls, run: Run) -> "LearnedMasks":
        """Read the masks of a run, without the head's."""
        before, after = (
            {name: mask for name, mask in masks.items() if name not in (POOLER, CLASSIFIER)}
            for masks in (run.initial_masks(), run.masks())
        )
        return cls(run.task, run.seed, before, after)


def figure5(context: Context) -> Result:
    """Compare the masks of tasks by layer.

    Raises:
        ExperimentOptionsError: There is only one task, or masks of two tasks did not start equal.
    """
    tasks = context.choose_tasks(quick=("sst2", "sem"), full=("mrpc", "sst2", "cola", "rte"))
    seeds = context.choose_seeds(quick=(0,), full=(0, 1, 2, 3))
    if len(tasks) < _TASKS:
        raise ExperimentOptionsError("figure5 compares masks of tasks: give --tasks two names or more")
    masks = [LearnedMasks.of(context.run(task, "masking", seed=seed)) for task in tasks for seed in seeds]
    grids = compare(masks, context.setting(tasks[0]).base.info.architecture)
    random = random_share(masks)
    claim = judge(grids["tasks"])
    return Result(
        title="Figure 5: dissimilarity of masks by layer",
        tables=[_table(name, grid) for name, grid in grids.items()],
        values={
            **{name: {str(block): row for block, row in grid.items()} for name, grid in grids.items()},
            "independent_random_masks": random,
            "claim": claim.values(),
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[
            "s = |M1 - M2| / (|M1| + |M2|), counting ones: 0 equal, 1 nothing in common.",
            f"Independent random masks with as many zeros as these would have s = {random:.4f}.",
            claim.note("Here"),
        ],
        draw=lambda figure: _draw(figure, grids, random, f"{listed(tasks)}; {where(context)}"),
    )


def compare(masks: Sequence[LearnedMasks], architecture: str) -> dict[str, Grid]:
    """Compare masks in every way that there are pairs for; means over the pairs.

    Args:
        masks: Masks of at least two tasks.
        architecture: The base's Hugging Face model type.

    Returns:
        ``tasks``: two tasks, same seed; ``learning``: before and after learning; ``seeds``: two seeds of one
        task, where there are two.

    Raises:
        ExperimentOptionsError: Masks of two tasks with the same seed did not start equal.
    """
    pairs = list(combinations(masks, 2))
    tasks = [(one, other) for one, other in pairs if one.seed == other.seed]
    for one, other in tasks:
        _check_start(one, other)
    seeds = [(one, other) for one, other in pairs if one.task == other.task]
    grids = {
        "tasks": mean_grid([by_block(one.after, other.after, architecture) for one, other in tasks]),
        "learning": mean_grid([by_block(one.before, one.after, architecture) for one in masks]),
    }
    if seeds:
        grids["seeds"] = mean_grid([by_block(one.after, other.after, architecture) for one, other in seeds])
    return grids


def _check_start(one: LearnedMasks, other: LearnedMasks) -> None:
    shared = one.before.keys() & other.before.keys()
    if not all(torch.equal(one.before[name], other.before[name]) for name in shared):
        raise ExperimentOptionsError(
            f"masks of {one.task} and {other.task} don't start equal, so what differs was not learned: "
            "choose --tasks of the same kind with as many labels"
        )


def random_share(masks: Sequence[LearnedMasks]) -> float:
    """Return the s that independent random masks with as many zeros as these would have, in the mean."""
    return fmean(chance(mask, mask) for one in masks for mask in one.after.values())


def judge(tasks: Grid) -> Claim:
    """Set the paper's claim against the dissimilarity of tasks."""
    return Claim(
        "masks of two tasks differ more in the higher layers of the encoder than in the lower ones.",
        f"the mean s of the upper half of the masked blocks is {MARGIN:.0%} or more above that of the lower",
        rises(tasks),
    )


def _table(name: str, grid: Grid) -> Table:
    means = block_means(grid)
    rows = [
        [str(block), *(f"{row[kind]:.4f}" for kind in KINDS), f"{means[block]:.4f}"]
        for block, row in grid.items()
    ]
    return Table(["block", *KINDS, "mean"], rows, f"s of {TITLES[name]}")


def _draw(figure: Any, grids: Mapping[str, Grid], random: float, origin: str) -> None:
    figure.set_size_inches(0.6 + 3.6 * len(grids), 4.2)
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    for axes, (name, grid) in zip(panels, grids.items(), strict=True):
        blocks = list(grid)
        for kind, color in zip(KINDS, SERIES, strict=False):
            shares = [grid[block][kind] for block in blocks]
            axes.plot(blocks, shares, marker="o", markersize=3, color=color, label=kind)
        _draw_random(
            axes, random, 1.15 * max(share for row in grid.values() for share in row.values()) or 1.0
        )
        axes.set_xticks(blocks)
        axes.set_xlabel("block (0 is the lowest)")
        axes.set_title(TITLES[name], fontsize=9)
        clear(axes)
    panels[0].set_ylabel("dissimilarity s")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=len(KINDS), loc="outside lower center")
    figure.suptitle(f"Masks compared by layer ({origin})", fontsize=10)


def _draw_random(axes: Any, random: float, top: float) -> None:
    """Draw what independent random masks would give, or write it where that is far above all else."""
    axes.set_ylim(0, top)
    text = f"independent random masks: {random:.3f}"
    if random <= top:
        axes.axhline(random, color=DARK, linewidth=1, linestyle="--")
        across = axes.get_yaxis_transform()
        axes.text(0.98, random, text, fontsize=8, ha="right", va="bottom", transform=across)
    else:
        axes.text(0.98, 0.98, f"{text} (above)", fontsize=8, ha="right", va="top", transform=axes.transAxes)
