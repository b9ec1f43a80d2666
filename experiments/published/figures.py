"""Rules of figures 1 to 3, on settings and memory; see `experiments.published.rules`.

Task names are those of `experiments.common.tasks`, scores are in percent.
"""

from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean, pstdev

from experiments.published.facts import FACTS, Direction, Table7, Table8, Unit
from experiments.published.rules import Finding, Rule, at_least, at_most

LESS_MEMORY_FROM, FEWER_PARAMETERS_FROM = 2, 3
LOW, GOOD, HIGH = 0.01, (0.03, 0.05, 0.1), 0.95
HIGH_LOSS, GOOD_GAP = 5.0, 2.0
LEAST_SENSITIVE, MOST_SENSITIVE = "sst2", "rte"
TOP_DOWN_SHARE, RISE_SHARE = 0.75, 0.75  # 3 of 4 steps
BOTTOM_UP_GAIN, TOP_DOWN_GAIN, TOP_DOWN_FLAT = 2.0, 3.0, 2.0
GAINING, FLAT = "cola", ("mrpc", "rte")

BySparsity = Mapping[str, Mapping[float, float]]
"""Figure 1: mean dev metric by task and share of zeros at the start."""
Choice = tuple[Direction, int, float]
"""Where masking starts, number of masked blocks, share of zeros at the start."""
ByChoice = Mapping[str, Mapping[Choice, float]]
"""Figure 2: mean dev metric by task and choice; all blocks are in both directions."""


def _high_is_bad(scores: BySparsity) -> Finding:
    if not scores or not all(HIGH in row for row in scores.values()):
        return Finding({}, None)
    losses = {task: max(row.values()) - row[HIGH] for task, row in scores.items()}
    values = {f"{task}: points below the best": loss for task, loss in losses.items()}
    return Finding(values, all(at_least(loss, HIGH_LOSS) for loss in losses.values()))


def _good_range(scores: BySparsity) -> Finding:
    if not _has(scores, *GOOD):
        return Finding({}, None)
    gaps = {task: max(row.values()) - max(row[share] for share in GOOD) for task, row in scores.items()}
    values = {f"{task}: points below the best": gap for task, gap in gaps.items()}
    return Finding(values, all(at_most(gap, GOOD_GAP) for gap in gaps.values()))


def _low_hurts(scores: BySparsity) -> Finding:
    if not _has(scores, LOW, *GOOD):
        return Finding({}, None)
    means = {share: fmean(row[share] for row in scores.values()) for share in (LOW, *GOOD)}
    best = max(means[share] for share in GOOD)
    return Finding({"mean at 1 %": means[LOW], "best mean of 3 to 10 %": best}, means[LOW] < best)


def _sensitivity(scores: BySparsity) -> Finding:
    wanted = (LEAST_SENSITIVE, MOST_SENSITIVE)
    rows = {task: [value for share, value in scores.get(task, {}).items() if share < HIGH] for task in wanted}
    if not all(len(row) > 1 for row in rows.values()):
        return Finding({}, None)
    deviations = {task: pstdev(row) for task, row in rows.items()}
    values = {f"{task}: deviation": deviation for task, deviation in deviations.items()}
    return Finding(values, deviations[LEAST_SENSITIVE] < deviations[MOST_SENSITIVE])


def _has(scores: BySparsity, *shares: float) -> bool:
    return bool(scores) and all(share in row for row in scores.values() for share in shares)


F1A = Rule[BySparsity](
    "F1a",
    "95 % of zeros at the start are bad on all tasks.",
    f"on each task the mean at 95 % is at least {HIGH_LOSS:.0f} points below the task's best",
    _high_is_bad,
)
F1B = Rule[BySparsity](
    "F1b",
    "3 to 10 % of zeros at the start are reasonable on all tasks.",
    f"on each task the best of 3, 5 and 10 % is within {GOOD_GAP:.0f} points of the task's best",
    _good_range,
)
F1C = Rule[BySparsity](
    "F1c",
    "1 % of zeros at the start hurts.",
    "the mean over tasks at 1 % is below that at the best of 3, 5 and 10 %",
    _low_hurts,
)
F1D = Rule[BySparsity](
    "F1d",
    "SST2 is less sensitive to the share of zeros than RTE.",
    "the standard deviation of the mean metric over the shares from 1 to 90 % is smaller for SST2",
    _sensitivity,
)


def by_choice(table: Table7) -> ByChoice:
    """Return the means of Table 7 in percent, by task and choice of blocks."""
    return {
        task: {
            (direction, row.blocks[1] - row.blocks[0] + 1, row.initial_sparsity): 100 * row.scores[task].mean
            for row in table.masking
            for direction in row.directions
        }
        for task in table.finetuning
    }


