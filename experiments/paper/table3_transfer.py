"""Table 3: does what was learned on one sentiment task hold on another (paper, section 6.2)?

SST-2 (sentences of film reviews) and SEM (tweets) have the same two labels. A model learned on either is
measured, unchanged, on the dev sets of both, as points above the majority vote there. Models of SST-2 are
measured on IMDB too (film reviews again, cut to the longest input), where the data have it: a folder ``imdb``
with a ``dev`` or ``test`` file, which is never learned from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import DARK, METHOD_COLORS, clear, where
from experiments.common.held_out import read_held_out
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import METHODS, Run
from experiments.common.scores import Scores, listed, majority_value
from experiments.common.tasks import TASKS, find
from experiments.errors import ExperimentError, ExperimentOptionsError
from experiments.published.beside import Beside
from experiments.published.facts import FACTS, NOT_PRINTED, Gains, Method
from experiments.published.rules import Verdict
from experiments.published.tables import SENTIMENT, T3A, T3B, T3C, T3D, T3E
from training.data.features import EncodedExample, encode_examples
from training.loop.evaluation import evaluate
from training.runs.preparation import Preparation

IMDB, IMDB_SOURCE = "imdb", "sst2"
_MAX_ROWS = 64
_RULES = (T3A, T3B, T3C, T3D)

Accuracies = Mapping[tuple[Method, str, str], Scores]
"""Accuracy by method, task learned from and set measured on."""


def table3(context: Context) -> Result:
    """Learn each of two tasks by both methods and measure all on the dev sets of both tasks.

    Raises:
        ExperimentOptionsError: Other than two tasks were asked for.
        ExperimentError: The tasks have different labels.
    """
    tasks = context.choose_tasks(quick=SENTIMENT, full=SENTIMENT)
    if len(tasks) != 2:  # noqa: PLR2004
        raise ExperimentOptionsError("table3 sets two tasks against each other: give --tasks two names")
    seeds = context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds)
    settings = {task: context.setting(task) for task in tasks}
    reviews = _imdb(context, settings.get(IMDB_SOURCE))
    values: dict[tuple[Method, str, str], list[float]] = {}
    for method in METHODS:
        for source in tasks:
            for seed in seeds:
                run = context.run(source, method, seed=seed)
                for target in tasks:
                    values.setdefault((method, source, target), []).append(transfer(run, settings[target]))
                if reviews is not None and source == IMDB_SOURCE:
                    values.setdefault((method, source, IMDB), []).append(_accuracy(run, reviews))
    majority = {task: 100 * majority_value(ready.encoded.dev, "accuracy") for task, ready in settings.items()}
    if reviews is not None:
        majority[IMDB] = 100 * majority_value(reviews, "accuracy")
    accuracies = {place: Scores(tuple(by_seed)) for place, by_seed in values.items()}
    return _result(context, tasks, accuracies, majority, {"Tasks": listed(tasks), "Seeds": listed(seeds)})


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
    return _accuracy(run, encode_examples(target.data.dev, source.codec))


def gains_of(accuracies: Accuracies, majority: Mapping[str, float], tasks: Sequence[str]) -> Gains:
    """Return points above the majority vote of the set measured on, by method, source and target."""
    return {
        method: {
            source: {target: accuracies[method, source, target].mean - majority[target] for target in tasks}
            for source in tasks
        }
        for method in METHODS
    }


def _accuracy(run: Run, examples: Sequence[EncodedExample]) -> float:
    return evaluate(run.model(), run.setting.codec, examples, max_rows=_MAX_ROWS)["accuracy"]


def _imdb(context: Context, setting: Preparation | None) -> Sequence[EncodedExample] | None:
    """Return film reviews, encoded for the models of SST-2; None where there are none."""
    if setting is None:
        return None
    path = find(context.data, IMDB, "test") or find(context.data, IMDB, "dev")
    most = context.scale_of(IMDB_SOURCE).dev_rows
    return None if path is None else read_held_out(path, setting, most=most)


def _result(
    context: Context,
    tasks: Sequence[str],
    accuracies: Accuracies,
    majority: Mapping[str, float],
    settings: Mapping[str, str],
) -> Result:
    gains, beside = (
        gains_of(accuracies, majority, tasks),
        Beside.of(context.base, full=context.scale == "full"),
    )
    reviews = {method: accuracies[method, IMDB_SOURCE, IMDB].mean for method in METHODS if IMDB in majority}
    return Result(
        title="Table 3: generalisation between sentiment tasks",
        tables=[_table(tasks, accuracies, majority, beside), *_reviews_table(accuracies, majority)],
        values={
            "accuracy": [
                {"method": method, "learned_from": source, "measured_on": target, **scores.record()}
                for (method, source, target), scores in accuracies.items()
            ],
            "majority": dict(majority),
            "gains": gains,
        },
        settings=settings,
        notes=[beside.note],
        verdicts=_verdicts(short_name(context.base), tasks, gains, reviews),
        draw=lambda figure: _draw(figure, tasks, accuracies, majority, where(context)),
    )


def _verdicts(
    subject: str, tasks: Sequence[str], gains: Gains, reviews: Mapping[Method, float]
) -> list[Verdict]:
    """Judge the paper's claims, which are about these two tasks and IMDB."""
    found = [rule.verdict(subject, gains) for rule in _RULES] if set(tasks) == set(SENTIMENT) else []
    return [*found, *([T3E.verdict(subject, reviews)] if reviews else [])]


