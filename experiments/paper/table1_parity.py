"""Table 1: masking against finetuning, task by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import FINETUNING, MASKING, clear, draw_scores
from experiments.common.report import Claim, Result, Table, short_name
from experiments.common.runs import METHODS, Run
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.paper.quotes import NOT_AVAILABLE_NOTE, quote
from experiments.published.facts import Method

PAPER_TASKS = ("mrpc", "sst2", "cola", "rte", "qnli", "pos", "ner", "swag", "sem", "trec", "agnews")
QUICK_TASKS = ("trec", "sst2", "pos")
SEEDS = (0, 1, 2, 3)
MEAN_GAP_POINTS, TASK_GAP_POINTS = -0.5, -2.0

_ORDER: tuple[Method, ...] = ("finetuning", "masking")
_HEAD = ("task", "metric", "train / dev rows", "finetuning", "masking", "difference", "paper: finetuning")
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
        scores: Dev metric over seeds.
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
        metric: Name of the dev metric.
        rows: Rows of train and dev.
        sides: By method.
    """

    task: str
    metric: str
    rows: tuple[int, int]
    sides: dict[Method, Side]

    @property
    def difference(self) -> float:
        """Masking less finetuning, in points."""
        return self.sides["masking"].scores.mean - self.sides["finetuning"].scores.mean


def table1(context: Context) -> Result:
    """Learn every task by both methods with every seed, on every base."""
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=PAPER_TASKS)
    seeds = context.choose_seeds(quick=SEEDS[:2], full=SEEDS)
    pairs = {base: [_compare(context, base, task, seeds) for task in tasks] for base in context.bases}
    claims = {base: judge(found) for base, found in pairs.items()}
    return Result(
        title="Table 1: masking against finetuning",
        tables=[t for base, found in pairs.items() for t in (_scores(base, found), _costs(base, found))],
        values={
            short_name(base): {
                "tasks": [_record(pair) for pair in found],
                "mean_difference": fmean(pair.difference for pair in found),
                "claim": claims[base].values(),
            }
            for base, found in pairs.items()
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[*(claim.note(short_name(base)) for base, claim in claims.items()), NOT_AVAILABLE_NOTE],
        draw=lambda figure: _draw(figure, pairs),
    )


def judge(pairs: Sequence[Pair]) -> Claim:
    """Set the paper's claim against the differences on all tasks of a base."""
    differences = [pair.difference for pair in pairs]
    return Claim(
        "masking performs as finetuning does.",
        f"the mean over tasks of masking less finetuning is at least {MEAN_GAP_POINTS} points and no task is "
        f"below {TASK_GAP_POINTS}",
        fmean(differences) >= MEAN_GAP_POINTS and min(differences) >= TASK_GAP_POINTS,
    )


def _compare(context: Context, base: str, task: str, seeds: Sequence[int]) -> Pair:
    found = {
        method: [context.run(task, method, seed=seed, base=base) for seed in seeds] for method in METHODS
    }
    one = found["masking"][0]
    return Pair(task, one.metric, one.rows, {method: _side(own) for method, own in found.items()})


def _side(runs: Sequence[Run]) -> Side:
    scores = Scores(tuple(run.value for run in runs))
    return Side(scores, runs[0].task_bytes, fmean(run.seconds for run in runs))


def _scores(base: str, pairs: Sequence[Pair]) -> Table:
    rows = [
        [
            TASKS[pair.task].title,
            pair.metric,
            f"{pair.rows[0]} / {pair.rows[1]}",
            *(str(pair.sides[method].scores) for method in _ORDER),
            f"{pair.difference:+.2f}",
            *(quote("table1", base, pair.task, method) for method in _ORDER),
        ]
        for pair in pairs
    ]
    mean = fmean(pair.difference for pair in pairs)
    rows.append(["mean", "", "", "", "", f"{mean:+.2f}", "", ""])
    caption = f"{short_name(base)}, best epoch on dev, in percent, mean ± standard deviation over seeds"
    return Table([*_HEAD, "paper: masking"], rows, caption)


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
        "dev_rows": pair.rows[1],
        "difference": pair.difference,
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
        axes.set_ylabel("dev metric, %")
        axes.set_title(short_name(base), loc="left", fontsize=9)
        axes.grid(axis="y", linewidth=0.4)
        clear(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, frameon=False, fontsize=8, loc="outside lower center")
