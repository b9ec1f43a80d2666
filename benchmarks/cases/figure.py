"""Figure of what `mixed_batch` measured, drawn from its JSON. Needs the extra "bench".

Left, the time of each candidate over that of the fastest dense model, by batch and precision and by number of
threads; right, the throughput as more and more tasks are in use.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.peers.columns import COLUMNS
from lab.extras import need

_TOP_RATIO = 2.6
"""Bars end here; longer ones are cut, and show their value."""
_COLORS = (
    *("#c9c9c9", "#a8a8a8", "#888888", "#686868", "#9aa5b1", "#0b6e4f", "#d98c3f"),
    *("#e0b07a", "#ecd0b0", "#b5482e", "#5b7db1", "#8e6bb0", "#c08ab8"),
)
"""One for each of `COLUMNS`: dense models grey, copies in one hue."""
_BOUND = "fastest dense model"
_STYLES = {"fp32": "-", "bf16": "--", "int8": ":"}
_DARK = "#333333"

Result = Mapping[str, Any]


def read_reports(paths: Sequence[Path]) -> list[Result]:
    """Read reports of `mixed_batch`.

    Raises:
        BenchmarkError: A file is not one.
    """
    reports: list[Result] = []
    for path in paths:
        try:
            report = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BenchmarkError(f"{path} can't be read as JSON: {error}") from error
        if not isinstance(report, dict) or report.get("benchmark") != "mixed_batch":
            raise BenchmarkError(f"{path} is not a report of mixed_batch")
        reports.append(report)
    return reports


def draw(reports: Sequence[Result], out: Path) -> None:
    """Draw the results of all reports into one figure."""
    figures = need("matplotlib.figure")
    results = [result for report in reports for result in report["results"]]
    curve = [point for report in reports for point in report["tasks_in_use"]]
    threads = sorted({result["threads"] for result in results})
    width = max(len(results) // len(threads), 3)
    figure = figures.Figure(figsize=(1.5 * width + 4.5, 1.2 + 2.9 * len(threads)), layout="constrained")
    panels = figure.subplot_mosaic([[count, "curve"] for count in threads], width_ratios=(1.5 * width, 3.8))
    for count in threads:
        _draw_bars(panels[count], [result for result in results if result["threads"] == count])
        panels[count].set_title("1 thread" if count == 1 else f"{count} threads", loc="left", fontsize=9)
    _draw_curve(panels["curve"], curve)
    handles, labels = panels[threads[0]].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(labels), fontsize=8, frameon=False, loc="outside lower center")
    figure.suptitle(_title(reports[0]), fontsize=10, color=_DARK)
    figure.savefig(out, dpi=150)


def _title(report: Result) -> str:
    model, machine = report["model"], report["machine"]
    torch = f"torch {machine['versions']['torch']}"
    return ", ".join([str(model["name"]), machine["processor"], machine["capability"], torch])


def _draw_bars(axes: Any, results: Sequence[Result]) -> None:
    names = [name for name in COLUMNS if any(name in result["ratios"] for result in results)]
    width = 0.84 / max(1, len(names))
    for place, name in enumerate(names):
        heights = [result["ratios"].get(name, {}).get("min") for result in results]
        for index, height in enumerate(heights):
            left = index - 0.42 + width * (place + 0.5)
            _draw_bar(axes, left, width, height, _color(name), name if index == 0 else None)
    axes.axhline(1.0, color=_DARK, linewidth=1)
    axes.set_xticks(range(len(results)), [_label(result) for result in results], fontsize=8)
    axes.set_ylim(0, 1.12 * _TOP_RATIO)
    axes.set_ylabel(f"time / {_BOUND} (fastest runs)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bar(
    axes: Any, place: float, width: float, height: float | None, color: str, label: str | None
) -> None:
    """Draw one bar with its value; a cross where there is none."""
    shown = min(height or 0.0, _TOP_RATIO)
    axes.bar(place, shown, 0.94 * width, color=color, label=label)
    text = "x" if height is None else f"{height:.2f}" if height <= _TOP_RATIO else f"{height:.1f}"
    axes.text(place, shown + 0.02, text, ha="center", va="bottom", fontsize=6.5, rotation=90, color=_DARK)


def _color(name: str) -> str:
    """Return a candidate's color, the same in every figure."""
    return _COLORS[list(COLUMNS).index(name)]


def _label(result: Result) -> str:
    batch = f"{result['tasks']} x {result['tokens']}, {result['precision']}"
    return f"{batch}\n{result['assignment']}, {result['zeros']:.0%} zeros"


def _draw_curve(axes: Any, curve: Sequence[Result]) -> None:
    lines = {(point["precision"], name) for point in curve for name in point["relative_throughput"]}
    for precision, name in sorted(line for line in lines if line[1] in COLUMNS):
        points = [point for point in curve if point["precision"] == precision]
        tasks = [point["tasks"] for point in points]
        shares = [point["relative_throughput"].get(name, {}).get("median") for point in points]
        style = _STYLES[precision]
        axes.plot(tasks, shares, style, marker="o", color=_color(name), label=f"{name}, {precision}")
    axes.axhline(1.0, color=_DARK, linewidth=1)
    if curve:
        axes.set_xscale("log", base=2)
        tasks = sorted({point["tasks"] for point in curve})
        axes.set_xticks(tasks, [str(count) for count in tasks])
        axes.legend(fontsize=8, frameon=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks in use (rows drawn uniformly)", fontsize=8)
    axes.set_ylabel(f"throughput / {_BOUND} (median runs)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("reports", type=Path, nargs="+", help="JSON files that mixed_batch wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to draw into")


def main(arguments: argparse.Namespace) -> int:
    """Draw the figure; return the exit code."""
    draw(read_reports(arguments.reports), arguments.out)
    return 0
