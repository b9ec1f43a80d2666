"""Evaluation as text and as a picture."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import OptionsError
from training.published.judging import Evaluation
from training.runs.report import measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST_MATRIX = 12  # labels
_SHOWN_CONFUSIONS = 10
_LONGEST_TEXT = 80


def evaluation_text(found: Evaluation) -> str:
    """Write an evaluation: metrics, labels, confusions, calibration and the worst errors."""
    left = f"; {found.unusable} rows can't be used" if found.unusable else ""
    lines = [
        f"{found.task} version {found.version} on {found.examples} examples of {found.file}{left}",
        measured(found.metric, found.metrics),
        f"baseline: {found.baseline_answer} has {found.metric} {found.baseline:.4f}",
    ]
    for part in (_classes(found), _confusion(found), _calibration(found), _worst(found)):
        if part:
            lines += ["", *part]
    return "\n".join(lines)


def draw(found: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, or F1 of each label, or values; and calibration beside it.

    Raises:
        OptionsError: matplotlib is not installed, or the picture can't be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ModuleNotFoundError:
        raise OptionsError(["--picture needs matplotlib: pip install matplotlib"]) from None
    parts = [part for part in (_draw_answers, _draw_calibration) if part is _draw_answers or found.bins]
    figure = Figure(figsize=(6 * len(parts), 5), layout="constrained")
    for number, part in enumerate(parts, start=1):
        part(found, figure.add_subplot(1, len(parts), number))
    figure.suptitle(f"{found.task} version {found.version}: {found.metric} {found.metrics[found.metric]:.4f}")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise OptionsError([f"--picture {path}: {error}"]) from None


def _classes(found: Evaluation) -> list[str]:
    if not found.classes:
        return []
    width = max(5, *(len(one.label) for one in found.classes))
    head = f"{'label':<{width}}  precision  recall      f1   count"
    rows = [
        f"{one.label:<{width}}  {one.precision:>9.4f}  {one.recall:>6.4f}  {one.f1:>6.4f}  {one.count:>6}"
        for one in found.classes
    ]
    return [head, *rows]


def _confusion(found: Evaluation) -> list[str]:
    if not found.confusion:
        return []
    wrong = [one for one in found.confusion if one[0] != one[1]][:_SHOWN_CONFUSIONS]
    lines = [f"{truth} taken for {predicted}: {count}" for truth, predicted, count in wrong]
    return [*_matrix(found), *lines]


def _matrix(found: Evaluation) -> list[str]:
    labels = [one.label for one in found.classes]
    if len(labels) > _LARGEST_MATRIX:
        return []
    counts = Counter({(truth, predicted): count for truth, predicted, count in found.confusion})
    width = max(6, *map(len, labels))
    head = " ".join(f"{label:>{width}}" for label in labels)
    rows = [
        f"{truth:>{width}} " + " ".join(f"{counts[truth, predicted]:>{width}}" for predicted in labels)
        for truth in labels
    ]
    return [f"{'':>{width}} {head}   (rows: right, columns: predicted)", *rows]


def _calibration(found: Evaluation) -> list[str]:
    if found.calibration_error is None:
        return []
    rows = [
        f"{one.low:.1f}-{one.high:.1f}  {one.confidence:>11.4f}  {one.accuracy:>6.4f}  {one.count:>6}"
        for one in found.bins
    ]
    return [
        f"calibration error {found.calibration_error:.4f}",
        "score    probability    true   count",
        *rows,
    ]


def _worst(found: Evaluation) -> list[str]:
    rows = [
        f"line {one.line}: {one.truth}, predicted {one.predicted} ({one.score:.4f}): {_cut(one.text)}"
        for one in found.worst
    ]
    return ["worst errors", *rows] if rows else []


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 3]}..."


def _draw_answers(found: Evaluation, axes: "Axes") -> None:
    if found.values:
        truth, predicted = zip(*found.values, strict=True)
        axes.scatter(truth, predicted, s=8, alpha=0.5)
        axes.axline((min(truth), min(truth)), slope=1, color="gray", linewidth=1)
        axes.set(xlabel="right", ylabel="predicted")
    elif found.confusion:
        _draw_matrix(found, axes)
    elif found.classes:
        axes.barh([one.label for one in found.classes], [one.f1 for one in found.classes])
        axes.set(xlabel="F1", xlim=(0, 1))
    else:
        axes.bar(list(found.metrics), list(found.metrics.values()))


def _draw_matrix(found: Evaluation, axes: "Axes") -> None:
    labels = [one.label for one in found.classes]
    place = {label: number for number, label in enumerate(labels)}
    shares: list[list[Any]] = [[0.0] * len(labels) for _ in labels]
    totals = {one.label: max(1, one.count) for one in found.classes}
    for truth, predicted, count in found.confusion:
        shares[place[truth]][place[predicted]] = count / totals[truth]
        if len(labels) <= _LARGEST_MATRIX:
            axes.text(place[predicted], place[truth], str(count), ha="center", va="center")
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1.5)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="right")


def _draw_calibration(found: Evaluation, axes: "Axes") -> None:
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1)
    axes.plot([one.confidence for one in found.bins], [one.accuracy for one in found.bins], marker="o")
    axes.set(xlabel="probability", ylabel="share that is true", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"calibration error {found.calibration_error:.4f}")