def _top_beats_bottom(scores: ByChoice) -> Finding:
    wins = []
    for row in scores.values():
        most = max(count for _, count, _ in row)
        for (direction, count, share), value in row.items():
            other = row.get(("bottom-up", count, share))
            if direction == "top-down" and count < most and other is not None:
                wins.append(value > other)
    if not wins:
        return Finding({}, None)
    values = {"comparisons": len(wins), "top-down better": sum(wins)}
    return Finding(values, at_least(fmean(wins), TOP_DOWN_SHARE))


def _curve(row: Mapping[Choice, float], direction: Direction) -> list[float]:
    """Return what the default share of zeros comes to in one direction, by rising number of blocks."""
    own = {count: value for (way, count, share), value in row.items() if (way, share) == (direction, _START)}
    return [own[count] for count in sorted(own)]


_START = FACTS.setup.initial_sparsity


def _bottom_up_rises(scores: ByChoice) -> Finding:
    curves = {task: _curve(row, "bottom-up") for task, row in scores.items()}
    if not curves or not all(len(curve) > 1 for curve in curves.values()):
        return Finding({}, None)
    gains = {task: curve[-1] - curve[0] for task, curve in curves.items()}
    steps = {task: fmean(b >= a for a, b in pairwise(curve)) for task, curve in curves.items()}
    holds = all(
        at_least(gains[task], BOTTOM_UP_GAIN) and at_least(steps[task], RISE_SHARE) for task in curves
    )
    return Finding({f"{task}: gain": gain for task, gain in gains.items()}, holds)


def _top_down_saturates(scores: ByChoice) -> Finding:
    curves = {task: _curve(scores.get(task, {}), "top-down") for task in (GAINING, *FLAT)}
    if not all(len(curve) > 1 for curve in curves.values()):
        return Finding({}, None)
    gains = {task: curve[-1] - curve[0] for task, curve in curves.items()}
    flat = all(at_most(abs(gains[task]), TOP_DOWN_FLAT) for task in FLAT)
    holds = at_least(gains[GAINING], TOP_DOWN_GAIN) and flat
    return Finding({f"{task}: gain": gain for task, gain in gains.items()}, holds)


def _table7() -> Mapping[str, ByChoice]:
    return {base: by_choice(FACTS.table7) for base in FACTS.table2.errors}


F2A = Rule[ByChoice](
    "F2a",
    "masking from the top down is better than masking as many blocks from the bottom up.",
    f"it is in at least {TOP_DOWN_SHARE:.0%} of the comparisons at an equal number of blocks, less than all",
    _top_beats_bottom,
    _table7,
)
F2B = Rule[ByChoice](
    "F2b",
    "from the bottom up, more masked blocks are better.",
    f"with 5 % of zeros all blocks gain at least {BOTTOM_UP_GAIN:.0f} points on the fewest on each task, and "
    "at most one step in four falls",
    _bottom_up_rises,
    _table7,
)
F2C = Rule[ByChoice](
    "F2c",
    "from the top down, more masked blocks gain on CoLA and change little on MRPC and RTE.",
    f"with 5 % of zeros all blocks gain at least {TOP_DOWN_GAIN:.0f} points on the fewest on CoLA, and "
    f"differ by at most {TOP_DOWN_FLAT:.0f} on MRPC and RTE",
    _top_down_saturates,
    _table7,
)


def first_lower(counted: Table8, unit: Unit) -> int | None:
    """Return the number of tasks from which on masking takes less than finetuning; None for never.

    Args:
        counted: Addends of tasks.
        unit: What is compared.
    """
    pairs = zip(counted.totals("masking", unit), counted.totals("finetuning", unit), strict=True)
    higher = [tasks for tasks, (masking, finetuning) in enumerate(pairs, start=1) if masking >= finetuning]
    first = max(higher, default=0) + 1
    return first if first <= len(counted.added) else None


def _crossings(counted: Table8) -> Finding:
    memory, parameters = first_lower(counted, "kilobytes"), first_lower(counted, "parameters")
    values = {"less memory from tasks": memory or 0, "fewer parameters from tasks": parameters or 0}
    return Finding(values, (memory, parameters) == (LESS_MEMORY_FROM, FEWER_PARAMETERS_FROM))


F3 = Rule[Table8](
    "F3",
    "masking takes more than finetuning for one task, less memory from two tasks on and fewer parameters "
    "from three on.",
    f"memory is lower from {LESS_MEMORY_FROM} tasks on, parameters are fewer from {FEWER_PARAMETERS_FROM}",
    _crossings,
    lambda: {base: FACTS.table8 for base in FACTS.table2.errors},
)

FIGURE_RULES = (F1A, F1B, F1C, F1D, F2A, F2B, F2C, F3)
