"""Better masks: what may be learned or masked otherwise, one thing at a time, on rows that chose nothing.

No result of the paper; it decides whether masks get parts that they don't have. The baseline is the default
of `training.learn_mask`; the paper's setting stands beside it. A variant wins that beats the baseline on
enough tasks, and removes no smaller share of its errors than it adds to its bytes. One that no longer can win
is not learned on the tasks that are left.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.beyond.mask_variants import (
    DROPPED_GRADIENTS,
    ExtendedModel,
    Variant,
    drop_gradients,
    scale_rows,
    soften_zeros,
    train_biases_and_norms,
    without_query_and_key,
)
from experiments.beyond.shared_finetuning import finetune_together
from experiments.common.context import Context
from experiments.common.report import Result as Report
from experiments.common.report import Table
from experiments.common.runs import RESULTS, SEARCH_SEED, head_bytes
from experiments.common.scores import Scores, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from masking import Base
from training.cli.progress import ProgressBar
from training.runs.preparation import Preparation
from training.runs.results import Result, Results, short_hash
from training.runs.runner import HeldOutRows, Runner

logger = logging.getLogger(__name__)

MEASURED = ("trec", "sst2", "sem", "cola", "mrpc")
SHARED = ("agnews", "qnli", "rte")
"""What the shared base is finetuned on: none of those measured."""
SHARED_EPOCHS = 2
ENOUGH = 5
"""Tasks that a variant must win."""

BASELINE = Variant("none: head trained, the default", "nothing", {"head": "trained"})
PAPER = Variant("the paper's setting: head masked", "nothing")
OTHERS = (
    replace(
        BASELINE,
        name="an output scale for each row",
        kernel="a product per output; signs pay it",
        extend=scale_rows,
    ),
    replace(
        BASELINE,
        name="biases and LayerNorms of masked blocks trained",
        kernel="a sum per output and each task's own LayerNorm; signs pay both",
        extend=train_biases_and_norms,
    ),
    replace(
        BASELINE,
        name="a soft zero for each matrix",
        kernel="a blend of two products of the weight in place of an AND",
        extend=soften_zeros,
    ),
    replace(
        BASELINE,
        name="W_V, W_AO and feed-forward masked only",
        kernel="less: query and key are common to all tasks",
        change=without_query_and_key,
    ),
    replace(
        BASELINE, name=f"gradients of {DROPPED_GRADIENTS:.0%} of scores dropped a step", extend=drop_gradients
    ),
)
FINETUNED = replace(
    BASELINE,
    name=f"base finetuned on {listed(SHARED)} together",
    kernel="nothing, where all tasks share that base",
)


@dataclass(frozen=True)
class Learned:
    """A mask that was learned and measured.

    Attributes:
        value: The metric on rows that neither learned nor chose, 0 to 1 (a Matthews correlation may be below
            0); 0 where learning diverged.
        chosen: The same on the rows that chose the epoch.
        best_epoch: That epoch.
        nbytes: Bytes of masks, head and what else was learned.
        seconds: Time of learning and measuring; of the last process alone where it was resumed.
    """

    value: float
    chosen: float
    best_epoch: int
    nbytes: int
    seconds: float

    @classmethod
    def of(cls, result: Result, rows: HeldOutRows) -> "Learned":
        """Sum up a run that was measured on held-out rows, or diverged."""
        value = result.held_out[rows.digest][result.metric] if result.values else 0.0
        chosen = result.value if result.values else 0.0
        return cls(value, chosen, result.best_epoch, result.nbytes, result.seconds)


@dataclass(frozen=True)
class Row:
    """A variant beside the baseline.

    Attributes:
        variant: The variant.
        scores: Metric over seeds, by task.
        gain: Mean over tasks of what it gains on the baseline, in points.
        won: Tasks on which it is better.
        nbytes: Mean bytes of a task.
        added: Share of the baseline's bytes that it adds.
        removed: Mean share of the baseline's errors that it removes.
    """

    variant: Variant
    scores: Mapping[str, Scores]
    gain: float
    won: int
    nbytes: int
    added: float
    removed: float

    @property
    def wins(self) -> bool:
        """Whether it is better on enough tasks and earns its bytes."""
        return self.won >= ENOUGH and self.removed >= self.added


def better_masks(context: Context) -> Report:
    """Learn and measure every variant on every task on which it still can win.

    Raises:
        ExperimentOptionsError: No rows are held out.
        TrainingError, MaskingError: A mask can't be learned.
    """
    tasks = context.choose_tasks(quick=MEASURED, full=MEASURED)
    seeds = context.choose_seeds(quick=(SEARCH_SEED,), full=(SEARCH_SEED,))
    if any(context.scale_of(task).hold_out is None for task in tasks):
        raise ExperimentOptionsError(
            f"{context.name}: give --hold-out SHARE, as the rows that choose an epoch can't judge it"
        )
    settings = {task: context.setting(task) for task in tasks}
    tests = {task: context.test(task) for task in tasks}
    variants = variants_of(context)
    found: dict[str, dict[str, list[Learned]]] = {variant.name: {} for variant in variants}
    before = found[BASELINE.name]
    for index, task in enumerate(tasks):
        left = tasks[index:]
        running = [one for one in variants[1:] if can_win(gains(found[one.name], before), left)]
        for variant in (BASELINE, *running) if running else ():
            ready, test = settings[task], tests[task]
            found[variant.name][task] = [_learned(context, ready, variant, seed, test) for seed in seeds]
    rows = [beside(variant, found[variant.name], before) for variant in variants]
    return Report(
        title="Better masks",
        tables=[_scores(rows), _costs(rows)],
        values={row.variant.name: _record(row, found[row.variant.name]) for row in rows},
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[
            verdict(rows[1:], len(tasks)),
            "Measured on the set's own dev; a share of train chose the epoch. Gain: mean over the tasks that "
            "were measured of the metric less the baseline's, in points.",
            f"A variant wins that is better on at least {ENOUGH} tasks, and whose share of the baseline's "
            "errors removed, a mean over tasks, is no smaller than the share of bytes that it adds. "
            '"-": not learned, as it could no longer win.',
            "All that learns has the learning rate of scores; no variant's rate was searched.",
        ],
    )


def variants_of(context: Context) -> tuple[Variant, ...]:
    """Return the variants, the baseline first."""
    return (BASELINE, *OTHERS, PAPER, replace(FINETUNED, change=partial(_finetuned_base, context)))


def gains(
    own: Mapping[str, Sequence[Learned]], baseline: Mapping[str, Sequence[Learned]]
) -> dict[str, float]:
    """Return by task what a variant gains on the baseline, in points, a mean over seeds."""
    return {task: _values(runs).mean - _values(baseline[task]).mean for task, runs in own.items()}


def can_win(gained: Mapping[str, float], left: Sequence[str]) -> bool:
    """Tell whether a variant may still be better on enough tasks; on all of them, where those are fewer.

    Args:
        gained: Its gains on the tasks so far.
        left: The tasks that are left.
    """
    return _won(gained) + len(left) >= min(ENOUGH, len(gained) + len(left))


def beside(
    variant: Variant, own: Mapping[str, Sequence[Learned]], baseline: Mapping[str, Sequence[Learned]]
) -> Row:
    """Compare what a variant learned with what the baseline did.

    Args:
        variant: The variant.
        own: By task its masks, one a seed; at least one task.
        baseline: Those of the baseline, of the same tasks and seeds, and maybe of others.
    """
    gained, scores = gains(own, baseline), {task: _values(runs) for task, runs in own.items()}
    nbytes, plain = (fmean(side[task][0].nbytes for task in own) for side in (own, baseline))
    return Row(
        variant=variant,
        scores=scores,
        gain=fmean(gained.values()),
        won=_won(gained),
        nbytes=round(nbytes),
        added=nbytes / plain - 1,
        removed=fmean(_removed(gain, 100 - _values(baseline[task]).mean) for task, gain in gained.items()),
    )


def _removed(gain: float, errors: float) -> float:
    """Return the share of errors that a gain removes; none where there are none."""
    return gain / errors if errors else 0.0


def verdict(rows: Sequence[Row], tasks: int) -> str:
    """Say which variants win, best first, or that none does, or that too few tasks were asked for to tell.

    Args:
        rows: The variants; at least one.
        tasks: Number of tasks that were asked for.
    """
    best = max(rows, key=lambda row: (row.won, row.gain))
    if tasks < ENOUGH:
        return f"No verdict: a variant must win {ENOUGH} tasks, and there are {tasks}. Best is {_told(best)}."
    winners = sorted((row for row in rows if row.wins), key=lambda row: -row.gain)
    if winners:
        return f"Verdict: {'; '.join(map(_told, winners))}: better, and worth the bytes."
    return f"Verdict: none wins. Best is {_told(best)}."


def _told(row: Row) -> str:
    return (
        f"{row.variant.name} ({row.won} of {len(row.scores)} tasks, {row.gain:+.2f} points, "
        f"{row.removed:+.1%} of errors removed for {row.added:+.1%} bytes)"
    )


def _won(gained: Mapping[str, float]) -> int:
    return sum(gain > 0 for gain in gained.values())


def _values(runs: Sequence[Learned]) -> Scores:
    return Scores(tuple(run.value for run in runs))


def _learned(
    context: Context, setting: Preparation, variant: Variant, seed: int, test: HeldOutRows | None
) -> Learned:
    """Learn and measure a mask, unless it was before; a killed run is resumed."""
    task = setting.options.task
    assert test is not None, f"{task} has no test rows"
    ready = setting.varied(lr=context.rate(task, "masking"), seed=seed, **variant.settings)
    ready = replace(ready, base=variant.change(ready.base))
    identity = {**ready.identity_for("mask"), "variant": variant.name}

    def start() -> ExtendedModel:
        logger.info(f"{task}, seed {seed}: {variant.name}")
        return ExtendedModel(ready.base, ready.spec, ready.options, seed, variant.extend)

    folder = _folder(context, setting.base)
    results = Results(folder / RESULTS, held_out=test.digest)
    runner = Runner(results, folder / "unfinished", [ProgressBar()], held_out=test)
    result = runner.run_model(
        ready, identity, start, lambda model: model.mask_bytes + head_bytes(ready) + model.extra_bytes
    )
    return Learned.of(result, test)


def _finetuned_base(context: Context, base: Base) -> Base:
    """Return the base finetuned on other tasks than those measured, made once."""
    ready = {
        task: context.setting(task).varied(lr=context.rate(task, "finetuning"), seed=SEARCH_SEED)
        for task in SHARED
    }
    identity = [setting.identity_for("finetune") for setting in ready.values()]
    digest = short_hash({"tasks": identity, "epochs": SHARED_EPOCHS})
    return finetune_together(ready, SHARED_EPOCHS, _folder(context, base) / f"{base.info.name}-{digest}")


def _folder(context: Context, base: Base) -> Path:
    folder = context.runs_dir / base.info.name / context.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _scores(rows: Sequence[Row]) -> Table:
    tasks = rows[0].scores
    head = ["what differs", *(f"{TASKS[task].title}, {TASKS[task].metric}" for task in tasks), "gain", "won"]
    cells = [
        [
            row.variant.name,
            *(str(row.scores.get(task, "-")) for task in tasks),
            f"{row.gain:+.2f}",
            f"{row.won} of {len(row.scores)}",
        ]
        for row in rows
    ]
    return Table(head, cells, "Metric on held-out rows, in percent")


def _costs(rows: Sequence[Row]) -> Table:
    cells = [
        [
            row.variant.name,
            f"{row.nbytes:,}",
            f"{row.added:+.1%}",
            f"{row.removed:+.1%}",
            "yes" if row.wins else "no",
            row.variant.kernel,
        ]
        for row in rows
    ]
    head = ["what differs", "bytes a task", "bytes added", "errors removed", "wins", "a kernel would pay"]
    return Table(head, cells, "Bytes of masks, head and what else is learned, a mean over the same tasks")


def _record(row: Row, own: Mapping[str, Sequence[Learned]]) -> dict[str, Any]:
    return {
        "gain": row.gain,
        "won": row.won,
        "bytes": row.nbytes,
        "bytes_added": row.added,
        "errors_removed": row.removed,
        "wins": row.wins,
        "tasks": {
            task: {**scores.record(), "runs": [asdict(run) for run in own[task]]}
            for task, scores in row.scores.items()
        },
    }
