"""Sections of the page about the answers to the dev set: confusions, labels, calibration, values, errors."""

from training.judging.evaluation import Evaluation
from training.page.charts import calibration_chart, scatter_chart
from training.page.html import cell, escaped, row_head, section, table

_LARGEST_MATRIX = 30
_WIDE = 6
_SHOWN_CONFUSIONS = 10


def answer_sections(found: Evaluation) -> str:
    """Write all sections that there is something for."""
    parts = (_confusion(found), _labels(found), _values(found), _calibration(found), _errors(found))
    return "".join(parts)


def _confusion(found: Evaluation) -> str:
    if not found.confusion:
        return ""
    wrong = [one for one in found.confusion if one.truth != one.predicted][:_SHOWN_CONFUSIONS]
    listed = table(
        "Most frequent confusions",
        ["right", "predicted", "count"],
        ([row_head(one.truth), cell(one.predicted, kind="text"), cell(one.count)] for one in wrong),
    )
    return section("Confusions", _matrix(found), listed if wrong else "<p>Every answer is right.</p>")


def _matrix(found: Evaluation) -> str:
    labels = [one.label for one in found.classes]
    if len(labels) > _LARGEST_MATRIX:
        return f'<p class="soft">The matrix of {len(labels)} labels is too large to show.</p>'
    rows = []
    for truth, counts in zip(labels, found.matrix(), strict=True):
        total = max(1, sum(counts))
        cells = [
            cell(count, share=count / total, kind="right" if predicted == truth else "")
            for predicted, count in zip(labels, counts, strict=True)
        ]
        rows.append([row_head(truth), *cells])
    wide = "matrix wide" if len(labels) > _WIDE or max(map(len, labels)) > 2 * _WIDE else "matrix"
    caption = "Confusion matrix: a row for each right label, a column for each predicted one"
    return table(caption, ["right \\ predicted", *labels], rows, kind=wide)


def _labels(found: Evaluation) -> str:
    rows = (
        [
            row_head(one.label),
            cell(f"{one.precision:.4f}"),
            cell(f"{one.recall:.4f}"),
            cell(f"{one.f1:.4f}", share=one.f1, kind="meter"),
            cell(one.count),
        ]
        for one in found.classes
    )
    head = ["label", "precision", "recall", "F1", "count"]
    return (
        section("Labels", table("Precision, recall and F1 of each label", head, rows))
        if found.classes
        else ""
    )


def _values(found: Evaluation) -> str:
    return section("Values", scatter_chart("Predicted over right values", found.values))


def _calibration(found: Evaluation) -> str:
    if found.calibration_error is None:
        return ""
    rows = (
        [
            row_head(f"{one.low:.1f} to {one.high:.1f}"),
            cell(f"{one.confidence:.4f}"),
            cell(f"{one.accuracy:.4f}"),
            cell(one.count),
        ]
        for one in found.bins
    )
    head = ["score", "mean probability", "share that came true", "count"]
    figures = table("Answers by probability", head, rows)
    return section(
        "Calibration",
        f"<p>Expected calibration error {found.calibration_error:.4f}: how far probabilities are from the "
        "share of answers that came true, on average.</p>",
        f'<div class="charts">{calibration_chart("Reliability", found.bins)}<div>{figures}</div></div>',
    )


def _errors(found: Evaluation) -> str:
    items = "".join(
        f'<li><p class="soft">line {one.line}: right <strong><bdi>{escaped(one.truth)}</bdi></strong>, '
        f"predicted <strong><bdi>{escaped(one.predicted)}</bdi></strong> ({one.score:.4f})</p>"
        f'<p dir="auto">{escaped(one.text)}</p></li>'
        for one in found.worst
    )
    return section("Worst errors", f'<ol class="errors">{items}</ol>' if items else "")
