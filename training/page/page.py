"""Page of a run: curves, comparison and answers, put together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev

from mask_store import human_bytes
from training.options import Method
from training.page.answers import answer_sections
from training.page.charts import Line, line_chart
from training.page.html import cell, escaped, row_head, section, table
from training.page.record import ComparedRun, Run, RunRecord
from training.page.style import STYLE

PAGE = "report.html"

_NAMES: Mapping[Method, str] = {"mask": "masking", "finetune": "finetuning"}
_COLOURS: Mapping[Method, str] = {"mask": "three", "finetune": "two"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def run_page(run: Run) -> str:
    """Write the page: one HTML file without scripts, that loads nothing."""
    record = run.record
    title = record.task if record else run.name
    answers = answer_sections(record.evaluation) if record and record.evaluation else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}: report of learning</title><style>{STYLE}</style></head>"
        f"<body><main><header><h1><bdi>{escaped(title)}</bdi></h1>{_header(record)}</header>"
        f"{_curves(run)}{_comparison(run.compared)}{answers}"
        "<footer>Written by maskserve report.</footer></main></body></html>\n"
    )


def _header(record: RunRecord | None) -> str:
    if record is None:
        return '<p class="soft">comparison of masking and finetuning</p>'
    version = f"version {record.version} on " if record.version else "on "
    digest = f'<p class="soft"><code>{escaped(record.digest)}</code></p>' if record.digest else ""
    tiles = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}<small>{escaped(note)}</small></dd></div>"
        for name, value, note in _tiles(record)
    )
    return f'<p class="soft">{version}{escaped(record.base)}</p>{digest}<dl class="tiles">{tiles}</dl>'


def _tiles(record: RunRecord) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and note of each figure on top."""
    found = record.evaluation
    on = f"on {found.examples:,} rows of {found.file}" if found else ""
    yield f"dev {record.metric}", f"{record.metrics[record.metric]:.4f}", on
    for name, value in record.metrics.items():
        if name != record.metric:
            yield name, f"{value:.4f}", ""
    if found:
        yield f"baseline {found.metric}", f"{found.baseline:.4f}", found.baseline_answer
    if found and found.calibration_error is not None:
        yield "calibration error", f"{found.calibration_error:.4f}", ""
    if record.best_epoch:
        yield "best epoch", f"{record.best_epoch} of {len(record.epochs)}", ""
    if record.mask_bytes is not None and record.finetuned_bytes is not None:
        copy = f"a finetuned copy takes {human_bytes(record.finetuned_bytes)}"
        yield "masks in memory", human_bytes(record.mask_bytes), copy
    yield "time", f"{record.seconds:,.0f} s", f"on {record.device}"


def _curves(run: Run) -> str:
    record = run.record
    lines = _metric_lines(run)
    level = None
    if record and record.evaluation:
        level = ("baseline", record.evaluation.baseline)
    metric = line_chart(f"dev {run.metric}", lines, x_name="epoch", y_name=run.metric, level=level)
    charts = [metric]
    if record and record.epochs:
        loss = Line("loss", [(one.number, one.loss) for one in record.epochs], "one")
        masks = [
            Line("zeros", [(one.number, 100 * one.zeros) for one in record.epochs], "one"),
            Line("flipped", [(one.number, 100 * one.flipped) for one in record.epochs], "two"),
        ]
        charts.append(line_chart("training loss, in nats", [loss], x_name="epoch", y_name="loss"))
        if any(one.zeros or one.flipped for one in record.epochs):
            charts.append(line_chart("mask bits, in percent", masks, x_name="epoch", y_name="percent"))
    there = "".join(charts)
    return section("Learning", f'<div class="charts">{there}</div>' if there else "")


def _metric_lines(run: Run) -> list[Line]:
    """Return the dev metric by epoch, of the run and of those that it was compared with."""
    lines = []
    if run.record and run.record.epochs:
        values = [one.metrics.get(run.metric, math.nan) for one in run.record.epochs]
        best = (run.record.best_epoch or 1) - 1
        lines.append(Line("this run", list(enumerate(values, start=1)), "one", marked=best))
    for one in run.compared:
        if one.values:
            points = list(enumerate(one.values, start=1))
            best = one.best_epoch - 1
            lines.append(Line(f"compared: {_NAMES[one.method]}", points, _COLOURS[one.method], marked=best))
    return lines


def _comparison(runs: Sequence[ComparedRun]) -> str:
    by_method = {method: [run for run in runs if run.method == method] for method in _NAMES}
    rows = [_method_row(_NAMES[method], own) for method, own in by_method.items() if own]
    if not rows:
        return ""
    head = [
        "method",
        f"dev {runs[0].metric}",
        "deviation",
        "seeds",
        "rate",
        "size of a task",
        "time of a run",
    ]
    means = [_mean(own) for own in by_method.values()]
    told = ""
    if all(mean is not None for mean in means):
        told = f"<p>Masking is {_beside(means[0], means[1])} finetuning.</p>"
    caption = "Mean over seeds of the best epoch of each run"
    return section("Against finetuning", told, table(caption, head, rows))


def _beside(mask: float | None, finetune: float | None) -> str:
    points = round(100 * ((mask or 0.0) - (finetune or 0.0)), 2)
    return f"{abs(points):.2f} points {'above' if points > 0 else 'below'}" if points else "as good as"


def _method_row(name: str, runs: Sequence[ComparedRun]) -> list[str]:
    values = [run.value for run in runs if run.value is not None]
    mean = _mean(runs)
    seeds = sorted({run.seed for run in runs})
    diverged = f", {len(runs) - len(values)} diverged" if len(values) < len(runs) else ""
    return [
        row_head(name),
        cell("-" if mean is None else f"{mean:.4f}"),
        cell(f"{stdev(values):.4f}" if len(values) > 1 else "-"),
        cell(f"{', '.join(map(str, seeds))}{diverged}"),
        cell(", ".join(f"{rate:g}" for rate in sorted({run.lr for run in runs}))),
        cell(human_bytes(max(run.nbytes for run in runs))),
        cell(f"{fmean(run.seconds for run in runs):,.0f} s"),
    ]


def _mean(runs: Sequence[ComparedRun]) -> float | None:
    values = [run.value for run in runs if run.value is not None]
    return fmean(values) if values else None
