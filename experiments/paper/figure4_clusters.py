"""Figure 4: are the classes of a task apart in the encoder's last state at [CLS]?

Pretrained, finetuned and masked encoders are looked at on the dev set. A map by t-SNE can show clusters that
are none, so the silhouette of the classes in the full space is measured as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import SERIES, where
from experiments.common.report import Claim, Result, Table
from experiments.common.representation import MIN_INPUTS, Array, cls_states, flatten, separation
from experiments.common.runs import METHODS
from experiments.common.scores import listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from masking.tasks import MODEL_KINDS

ENCODERS = ("pretrained", "finetuning", "masking")
TITLES = {"pretrained": "pretrained", "finetuning": "finetuned", "masking": "masked"}
_GAIN = 0.1


@dataclass(frozen=True)
class View:
    """A task's dev examples as the encoders see them.

    Attributes:
        task: Name of the task.
        labels: Class of each example.
        maps: By encoder, float32 [examples, 2]; of the first seed.
        silhouettes: By encoder, one a seed (the pretrained encoder has one).
    """

    task: str
    labels: Sequence[str]
    maps: Mapping[str, Array]
    silhouettes: Mapping[str, Sequence[float]]


def figure4(context: Context) -> Result:
    """Map the [CLS] states of dev examples and measure how far the classes are apart.

    Raises:
        ExperimentOptionsError: A task is not a sequence classification.
    """
    tasks = context.choose_tasks(quick=("sst2",), full=("sst2",))
    seeds = context.choose_seeds(quick=(0,), full=(0, 1, 2, 3))
    views = [look(context, task, seeds) for task in tasks]
    claims = {view.task: judge(view) for view in views}
    return Result(
        title="Figure 4: dev examples in the last hidden state at [CLS]",
        tables=[_table(views)],
        values={
            view.task: {
                "silhouettes": {name: list(values) for name, values in view.silhouettes.items()},
                "labels": list(view.labels),
                "maps": {name: view.maps[name].round(2).tolist() for name in ENCODERS},
                "claim": claims[view.task].values(),
            }
            for view in views
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(seeds)},
        notes=[claim.note(task) for task, claim in claims.items()],
        draw=lambda figure: _draw(figure, views, where(context)),
    )


def look(context: Context, task: str, seeds: Sequence[int]) -> View:
    """Look at a task's dev examples through all encoders.

    Args:
        context: The command.
        task: A task of sequence classification.
        seeds: Seeds of the runs, at least one; the first is mapped.

    Raises:
        ExperimentOptionsError: The task is of another kind, or has too few dev rows.
    """
    setting = context.setting(task)
    kind = MODEL_KINDS[setting.spec.kind]
    if not (kind.pooled and kind.labelled):
        raise ExperimentOptionsError(f"figure4 colors inputs by their class, which {task} does not have")
    features = [item.features for item in setting.encoded.dev]
    labels = [str(item.example.target) for item in setting.encoded.dev]
    if not 1 < len(set(labels)) < len(labels) or len(labels) < MIN_INPUTS:
        raise ExperimentOptionsError(
            f"figure4 needs {MIN_INPUTS} dev rows or more, of two labels or more and more rows than labels; "
            f"{task} has {len(labels)} rows of {len(set(labels))} labels"
        )
    states = {"pretrained": [cls_states(setting.base.encoder, setting.base, features)]}
    for method in METHODS:
        encoders = (context.run(task, method, seed=seed).model().encoder for seed in seeds)
        states[method] = [cls_states(encoder, setting.base, features) for encoder in encoders]
    return View(
        task,
        labels,
        {name: flatten(states[name][0]) for name in ENCODERS},
        {name: [separation(one, labels) for one in states[name]] for name in ENCODERS},
    )


def judge(view: View) -> Claim:
    """Set the paper's claim against the silhouettes of a task."""
    means = {name: fmean(values) for name, values in view.silhouettes.items()}
    return Claim(
        "in the states of the pretrained encoder the classes are mixed; in those of the finetuned and of the "
        "masked one they are apart.",
        f"the silhouettes of both learned encoders exceed that of the pretrained one by at least {_GAIN}",
        all(means[method] >= means["pretrained"] + _GAIN for method in METHODS),
    )


def _table(views: Sequence[View]) -> Table:
    head = ["task", "examples", *(TITLES[name] for name in ENCODERS)]
    rows = [
        [view.task, str(len(view.labels)), *(f"{fmean(view.silhouettes[name]):.3f}" for name in ENCODERS)]
        for view in views
    ]
    return Table(
        head, rows, "Silhouette of the classes in the full space, mean over seeds (-1 to 1, 1 is apart)"
    )


def _draw(figure: Any, views: Sequence[View], origin: str) -> None:
    figure.set_size_inches(9.6, 0.9 + 3.2 * len(views))
    rows = figure.subplots(len(views), len(ENCODERS), squeeze=False)
    for view, row in zip(views, rows, strict=True):
        for name, axes in zip(ENCODERS, row, strict=True):
            _draw_map(axes, view, name)
        row[0].set_ylabel(f"{TASKS[view.task].title}\nt-SNE 2", fontsize=9)
        row[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(f"[CLS], last hidden state, dev examples by class ({origin})", fontsize=10)


def _draw_map(axes: Any, view: View, name: str) -> None:
    for place, label in enumerate(sorted(set(view.labels))):
        points = view.maps[name][[own == label for own in view.labels]]
        color = SERIES[place % len(SERIES)]
        axes.scatter(points[:, 0], points[:, 1], s=8, alpha=0.7, color=color, linewidths=0, label=label)
    axes.set_title(f"{TITLES[name]}: silhouette {view.silhouettes[name][0]:.2f}", fontsize=9)
    axes.set_xlabel("t-SNE 1", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
