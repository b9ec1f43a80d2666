"""Evaluation as text."""

from collections.abc import Mapping

from training.judging.evaluation import Evaluation

LARGEST_MATRIX = 12
"""Labels up to which a confusion matrix is shown number by number."""

_SHOWN_CONFUSIONS = 10
_SHOWN_LABELS = 40
_LONGEST_TEXT = 80


def evaluation_text(found: Evaluation, title: str) -> str:
    """Write an evaluation: metrics, labels, confusions, calibration and the worst errors.

    Args:
        found: The evaluation.
        title: What was evaluated.
    """
    left = f"; {found.unusable} rows can't be used" if found.unusable else ""
    lines = [
        f"{title} on {found.examples} examples of {found.file}{left}",
        measured(found.metric, found.metrics),
        f"baseline: {found.baseline_answer} has {found.metric} {found.baseline:.4f}",
    ]
    return "\n".join([*lines, *evaluation_lines(found)])


def evaluation_lines(found: Evaluation) -> list[str]:
    """Write labels, confusions, calibration and the worst errors, an empty line before each."""
    parts = (_classes(found), _confusion(found), _calibration(found), _worst(found))
    return [line for part in parts if part for line in ("", *part)]


def measured(metric: str, metrics: Mapping[str, float]) -> str:
    """Write metrics on a line, the one that decides first."""
    others = "".join(f", {name} {value:.4f}" for name, value in metrics.items() if name != metric)
    return f"{metric} {metrics[metric]:.4f}{others}"


def _classes(found: Evaluation) -> list[str]:
    if not found.classes:
        return []
    shown = sorted(found.classes, key=lambda one: one.f1)[:_SHOWN_LABELS]
    if len(found.classes) <= _SHOWN_LABELS:
        shown = list(found.classes)
    width = max(5, *(len(one.label) for one in shown))
    head = f"{'label':<{width}}  precision  recall      f1   count"
    rows = [
        f"{one.label:<{width}}  {one.precision:>9.4f}  {one.recall:>6.4f}  {one.f1:>6.4f}  {one.count:>6}"
        for one in shown
    ]
    more = len(found.classes) - len(shown)
    return [head, *rows, *([f"and {more} labels of higher F1"] if more else [])]


def _confusion(found: Evaluation) -> list[str]:
    if not found.confusion:
        return []
    wrong = [one for one in found.confusion if one.truth != one.predicted][:_SHOWN_CONFUSIONS]
    lines = [f"{one.truth} taken for {one.predicted}: {one.count}" for one in wrong]
    return [*_matrix(found), *lines]


def _matrix(found: Evaluation) -> list[str]:
    labels = [one.label for one in found.classes]
    if len(labels) > LARGEST_MATRIX:
        return []
    width = max(6, *map(len, labels))
    head = " ".join(f"{label:>{width}}" for label in labels)
    rows = [
        f"{truth:>{width}} " + " ".join(f"{count:>{width}}" for count in counts)
        for truth, counts in zip(labels, found.matrix(), strict=True)
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
