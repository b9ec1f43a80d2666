"""Figure 4: are the classes of a task apart in the topmost block's state at [CLS]? (paper, section 6.1).

Pretrained, finetuned and masked encoders are looked at on the dev set, as maps by t-SNE. The paper measures
nothing; here the neighbours of each point in the map are asked for their label. As a map can show clusters
that are none, the silhouette of the classes in the full space stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import SERIES, title_of
from experiments.common.report import Result, Table, short_name
from experiments.common.representation import (
    MIN_INPUTS,
    Array,
    agreement,
    cls_states,
    flatten,
    separation,
)
from experiments.common.runs import METHODS
from experiments.common.scores import listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.published.analysis import F4, Encoder
from experiments.published.facts import FACTS
from experiments.published.rules import Verdict
from masking.tasks import MODEL_KINDS
from training.runs.preparation import Preparation

ENCODERS: tuple[Encoder, ...] = ("pretrained", "finetuning", "masking")
TITLES = {"pretrained": "pretrained", "finetuning": "finetuned", "masking": "masked"}


@dataclass(frozen=True)
class View:
    """A task's dev examples as the encoders of one base see them.

    Attributes:
        base: Name of the base.
        task: Name of the task.
        labels: Class of each example.
        maps: By encoder, float32 [examples, 2]; one a seed (the pretrained encoder has one).
        silhouettes: By encoder, of the full space, one a seed.
    """

    base: str
    task: str
    labels: Sequence[str]
    maps: Mapping[Encoder, Sequence[Array]]
    silhouettes: Mapping[Encoder, Sequence[float]]

    @property
    def title(self) -> str:
        """Base and task."""
        return f"{self.base}, {TASKS[self.task].title}"

    def agreements(self) -> dict[Encoder, list[float]]:
        """Return the share of points whose neighbours have their label, by encoder, one a seed."""
        return {name: [agreement(one, self.labels) for one in maps] for name, maps in self.maps.items()}


def figure4(context: Context) -> Result:
    """Map the [CLS] states of dev examples and measure how far the classes are apart.

    Raises:
        ExperimentOptionsError: A task is not a sequence classification.
    """
    tasks = context.choose_tasks(quick=("sst2",), full=("sst2",))
    seeds = context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds[:1])
    views = [look(context, task, seeds, base=base) for base in context.bases for task in tasks]
    return Result(
        title="Figure 4: dev examples in the topmost block's state at [CLS]",
        tables=[_table(views)],
        values={"views": [_record(view) for view in views]},
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        verdicts=[judge(view) for view in views],
        draw=lambda figure: _draw(figure, views, context),
    )


def look(context: Context, task: str, seeds: Sequence[int], *, base: str) -> View:
    """Look at a task's dev examples through all encoders.

    Args:
        context: The command.
        task: A task of sequence classification.
        seeds: Seeds of the runs, at least one; the first is drawn.
        base: Hub id or folder.

    Raises:
        ExperimentOptionsError: The task is of another kind, or has too few dev rows.
    """
    setting = context.setting(task, base=base)
    labels = _labels(setting)
    features = [item.features for item in setting.encoded.dev]
    states = {"pretrained": [cls_states(setting.base.encoder, setting.base, features)]}
    for method in METHODS:
        runs = (context.run(task, method, seed=seed, base=base) for seed in seeds)
        states[method] = [cls_states(run.model().encoder, setting.base, features) for run in runs]
    return View(
        short_name(base),
        task,
        labels,
        {name: [flatten(one) for one in states[name]] for name in ENCODERS},
        {name: [separation(one, labels) for one in states[name]] for name in ENCODERS},
    )


def judge(view: View) -> Verdict:
    """Set the paper's claim against the maps of a task."""
    return F4.verdict(view.title, {name: fmean(values) for name, values in view.agreements().items()})


def _labels(setting: Preparation) -> list[str]:
    task, kind = setting.options.task, MODEL_KINDS[setting.spec.kind]
    if not (kind.pooled and kind.labelled):
        raise ExperimentOptionsError(f"figure4 colors inputs by their class, which {task} does not have")
    labels = [str(item.example.target) for item in setting.encoded.dev]
    if not 1 < len(set(labels)) < len(labels) or len(labels) < MIN_INPUTS:
        raise ExperimentOptionsError(
            f"figure4 needs {MIN_INPUTS} dev rows or more, of two labels or more and more rows than labels; "
            f"{task} has {len(labels)} rows of {len(set(labels))} labels"
        )
    return labels


def _table(views: Sequence[View]) -> Table:
    head = ["models", "examples", "measured", *(TITLES[name] for name in ENCODERS)]
    rows = []
    for view in views:
        for what, values in (
            ("neighbours of the same class", view.agreements()),
            ("silhouette", view.silhouettes),
        ):
            cells = [f"{fmean(values[name]):.3f}" for name in ENCODERS]
            rows.append([view.title, str(len(view.labels)), what, *cells])
    caption = (
        "Share of points of the map most of whose 10 nearest neighbours are of their class; silhouette of "
        "the classes in the full space (-1 to 1, 1 is apart); mean over seeds"
    )
    return Table(head, rows, caption)


def _record(view: View) -> dict[str, Any]:
    return {
        "base": view.base,
        "task": view.task,
        "agreements": view.agreements(),
        "silhouettes": {name: list(values) for name, values in view.silhouettes.items()},
        "labels": list(view.labels),
        "maps": {name: view.maps[name][0].round(2).tolist() for name in ENCODERS},
    }


def _draw(figure: Any, views: Sequence[View], context: Context) -> None:
    figure.set_size_inches(figure.get_size_inches()[0], 1.2 + 2.2 * len(views))
    rows = figure.subplots(len(views), len(ENCODERS), squeeze=False)
    for view, row in zip(views, rows, strict=True):
        shares = view.agreements()
        for name, axes in zip(ENCODERS, row, strict=True):
            _draw_map(axes, view, name)
            axes.set_title(f"{TITLES[name]} ({shares[name][0]:.0%} agree)")
        row[0].set_ylabel(f"{view.title}\nt-SNE 2")
    for axes in rows[-1]:
        axes.set_xlabel("t-SNE 1")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=6, markerscale=2, loc="outside lower center")
    figure.suptitle(title_of("State of the topmost block at [CLS], dev examples by class", context))


def _draw_map(axes: Any, view: View, name: Encoder) -> None:
    for place, label in enumerate(sorted(set(view.labels))):
        points = view.maps[name][0][[own == label for own in view.labels]]
        color = SERIES[place % len(SERIES)]
        axes.scatter(points[:, 0], points[:, 1], s=6, alpha=0.7, color=color, linewidths=0, label=label)
    axes.set_xticks([])
    axes.set_yticks([])
