"""Figures 6 and 7: are the models that masking and finetuning find connected by a path of good models?

The ends are dense models of one task and seed: pretrained (with the random head that both methods start
from), finetuned, and masked (W * M written out). Everything lies on the path, the head too. Figure 6 looks at
straight lines, figure 7 at a learned curve between finetuned and masked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.common.context import Context
from experiments.common.curve import CurveSettings, learn_curve
from experiments.common.drawing import FINETUNING, MASKING, SERIES, clear, where
from experiments.common.paths import Examples, PathPoint, Weights, barrier, drop, fall, walk
from experiments.common.report import Claim, Result, Table
from experiments.common.runs import dense_model
from experiments.common.scores import majority_value
from experiments.common.tasks import TASKS
from masking import TaskModel
from training.runs.preparation import Preparation

BETWEEN = "finetuned to masked"
FROM_PRETRAINED = {"pretrained to finetuned": FINETUNING, "pretrained to masked": MASKING}
LINE, CURVE = "straight line", "learned curve"
_COLORS = {BETWEEN: SERIES[2], **FROM_PRETRAINED, LINE: SERIES[6], CURVE: SERIES[2]}
_TOLERANCE, _LEARNED = 0.02, 0.05
_NEARLY_CONSTANT = (
    f"both ends are at least {100 * _LEARNED:.0f} points above the majority vote, and the metric falls "
    f"nowhere between them more than {100 * _TOLERANCE:.0f} points below the lower one"
)


@dataclass(frozen=True)
class Paths:
    """Paths between the models of one task and seed.

    Attributes:
        task: Name of the task.
        seed: Seed of the runs.
        metric: Name of the metric.
        majority: The metric of the majority vote.
        paths: Points by the name of the path.
    """

    task: str
    seed: int
    metric: str
    majority: float
    paths: Mapping[str, Sequence[PathPoint]]

    @property
    def title(self) -> str:
        """Task and seed."""
        return f"{TASKS[self.task].title}, seed {self.seed}"

    def nearly_constant(self, name: str) -> bool:
        """Tell whether a path joins two models that learned something, and no model on it is much worse."""
        path = self.paths[name]
        learned = min(path[0].value, path[-1].value) >= self.majority + _LEARNED
        return learned and drop(path) <= _TOLERANCE


@dataclass(frozen=True)
class Ends:
    """The models of one task and seed.

    Attributes:
        setting: The task.
        model: A dense model to measure with, whose weights may be overwritten.
        pretrained: Weights before learning, with the random head.
        finetuned: Weights after finetuning.
        masked: Weights times masks after masking.
    """

    setting: Preparation
    model: TaskModel
    pretrained: Weights
    finetuned: Weights
    masked: Weights

    @classmethod
    def of(cls, context: Context, task: str, seed: int) -> "Ends":
        """Take the ends from trained runs."""
        finetuned = context.run(task, "finetuning", seed=seed)
        masked = context.run(task, "masking", seed=seed)
        model = dense_model(masked.setting)
        return cls(masked.setting, model, model.learned_state(), finetuned.weights(), masked.weights())

    @property
    def dev(self) -> Examples:
        """What to measure by."""
        return Examples(self.setting.codec, self.setting.encoded.dev, self.setting.metric)


def figure6(context: Context) -> Result:
    """Measure models on straight lines between pretrained, finetuned and masked."""
    count = 11 if context.quick else 21
    found = _each(context, lambda ends: walk_lines(ends, count))
    judges = [judge_line, judge_pretrained]
    return _result(
        "Figure 6: straight lines between pretrained, finetuned and masked",
        context,
        found,
        judges,
        {"Points": count},
    )


def figure7(context: Context) -> Result:
    """Learn a curve between finetuned and masked, and measure models on it and on the straight line."""
    count = 11 if context.quick else 21
    epochs = 2 if context.quick else 5
    found = _each(context, lambda ends: walk_curve(ends, epochs, count))
    learned = f"{CurveSettings.bends} bends, ends included; {epochs} epochs of Adam at {CurveSettings.lr}"
    shown = {"Points": count, "Curve": learned}
    return _result(
        "Figure 7: a learned Bezier curve from finetuned to masked", context, found, [judge_curve], shown
    )


def walk_lines(ends: Ends, count: int) -> dict[str, tuple[PathPoint, ...]]:
    """Measure models on the three straight lines between the ends.

    Args:
        ends: The models.
        count: Models to measure on each line.
    """
    lines = {
        BETWEEN: (ends.finetuned, ends.masked),
        "pretrained to finetuned": (ends.pretrained, ends.finetuned),
        "pretrained to masked": (ends.pretrained, ends.masked),
    }
    return {name: walk(line, ends.model, ends.dev, count, label=name) for name, line in lines.items()}


def walk_curve(ends: Ends, epochs: int, count: int) -> dict[str, tuple[PathPoint, ...]]:
    """Learn a curve between finetuned and masked, and measure models on it and on the straight line.

    Args:
        ends: The models.
        epochs: Passes over the training examples to learn the curve in.
        count: Models to measure on each path.
    """
    line, options = (ends.finetuned, ends.masked), ends.setting.options
    settings = CurveSettings(
        epochs=epochs, batch_size=options.batch_size, seed=options.seed, precision=options.precision
    )
    straight = walk(line, ends.model, ends.dev, count, label=LINE)
    curve = learn_curve(line, ends.model, ends.setting.encoded.train, settings)
    return {LINE: straight, CURVE: walk(curve, ends.model, ends.dev, count, label=CURVE)}


def judge_line(found: Sequence[Paths]) -> Claim:
    """Set the paper's claim on the line between the two minima against what was found."""
    return Claim(
        "the straight line between the finetuned and the masked model is a path of nearly constant accuracy.",
        _NEARLY_CONSTANT,
        all(one.nearly_constant(BETWEEN) for one in found),
    )


