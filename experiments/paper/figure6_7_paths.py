"""Figures 6 and 7: are finetuned and masked model connected by a path of good models?

Figure 6 (section 6.3) looks at straight lines: from the finetuned to the masked model (W * M written out) on
each base, and from the pretrained model to either on the first. Figure 7 (appendix B) looks at a curve that
is learned from the finetuned to the masked model. All weights lie on a path, the classifier's too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from experiments.common.context import Context
from experiments.common.drawing import DARK, FINETUNING, MASKING, SERIES, clear, title_of
from experiments.common.report import Result, Table
from experiments.common.scores import listed
from experiments.common.tasks import TASKS
from experiments.interpolation.curve import CurveSettings, learn_curve, on_the_line
from experiments.interpolation.ends import Ends
from experiments.interpolation.paths import PathPoint, Weights, barrier, drop, walk
from experiments.published.analysis import F6A, F6B, F7A, F7B, Controls, Lines
from experiments.published.facts import FACTS
from experiments.published.rules import Verdict

BETWEEN, CURVE = "finetuned to masked", "learned curve"
FROM_PRETRAINED = {"pretrained to finetuned": FINETUNING, "pretrained to masked": MASKING}
POINTS = 21
BENDS = FACTS.figure7.trainable_models
QUICK_LINES, FULL_LINES = ("trec", "sst2"), ("mrpc", "sst2")
QUICK_CURVE, FULL_CURVE = ("trec",), ("mrpc",)


@dataclass(frozen=True)
class Paths:
    """Models measured along the paths of one base and task.

    Attributes:
        base: Name of the base.
        task: Name of the task.
        seed: Seed of the models.
        epoch: Epochs that they were learned.
        metric: Name of the dev metric.
        majority: The metric of the majority vote.
        paths: Points by the name of the path.
    """

    base: str
    task: str
    seed: int
    epoch: int
    metric: str
    majority: float
    paths: Mapping[str, Sequence[PathPoint]]

    @classmethod
    def of(cls, ends: Ends, paths: Mapping[str, Sequence[PathPoint]]) -> "Paths":
        """Keep what was measured between some ends."""
        seed, metric = ends.setting.options.seed, ends.setting.metric
        return cls(ends.base, ends.task, seed, ends.epoch, metric, ends.majority, paths)

    @property
    def title(self) -> str:
        """Base, task, seed and epochs."""
        return f"{self.base}, {TASKS[self.task].title} (seed {self.seed}, epoch {self.epoch})"

    def lines(self, *names: str) -> Lines:
        """Return the values of some paths in percent."""
        values = {name: [100 * point.value for point in self.paths[name]] for name in names}
        return Lines(values, 100 * self.majority)


def figure6(context: Context) -> Result:
    """Measure models on straight lines between pretrained, finetuned and masked."""
    tasks = context.choose_tasks(quick=QUICK_LINES, full=FULL_LINES)
    found = []
    for base in context.bases:
        for task in tasks:
            ends = Ends.of(context, task, _seeds(context), base=base)
            found.append(Paths.of(ends, walk_lines(ends, pretrained=base == context.bases[0])))
    return Result(
        title="Figure 6: straight lines between pretrained, finetuned and masked",
        tables=[_table(found)],
        values={"found": [asdict(one) for one in found]},
        settings={"Tasks": listed(tasks), "Seeds to choose from": listed(_seeds(context)), "Points": POINTS},
        verdicts=[verdict for one in found for verdict in judge_lines(one)],
        draw=lambda figure: _draw_lines(figure, found, context),
    )


def figure7(context: Context) -> Result:
    """Learn a curve from finetuned to masked, and measure models on it and on the straight line."""
    tasks = context.choose_tasks(quick=QUICK_CURVE, full=FULL_CURVE)
    epochs = 2 if context.quick else 5
    found, verdicts = [], []
    for task in tasks:
        ends = Ends.of(context, task, _seeds(context), base=context.base)
        paths, controls = walk_curve(ends, epochs)
        found.append(Paths.of(ends, paths))
        verdicts.append(F7A.verdict(found[-1].title, found[-1].lines(CURVE)))
        verdicts.append(F7B.verdict(found[-1].title, controls))
    return Result(
        title="Figure 7: a learned Bezier curve from finetuned to masked",
        tables=[_table(found)],
        values={"found": [asdict(one) for one in found]},
        settings={
            "Tasks": listed(tasks),
            "Seeds to choose from": listed(_seeds(context)),
            "Points": POINTS,
            "Curve": f"{BENDS} trainable models; {epochs} epochs of Adam at {CurveSettings.lr:g}",
        },
        verdicts=verdicts,
        draw=lambda figure: _draw_curves(figure, found, context),
    )


def walk_lines(ends: Ends, *, pretrained: bool) -> dict[str, tuple[PathPoint, ...]]:
    """Measure models on the straight lines between the ends.

    Args:
        ends: The models.
        pretrained: Whether the lines from the pretrained model are wanted too.
    """
    lines = {BETWEEN: (ends.finetuned, ends.masked)}
    if pretrained:
        learned = (ends.finetuned, ends.masked)
        lines |= {name: (ends.pretrained, end) for name, end in zip(FROM_PRETRAINED, learned, strict=True)}
    return {name: walk(line, ends.model, ends.dev, POINTS, label=name) for name, line in lines.items()}


def walk_curve(ends: Ends, epochs: int) -> tuple[dict[str, tuple[PathPoint, ...]], Controls]:
    """Learn a curve between finetuned and masked, and measure models on it and on the straight line.

    Args:
        ends: The models.
        epochs: Passes over the training examples to learn the curve in.

    Returns:
        Both paths by name, and what became of the curve's control points.
    """
    line, options = (ends.finetuned, ends.masked), ends.setting.options
    before = [_copied(weights) for weights in (ends.finetuned, *on_the_line(line, BENDS), ends.masked)]
    settings = CurveSettings(
        bends=BENDS,
        epochs=epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        precision=options.precision,
    )
    curve = learn_curve(line, ends.model, ends.setting.encoded.train, settings)
    same = [_equal(now, then) for now, then in zip(curve, before, strict=True)]
    controls = Controls(len(curve), same[1:-1].count(False), same[0] and same[-1])
    paths = {BETWEEN: line, CURVE: curve}
    measured = {name: walk(path, ends.model, ends.dev, POINTS, label=name) for name, path in paths.items()}
    return measured, controls


def judge_lines(found: Paths) -> list[Verdict]:
    """Set the paper's claims on lines against those of one base and task."""
    verdicts = [F6A.verdict(found.title, found.lines(BETWEEN))]
    if FROM_PRETRAINED.keys() <= found.paths.keys():
        verdicts.append(F6B.verdict(found.title, found.lines(*FROM_PRETRAINED)))
    return verdicts


