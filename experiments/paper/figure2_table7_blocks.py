"""Figure 2 and Table 7: which transformer blocks are masked (paper, section 5.2 and appendix D.1).

The same runs, as curves and as numbers. From the top, the blocks nearest to the output are masked; from the
bottom, those nearest to the embeddings. Pooler and classifier are masked always. At the full scale the rate
of each row and task is searched, by the mean over the seeds; finetuning's too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import FINETUNING, MASKING, MASKING_LIGHT, clear, draw_scores, title_of
from experiments.common.report import Draw, Result, Table, short_name
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.published.beside import Beside, printed
from experiments.published.facts import BERT, FACTS, NOT_PRINTED, Cell, Direction, Method, paper_base
from experiments.published.figures import F2A, F2B, F2C, ByChoice

DIRECTIONS: tuple[Direction, ...] = ("top-down", "bottom-up")
QUICK_TASKS, FULL_TASKS = ("trec",), ("mrpc", "rte", "cola")
SHARES = tuple(dict.fromkeys(row.initial_sparsity for row in FACTS.table7.masking))
_STYLES = {"top-down": "-", "bottom-up": "--"}
_COLORS = dict(zip(SHARES, (MASKING, MASKING_LIGHT), strict=True))
_PAPER_BLOCKS = FACTS.setup.blocks[BERT]


@dataclass(frozen=True)
class Row:
    """A row of the table: how a task is learned.

    Attributes:
        blocks: First and last masked block; None for finetuning.
        share: Share of zeros that masks start with; 0 for finetuning.
        directions: Series that it belongs to; all blocks belong to both.
    """

    blocks: tuple[int, int] | None
    share: float = 0.0
    directions: tuple[Direction, ...] = ()

    @property
    def count(self) -> int:
        """Number of masked blocks."""
        return self.blocks[1] - self.blocks[0] + 1 if self.blocks else 0

    @property
    def method(self) -> Method:
        """How it is learned."""
        return "masking" if self.blocks else "finetuning"

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of `LearnOptions`."""
        if self.blocks is None:
            return {}
        return {"blocks": f"{self.blocks[0]}-{self.blocks[1]}", "initial_sparsity": self.share}


@dataclass(frozen=True)
class Measured:
    """One row on one task.

    Attributes:
        task: Name of the task.
        row: How it was learned.
        rate: Learning rate.
        scores: Dev metric over seeds.
        nbytes: Bytes of the masks, or of the finetuned copy.
    """

    task: str
    row: Row
    rate: float
    scores: Scores
    nbytes: int


def figure2(context: Context) -> Result:
    """Draw the dev metric against the number of masked blocks, from the top and from the bottom."""
    found = _measure_all(context)
    return _result(context, "Figure 2: which blocks are masked", found, lambda f: _draw(f, found, context))


def table7(context: Context) -> Result:
    """Give the dev metric for each choice of blocks, and the bytes of its masks."""
    return _result(context, "Table 7: which blocks are masked, in numbers", _measure_all(context))


def rows_of(blocks: int) -> list[Row]:
    """Return the rows for a base: finetuning, and the paper's choices at the same fractions of its depth.

    Args:
        blocks: Number of blocks of the base.
    """
    rows: dict[tuple[tuple[int, int], float], Row] = {}
    for row in FACTS.table7.masking:
        count = max(1, round((row.blocks[1] - row.blocks[0] + 1) * blocks / _PAPER_BLOCKS))
        for direction in DIRECTIONS if count == blocks else row.directions:
            first = 0 if direction == "bottom-up" else blocks - count
            chosen = (first, first + count - 1)
            directions = DIRECTIONS if count == blocks else (direction,)
            rows[chosen, row.initial_sparsity] = Row(chosen, row.initial_sparsity, directions)
    return [Row(None), *rows.values()]


def choices(found: Sequence[Measured]) -> ByChoice:
    """Return the mean dev metric in percent by task and choice of blocks, without finetuning."""
    tasks = dict.fromkeys(one.task for one in found)
    return {
        task: {
            (direction, one.row.count, one.row.share): one.scores.mean
            for one in found
            if one.task == task
            for direction in one.row.directions
        }
        for task in tasks
    }


def papers_cell(task: str, row: Row, blocks: int) -> Cell | None:
    """Return what the paper has in percent for a row at the same fraction of its depth; None for nothing.

    Args:
        task: Name of the task.
        row: One of `rows_of`.
        blocks: Number of blocks of the base.
    """
    scores = FACTS.table7.finetuning if row.blocks is None else {}
    for own in FACTS.table7.masking:
        count = own.blocks[1] - own.blocks[0] + 1
        alike = set(row.directions) <= set(own.directions) and own.initial_sparsity == row.share
        if row.blocks and alike and count * blocks == row.count * _PAPER_BLOCKS:
            scores = own.scores
    cell = scores.get(task)
    return Cell(mean=100 * cell.mean, std=100 * cell.std) if cell else None


