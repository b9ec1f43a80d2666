"""Table 3: does what was learned on one sentiment task hold on another?

SST-2 (sentences of film reviews) and SEM (tweets) have the same two labels. A model learned on either is
measured on the dev sets of both, with nothing learned in between.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import DARK, METHOD_COLORS, clear, where
from experiments.common.report import Claim, Result, Table
from experiments.common.runs import METHODS, Run
from experiments.common.scores import Scores, listed, majority_value
from experiments.errors import ExperimentError, ExperimentOptionsError
from training.data.features import encode_examples
from training.loop.evaluation import evaluate
from training.runs.preparation import Preparation

_MAX_ROWS = 64
_TOLERANCE = 0.02

Accuracies = Mapping[tuple[str, str, str], Sequence[float]]
"""Accuracy by method, task learned from and task measured on: one a seed."""


def table3(context: Context) -> Result:
    """Learn each of two tasks by both methods and measure all on the dev sets of both tasks.

    Raises:
        ExperimentOptionsError: Other than two tasks were asked for.
        ExperimentError: The tasks have different labels.
    """
    tasks = context.choose_tasks(quick=("sst2", "sem"), full=("sst2", "sem"))
    if len(tasks) != 2:  # noqa: PLR2004
        raise ExperimentOptionsError("table3 sets two tasks against each other: give --tasks two names")
    seeds = context.choose_seeds(quick=(0,), full=(0, 1, 2, 3))
    settings = {task: context.setting(task) for task in tasks}
    accuracies: dict[tuple[str, str, str], list[float]] = {}
    for method in METHODS:
        for source in tasks:
            for seed in seeds:
                run = context.run(source, method, seed=seed)
                for target in tasks:
                    value = transfer(run, settings[target])
                    accuracies.setdefault((method, source, target), []).append(value)
    majority = {task: majority_value(ready.encoded.dev, "accuracy") for task, ready in settings.items()}
    return _result(accuracies, majority, seeds, where(context))


def transfer(run: Run, target: Preparation) -> float:
    """Return the accuracy of a run's model on the dev set of a task.

    Args:
        run: What was learned.
        target: The task to measure it on; labels of the same names are the same.

    Raises:
        ExperimentError: The task has other labels or another kind of input than the run's own.
    """
    source = run.setting
    one, other = ((spec.kind, spec.pair, set(spec.labels)) for spec in (source.spec, target.spec))
    if one != other:
        labels = [", ".join(ready.spec.labels) for ready in (source, target)]
        raise ExperimentError(
            f"{run.task} ({labels[0]}) can't be measured on {target.options.task} ({labels[1]}): "
            "both must have the same labels and the same inputs"
        )
    items = encode_examples(target.data.dev, source.codec)
    return evaluate(run.model(), source.codec, items, max_rows=_MAX_ROWS)["accuracy"]


def judge(accuracies: Accuracies, majority: Mapping[str, float]) -> Claim:
    """Set the paper's claim against accuracies on tasks that were not learned from."""
    foreign = [(source, target) for _, source, target in accuracies if source != target]
    gains = {
        (method, target): fmean(accuracies[method, source, target]) - majority[target]
        for method in METHODS
        for source, target in foreign
    }
    holds = all(
        gains["masking", target] > 0 and gains["masking", target] >= gains["finetuning", target] - _TOLERANCE
        for _, target in foreign
    )
    return Claim(
        "masked models generalise to the other task's dev set as finetuned ones do, above the majority vote.",
        "on a task that was not learned from, masking is above the majority vote and at most "
        f"{100 * _TOLERANCE:.0f} points below finetuning",
        holds,
    )


def _result(
    accuracies: Accuracies, majority: Mapping[str, float], seeds: Sequence[int], origin: str
) -> Result:
    tasks = list(majority)
    claim = judge(accuracies, majority)
    head = ["method", "learned from", *(f"on {task}" for task in tasks), *(f"{task}: gain" for task in tasks)]
    rows = [
        [
            method,
            source,
            *(str(Scores(tuple(accuracies[method, source, target]))) for target in tasks),
            *(f"{100 * (fmean(accuracies[method, source, t]) - majority[t]):+.2f}" for t in tasks),
        ]
        for method in METHODS
        for source in tasks
    ]
    rows.append(
        ["majority vote", "-", *(f"{100 * majority[task]:.2f}" for task in tasks), *("0.00" for _ in tasks)]
    )
    return Result(
        title="Table 3: generalisation between two sentiment tasks",
        tables=[Table(head, rows, "Dev accuracy in % (gain: points above the majority vote)")],
        values={
            "accuracy": [
                {"method": method, "learned_from": source, "measured_on": target, "by_seed": list(values)}
                for (method, source, target), values in accuracies.items()
            ],
            "majority": dict(majority),
            "claim": claim.values(),
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[claim.note("Here")],
        draw=lambda figure: _draw(figure, accuracies, majority, origin),
    )


def _draw(figure: Any, accuracies: Accuracies, majority: Mapping[str, float], origin: str) -> None:
    axes = figure.subplots()
    pairs = [(source, target) for source in majority for target in majority]
    for place, method in enumerate(METHODS):
        lefts = [index + 0.36 * (place - 0.5) for index in range(len(pairs))]
        heights = [100 * fmean(accuracies[method, *pair]) for pair in pairs]
        bars = axes.bar(lefts, heights, 0.34, color=METHOD_COLORS[method], label=method)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    for index, (_, target) in enumerate(pairs):
        line = 100 * majority[target]
        label = "majority vote" if index == 0 else None
        axes.hlines(line, index - 0.4, index + 0.4, color=DARK, linestyle="--", linewidth=1, label=label)
    axes.set_xticks(range(len(pairs)), [f"{source} → {target}" for source, target in pairs])
    axes.set_xlabel("learned from → measured on (dev)")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 112)
    axes.legend(frameon=False, ncols=3, loc="upper center", fontsize=8)
    axes.set_title(f"Learned on one sentiment task, measured on both ({origin})", fontsize=10)
    clear(axes)