def _seeds(context: Context) -> tuple[int, ...]:
    return context.choose_seeds(quick=FACTS.setup.seeds[:1], full=FACTS.setup.seeds)


def _copied(weights: Weights) -> Weights:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(tensor.cpu(), other[name].cpu()) for name, tensor in one.items())


def _table(found: Sequence[Paths]) -> Table:
    head = [
        "models",
        "path",
        "metric",
        "majority",
        "at 0",
        "at 1",
        "lowest",
        "fall",
        "loss barrier",
    ]
    rows = []
    for one in found:
        for name, path in one.paths.items():
            lowest = min(point.value for point in path)
            values = (one.majority, path[0].value, path[-1].value, lowest, drop(path))
            cells = [f"{100 * value:.1f}" for value in values]
            rows.append([one.title, name, one.metric, *cells, f"{barrier(path):.3f}"])
    return Table(
        head,
        rows,
        "Dev metric in %; fall: points below the lower end; loss barrier: nats above the higher end",
    )


def _draw_lines(figure: Any, found: Sequence[Paths], context: Context) -> None:
    tasks = list(dict.fromkeys(one.task for one in found))
    figure.set_size_inches(figure.get_size_inches()[0], 5.2)
    top, bottom = figure.subplots(2, len(tasks), squeeze=False, sharey="col", sharex=True)
    for task, upper, lower in zip(tasks, top, bottom, strict=True):
        own = [one for one in found if one.task == task]
        for one, color in zip(own, SERIES, strict=False):
            _draw_path(upper, one.paths[BETWEEN], color, f"{BETWEEN}, {one.base}")
        for name, color in FROM_PRETRAINED.items():
            _draw_path(lower, own[0].paths[name], color, name)
        for axes in (upper, lower):
            _draw_majority(axes, own[0])
        upper.set_title(f"{TASKS[task].title} (seed {own[0].seed}, epoch {own[0].epoch})")
        lower.set_xlabel("g: 0 at the start of the line, 1 at its end")
    for axes in (top[0], bottom[0]):
        axes.set_ylabel(f"dev {found[0].metric.replace('_', ' ')}, %")
    _finish(figure, [*top, *bottom], "Models on straight lines", context)


def _draw_curves(figure: Any, found: Sequence[Paths], context: Context) -> None:
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, one in zip(panels, found, strict=True):
        _draw_path(axes, one.paths[BETWEEN], SERIES[1], "straight line")
        _draw_path(axes, one.paths[CURVE], SERIES[0], f"curve with {BENDS} trainable models")
        _draw_majority(axes, one)
        axes.set_title(f"{TASKS[one.task].title} (seed {one.seed}, epoch {one.epoch})")
        axes.set_xlabel("t: 0 is the finetuned, 1 the masked model")
    panels[0].set_ylabel(f"dev {found[0].metric.replace('_', ' ')}, %")
    _finish(figure, panels, "Models on a learned curve", context)


def _draw_path(axes: Any, path: Sequence[PathPoint], color: str, label: str) -> None:
    places, values = [point.t for point in path], [100 * point.value for point in path]
    axes.plot(places, values, color=color, marker="o", markersize=3, label=label)


def _draw_majority(axes: Any, found: Paths) -> None:
    axes.axhline(100 * found.majority, color=DARK, linewidth=1, linestyle=":", label="majority vote")


def _finish(figure: Any, panels: Sequence[Any], what: str, context: Context) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(0, min(bottom, top - 20)), min(102, top + 2))  # little shall look like little
        clear(axes)
    figure.legend(entries.values(), entries.keys(), frameon=False, ncols=2, loc="outside lower center")
    figure.suptitle(title_of(what, context))
