"""Table 1: masking against finetuning, task by task (paper, section 5.3).

``table1`` is the paper's method and nothing else; ``table1-tuned`` is the same comparison with the settings
that did best here, which go beyond the paper's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from experiments.common.context import Context
from experiments.common.drawing import FINETUNING, MASKING, clear, draw_scores
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import METHODS, Measured
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.published.beside import Beside, printed
from experiments.published.facts import FACTS, Cell, Method
from experiments.published.tables import T1A, T1B
from masking import MaskSettings
from training.options import EXTRA_SETTINGS

QUICK_TASKS = ("trec", "sst2", "pos")
QUICK_SEEDS = FACTS.setup.seeds[:2]
_METHOD = {*MaskSettings.model_fields, *EXTRA_SETTINGS, "long_sentences"}
_ORDER: tuple[Method, ...] = ("finetuning", "masking")
_HEAD = ("task", "metric", "train / measured rows", "finetuning", "masking", "difference, 95 % interval")
_PAPER_HEAD = ("paper: finetuning", "paper: masking", "ours - paper: finetuning", "ours - paper: masking")
_COST_HEAD = (
    "task",
    "finetuned copy, bytes",
    "masks and head, bytes",
    "ratio",
    "finetuning, s",
    "masking, s",
)


@dataclass(frozen=True)
class Side:
    """Results of one method on one task.

    Attributes:
        scores: Metric over seeds.
        nbytes: Bytes that the task takes in addition to the base: masks and head, or the finetuned copy.
        seconds: Mean time of learning a seed.
    """

    scores: Scores
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """Both methods on one task.

    Attributes:
        task: Name of the task.
        metric: Name of the metric.
        rows: Rows of train and of what was measured.
        split: ``dev``, or ``test`` where a share of train is held out.
        sides: By method.
    """

    task: str
    metric: str
    rows: tuple[int, int]
    split: str
    sides: dict[Method, Side]

    @property
    def difference(self) -> float:
        """Masking less finetuning, in points."""
        return fmean(self.differences)

    @property
    def differences(self) -> list[float]:
        """The same seed by seed."""
        both = (self.sides[method].scores.values for method in ("masking", "finetuning"))
        return [100 * (masked - tuned) for masked, tuned in zip(*both, strict=True)]


def table1(context: Context) -> Result:
    """Learn every task by both methods with every seed, on every base, as the paper does.

    Raises:
        ExperimentOptionsError: Settings of the method are changed.
    """
    changed = [str(change) for change in context.changes if change.field in _METHOD]
    if changed:
        raise ExperimentOptionsError(
            f"--set {' '.join(changed)}: table1 is the paper's method and nothing else; "
            "table1-tuned takes other settings"
        )
    return _compare_all(context, "Table 1: masking against finetuning")


def table1_tuned(context: Context) -> Result:
    """Learn the same with the settings that did best here, which the command has set."""
    title = "Table 1, tuned: masking with settings beyond the paper's against finetuning"
    return replace(_compare_all(context, title), verdicts=())  # the claims are about the paper's method


def _compare_all(context: Context, title: str) -> Result:
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FACTS.setup.tasks)
    seeds = context.choose_seeds(quick=QUICK_SEEDS, full=FACTS.setup.seeds)
    pairs = {base: [_compare(context, base, task, seeds) for task in tasks] for base in context.bases}
    besides = {base: Beside.of(base, full=context.scale == "full") for base in context.bases}
    verdicts = [
        rule.verdict(short_name(base), means(found)) for base, found in pairs.items() for rule in (T1A, T1B)
    ]
    return Result(
        title=title,
        tables=[
            table
            for base, found in pairs.items()
            for table in (_scores(base, found, besides[base]), _costs(base, found))
        ],
        values={
            short_name(base): {
                "tasks": [_record(pair) for pair in found],
                "mean_difference": fmean(pair.difference for pair in found),
            }
            for base, found in pairs.items()
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[f"{short_name(base)}: {beside.note}" for base, beside in besides.items()],
        verdicts=verdicts,
        draw=lambda figure: _draw(figure, pairs),
    )


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % interval of a mean, by Student's t; None for fewer than two values.

    Args:
        values: Independent values, such as paired differences.
    """
    if len(values) < 2:  # noqa: PLR2004
        return None
    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))


def means(pairs: Sequence[Pair]) -> dict[Method, dict[str, float]]:
    """Return the means in percent by method and task, as rules take them."""
    return {method: {pair.task: pair.sides[method].scores.mean for pair in pairs} for method in METHODS}


