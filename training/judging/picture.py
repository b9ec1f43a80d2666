"""Evaluation as a picture, by matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import OptionsError
from training.judging.evaluation import Evaluation
from training.judging.text import LARGEST_MATRIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(found: Evaluation, path: Path, title: str) -> None:
    """Draw the confusion matrix, or F1 of each label, or values; and calibration beside it.

    Args:
        found: The evaluation.
        path: The file; its name says the format.
        title: What was evaluated.

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
    figure.suptitle(f"{title}: {found.metric} {found.metrics[found.metric]:.4f}")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise OptionsError([f"--picture {path}: {error}"]) from None


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
    counts = found.matrix()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    if len(labels) <= LARGEST_MATRIX:
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                axes.text(x, y, str(count), ha="center", va="center")
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1.5)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="right")


def _draw_calibration(found: Evaluation, axes: "Axes") -> None:
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1)
    axes.plot([one.confidence for one in found.bins], [one.accuracy for one in found.bins], marker="o")
    axes.set(xlabel="probability", ylabel="share that is true", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"calibration error {found.calibration_error:.4f}")