def _measure_all(context: Context) -> list[Measured]:
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    base = context.setting(tasks[0]).base
    if base.num_blocks < 2:  # noqa: PLR2004
        raise ExperimentOptionsError(f"{base.info.name} has one block: there is nothing to choose")
    return [_measure(context, task, row) for task in tasks for row in rows_of(base.num_blocks)]


def _measure(context: Context, task: str, row: Row) -> Measured:
    seeds, rate = _seeds(context), context.scale_of(task).rates[row.method]
    if isinstance(rate, str):
        rate = context.search(task, row.method, seeds, **row.changes).best.lr
    settings = {**row.changes, "lr": rate, "weights": False}
    runs = [context.run(task, row.method, seed=seed, **settings) for seed in seeds]
    return Measured(task, row, rate, Scores(tuple(run.value for run in runs)), runs[0].nbytes)


def _seeds(context: Context) -> tuple[int, ...]:
    return context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds)


def _result(context: Context, title: str, found: Sequence[Measured], draw: Draw | None = None) -> Result:
    by_task = {task: [one for one in found if one.task == task] for task in choices(found)}
    beside = Beside(BERT, paper_base(context.base) == BERT and context.scale == "full")
    searched = any(isinstance(context.scale_of(task).rates["masking"], str) for task in by_task)
    return Result(
        title=title,
        tables=[_table(task, own, beside) for task, own in by_task.items()],
        values={"rows": [_record(one) for one in found]},
        settings={
            "Tasks": listed(by_task),
            "Seeds": listed(_seeds(context)),
            "Learning rate": "searched for each row and task" if searched else "one for all rows",
        },
        verdicts=[rule.verdict(short_name(context.base), choices(found)) for rule in (F2A, F2B, F2C)],
        notes=[beside.note],
        draw=draw,
    )


def _table(task: str, found: Sequence[Measured], beside: Beside) -> Table:
    blocks = max(one.row.count for one in found)
    head = [
        "method",
        "blocks",
        "series",
        "zeros at the start",
        "rate",
        "dev metric, %",
        "paper",
        "difference",
    ]
    rows = []
    for one in found:
        cell = papers_cell(task, one.row, blocks)
        scores = one.scores
        rows.append(
            [
                *_described(one.row),
                f"{one.rate:g}",
                str(scores),
                printed(cell),
                beside.difference(scores.mean, scores.spread, cell),
                f"{one.nbytes:,}",
            ]
        )
    return Table([*head, "bytes"], rows, f"{TASKS[task].title}, {TASKS[task].metric}")


def _described(row: Row) -> list[str]:
    if row.blocks is None:
        return ["finetuning", *3 * [NOT_PRINTED]]
    return [
        "masking",
        f"{row.blocks[0]}-{row.blocks[1]}",
        " and ".join(row.directions),
        f"{row.share:.0%}",
    ]


def _record(one: Measured) -> dict[str, Any]:
    return {
        "task": one.task,
        "method": one.row.method,
        "blocks": one.row.blocks,
        "directions": list(one.row.directions),
        "initial_sparsity": one.row.share,
        "lr": one.rate,
        **one.scores.record(),
        "bytes": one.nbytes,
    }


def _draw(figure: Any, found: Sequence[Measured], context: Context) -> None:
    tasks = list(choices(found))
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _draw_task(axes, [one for one in found if one.task == task])
        axes.set_title(f"{TASKS[task].title}: {TASKS[task].metric.replace('_', ' ')}")
        axes.set_xlabel("number of masked blocks")
    panels[0].set_ylabel("dev metric, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=2, loc="outside lower center")
    figure.suptitle(title_of("Masking blocks from the top down and from the bottom up", context))


def _draw_task(axes: Any, found: Sequence[Measured]) -> None:
    tuned = next(one for one in found if one.row.blocks is None)
    axes.axhline(tuned.scores.mean, color=FINETUNING, label="finetuning")
    for share in SHARES:
        for direction in DIRECTIONS:
            own = sorted(_series(found, direction, share).items())
            style = {"color": _COLORS[share], "linestyle": _STYLES[direction]}
            label = f"masking {direction}, {100 * share:.0f} % zeros at the start"
            draw_scores(
                axes, [count for count, _ in own], [scores for _, scores in own], label=label, **style
            )
    axes.set_xticks(sorted({one.row.count for one in found if one.row.blocks}))
    clear(axes)


def _series(found: Sequence[Measured], direction: Direction, share: float) -> Mapping[int, Scores]:
    return {
        one.row.count: one.scores
        for one in found
        if direction in one.row.directions and one.row.share == share
    }