def _compare(context: Context, base: str, task: str, seeds: Sequence[int]) -> Pair:
    held_out = context.scale_of(task).hold_out is not None
    test = context.test(task, base=base) if held_out else None
    found = {
        method: [_run(context, base, task, method, seed, held_out=held_out) for seed in seeds]
        for method in METHODS
    }
    one = found["masking"][0].run
    rows = one.rows if test is None else (one.rows[0], len(test.examples))
    sides = {method: _side(own) for method, own in found.items()}
    return Pair(task, one.metric, rows, "dev" if test is None else "test", sides)


def _run(context: Context, base: str, task: str, method: Method, seed: int, *, held_out: bool) -> Measured:
    """Return a run, measured on dev, or on the test rows where a share of train takes dev's place."""
    if held_out:
        return context.measure(task, method, seed=seed, base=base)
    run = context.run(task, method, seed=seed, base=base, weights=False)
    return Measured(run, run.metrics)


def _side(found: Sequence[Measured]) -> Side:
    values = tuple(one.value for one in found)
    return Side(Scores(values), found[0].run.task_bytes, fmean(one.run.seconds for one in found))


def _scores(base: str, pairs: Sequence[Pair], beside: Beside) -> Table:
    cells = FACTS.table1.scores[beside.base]
    rows = [
        [
            TASKS[pair.task].title,
            pair.metric,
            f"{pair.rows[0]} / {pair.rows[1]}",
            *(str(pair.sides[method].scores) for method in _ORDER),
            _with_interval(pair.differences),
            *_beside(pair, cells, beside),
        ]
        for pair in pairs
    ]
    rows.append(["mean", "", "", "", "", _with_interval([pair.difference for pair in pairs]), "", "", "", ""])
    caption = (
        f"{short_name(base)}, best epoch on dev, measured on {pairs[0].split}, in percent, mean ± standard "
        "deviation (n - 1) over seeds; differences paired by seed, their mean over tasks"
    )
    return Table([*_HEAD, *_PAPER_HEAD], rows, caption)


def _with_interval(differences: Sequence[float]) -> str:
    """Write the mean of differences and its 95 % interval: over paired seeds, or over tasks."""
    half = half_width(differences)
    return f"{fmean(differences):+.2f}" + ("" if half is None else f" ± {half:.2f}")


def _beside(pair: Pair, cells: Mapping[Method, Mapping[str, Cell]], beside: Beside) -> list[str]:
    own = {method: (cells[method].get(pair.task), pair.sides[method].scores) for method in _ORDER}
    differences = [beside.difference(scores.mean, scores.spread, cell) for cell, scores in own.values()]
    return [*(printed(cell) for cell, _ in own.values()), *differences]


def _costs(base: str, pairs: Sequence[Pair]) -> Table:
    rows = []
    for pair in pairs:
        tuned, masked = pair.sides["finetuning"], pair.sides["masking"]
        sizes = [f"{tuned.nbytes:,}", f"{masked.nbytes:,}", f"{tuned.nbytes / masked.nbytes:.1f}"]
        rows.append([TASKS[pair.task].title, *sizes, f"{tuned.seconds:.0f}", f"{masked.seconds:.0f}"])
    return Table(_COST_HEAD, rows, f"{short_name(base)}, bytes of a task, and seconds to learn it once")


def _record(pair: Pair) -> dict[str, Any]:
    return {
        "task": pair.task,
        "metric": pair.metric,
        "train_rows": pair.rows[0],
        "measured_rows": pair.rows[1],
        "split": pair.split,
        "difference": pair.difference,
        "interval_95": half_width(pair.differences),
        **{
            method: {**side.scores.record(), "bytes": side.nbytes, "seconds": side.seconds}
            for method, side in pair.sides.items()
        },
    }


def _draw(figure: Any, pairs: dict[str, list[Pair]]) -> None:
    figure.set_size_inches(7, 0.8 + 2.6 * len(pairs))
    panels = figure.subplots(len(pairs), squeeze=False)[:, 0]
    for axes, (base, found) in zip(panels, pairs.items(), strict=True):
        for method, color, shift in zip(_ORDER, (FINETUNING, MASKING), (-0.1, 0.1), strict=True):
            places = [index + shift for index in range(len(found))]
            scores = [pair.sides[method].scores for pair in found]
            draw_scores(axes, places, scores, linestyle="none", color=color, label=method)
        axes.set_xticks(range(len(found)), [TASKS[pair.task].title for pair in found], fontsize=8)
        axes.set_xlim(-0.5, len(found) - 0.5)
        axes.set_ylabel(f"{found[0].split} metric, %")
        axes.set_title(short_name(base), loc="left", fontsize=9)
        axes.grid(axis="y", linewidth=0.4)
        clear(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, frameon=False, fontsize=8, loc="outside lower center")