def _table(
    tasks: Sequence[str], accuracies: Accuracies, majority: Mapping[str, float], beside: Beside
) -> Table:
    rows = []
    for method in METHODS:
        for source in tasks:
            for target in tasks:
                scores = accuracies[method, source, target]
                gain = scores.mean - majority[target]
                printed = FACTS.table3.gains[method].get(source, {}).get(target)
                rows.append(
                    [
                        method,
                        TASKS[source].title,
                        TASKS[target].title,
                        str(scores),
                        f"{majority[target]:.2f}",
                        f"{gain:+.1f}",
                        NOT_PRINTED if printed is None else f"{printed:+.1f}",
                        f"{gain - printed:+.1f}" if printed is not None and beside.compared else NOT_PRINTED,
                    ]
                )
    head = ["method", "learned from", "measured on", "accuracy, %", "majority vote, %", "gain, points"]
    return Table(
        [*head, "paper: gain", "ours - paper"], rows, "Dev accuracy, and points above the majority vote"
    )


def _reviews_table(accuracies: Accuracies, majority: Mapping[str, float]) -> list[Table]:
    if IMDB not in majority:
        return []
    rows = [
        [
            method,
            str(accuracies[method, IMDB_SOURCE, IMDB]),
            f"{majority[IMDB]:.2f}",
            f"{FACTS.table3.imdb[method]:.2f}",
            f"{FACTS.table3.majority[IMDB]:.0f}",
        ]
        for method in METHODS
    ]
    head = ["method", "accuracy, %", "majority vote, %", "paper: accuracy", "paper: majority vote"]
    return [
        Table(head, rows, "Learned from SST2, measured on IMDB; the paper names neither split nor average")
    ]


def _draw(
    figure: Any,
    tasks: Sequence[str],
    accuracies: Accuracies,
    majority: Mapping[str, float],
    origin: str,
) -> None:
    axes = figure.subplots()
    pairs = [(source, target) for source in tasks for target in tasks]
    pairs += [(IMDB_SOURCE, IMDB)] if IMDB in majority else []
    for place, method in enumerate(METHODS):
        lefts = [index + 0.36 * (place - 0.5) for index in range(len(pairs))]
        heights = [accuracies[method, *pair].mean for pair in pairs]
        bars = axes.bar(lefts, heights, 0.34, color=METHOD_COLORS[method], label=method)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    for index, (_, target) in enumerate(pairs):
        label = "majority vote" if index == 0 else None
        axes.hlines(
            majority[target], index - 0.4, index + 0.4, color=DARK, linestyle="--", linewidth=1, label=label
        )
    axes.set_xticks(range(len(pairs)), [f"{source} → {target}" for source, target in pairs], fontsize=8)
    axes.set_xlabel("learned from → measured on (dev)")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 112)
    axes.legend(frameon=False, ncols=3, loc="upper center", fontsize=8)
    axes.set_title(f"Learned on one sentiment task, measured on others ({origin})", fontsize=10)
    clear(axes)