def judge_pretrained(found: Sequence[Paths]) -> Claim:
    """Set the paper's claim on the lines from the pretrained model against what was found."""
    return Claim(
        "the lines from the pretrained model to either are not such paths, so connection is not automatic.",
        "on both the metric falls further below the learned model's than on the line between the two",
        all(fall(one.paths[name]) > drop(one.paths[BETWEEN]) for one in found for name in FROM_PRETRAINED),
    )


def judge_curve(found: Sequence[Paths]) -> Claim:
    """Set the paper's claim on the learned curve against what was found."""
    return Claim(
        "a learned Bezier curve connects the two at nearly constant accuracy, as the straight line does.",
        _NEARLY_CONSTANT,
        all(one.nearly_constant(CURVE) for one in found),
    )


def _each(context: Context, measure: Callable[[Ends], Mapping[str, Sequence[PathPoint]]]) -> list[Paths]:
    """Measure the paths of every task and seed."""
    tasks = context.choose_tasks(quick=("sst2",), full=("mrpc", "sst2"))
    seeds = context.choose_seeds(quick=(0,), full=(0,))
    found = []
    for task in tasks:
        for seed in seeds:
            ends = Ends.of(context, task, seed)
            dev, metric = ends.setting.encoded.dev, ends.setting.metric
            found.append(Paths(task, seed, metric, majority_value(dev, metric), measure(ends)))
    return found


def _result(
    title: str,
    context: Context,
    found: Sequence[Paths],
    judges: Sequence[Callable[[Sequence[Paths]], Claim]],
    settings: Mapping[str, Any],
) -> Result:
    claims = [judge(found) for judge in judges]
    return Result(
        title=title,
        tables=[_table(found)],
        values={"found": [asdict(one) for one in found], "claims": [claim.values() for claim in claims]},
        settings={**settings, "Measured on": "dev"},
        notes=[claim.note("Here") for claim in claims],
        draw=lambda figure: draw_paths(figure, found, f"{title} ({where(context)})"),
    )


def _table(found: Sequence[Paths]) -> Table:
    head = ["task", "path", "metric", "at 0", "at 1", "lowest", "below lower end", "loss above higher end"]
    rows = []
    for one in found:
        for name, path in one.paths.items():
            values = (path[0].value, path[-1].value, min(point.value for point in path), drop(path))
            cells = [f"{100 * value:.1f}" for value in values]
            rows.append([one.title, name, one.metric, *cells, f"{barrier(path):.3f}"])
    return Table(head, rows, "Dev metric in %, loss in nats")


def draw_paths(figure: Any, found: Sequence[Paths], title: str) -> None:
    """Draw metric and loss along the paths: a row for each task and seed.

    Args:
        figure: An empty matplotlib figure.
        found: What to draw.
        title: Title of the figure.
    """
    figure.set_size_inches(9, 1.0 + 3.0 * len(found))
    rows = figure.subplots(len(found), 2, squeeze=False)
    for one, (left, right) in zip(found, rows, strict=True):
        for name, path in one.paths.items():
            style = {"color": _COLORS[name], "marker": "o", "markersize": 3, "label": name}
            left.plot([p.t for p in path], [100 * p.value for p in path], **style)
            right.plot([p.t for p in path], [p.loss for p in path], **style)
        values = [100 * point.value for path in one.paths.values() for point in path]
        left.set_ylim(min(values) - 10, max(values) + 5)  # wide enough for little to look like little
        right.set_ylim(0, 1.1 * max(point.loss for path in one.paths.values() for point in path))
        left.set_ylabel(f"{one.title}\ndev {one.metric.replace('_', ' ')}, %", fontsize=9)
        right.set_ylabel("dev cross entropy, nats", fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("place on the path (0 its start, 1 its end)", fontsize=9)
            clear(axes)
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=len(labels), loc="outside lower center")
    figure.suptitle(title, fontsize=10)
