"""Report of an experiment: its result and the paper's claim, written as JSON, Markdown and a figure.

The one place that writes files, names machine and versions, and says at which scale a result was measured.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.common.context import Context
from experiments.published.rules import Verdict
from lab.extras import need
from lab.machine import describe_machine
from lab.tables import markdown_table

_SENTENCE_ENCODERS = ("all-MiniLM-L6-v2", "gte-small", "all-mpnet-base-v2")
_SCALES = {
    "quick": "quick (few rows and epochs, for two cores: shows the direction, not the level)",
    "full": "full (the paper's rows, settings and seeds)",
    "reduced": "reduced (fewer rows, other settings or other seeds than the paper's, listed below)",
    "exact": "exact (counted, nothing is trained: the same at both scales)",
}

WIDTH = 6.5
"""Inches of a page's text: a figure's width, so that its letters are read as large as they are set."""
FONTS = {
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "figure.titlesize": 9.5,
}

Draw = Callable[[Any], None]
"""Draws into an empty `matplotlib.figure.Figure`, whose size it may set."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        head: Names of the columns.
        rows: Cells, as many a row as there are columns.
        caption: A line above it; empty for none.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Result:
    """Result of an experiment.

    Attributes:
        title: What was measured, such as ``Table 8: parameters and memory``.
        tables: What is printed, with the paper's numbers next to ours.
        values: The same and more for programs; of JSON's types.
        settings: Settings that decide over the values.
        notes: Sentences that a reader of the tables must know.
        verdicts: The paper's claims, each judged on these values.
        draw: Draws the figure; None where there is none.
        exact: Whether it is counted from shapes and files, so that the scale makes no difference.
    """

    title: str
    tables: Sequence[Table]
    values: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    draw: Draw | None = None
    exact: bool = False

    def scale(self, context: Context) -> str:
        """Return ``quick``, ``full``, ``reduced`` or ``exact``."""
        return "exact" if self.exact else context.scale


def write_result(result: Result, context: Context) -> list[Path]:
    """Write a result into the folder of results, replacing an older one of the same experiment and scale.

    Args:
        result: What to write.
        context: The command; its folder is made if it is not there.

    Returns:
        The files written: ``<stem>.json``, ``<stem>.md`` and, where there is a figure, ``<stem>.png``.

    Raises:
        MissingExtraError: There is a figure, and matplotlib is not installed.
        OSError: The folder can't be written.
    """
    scale = result.scale(context)
    stem = context.name + (f"-{scale}" if scale in ("quick", "reduced") else "")
    folder = context.results_dir
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
    paths[0].write_text(json.dumps(_record(result, context), indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(to_markdown(result, context) + "\n", encoding="utf-8")
    if result.draw is not None:
        paths.append(folder / f"{stem}.png")
        with need("matplotlib").rc_context(FONTS):
            figure = need("matplotlib.figure").Figure(figsize=(WIDTH, 4), layout="constrained")
            result.draw(figure)
            figure.savefig(paths[-1], dpi=150)
    return paths


def to_markdown(result: Result, context: Context) -> str:
    """Return the tables, and all that a reader must know about them, as Markdown."""
    return "\n\n".join(_paragraphs(result, context))


def _paragraphs(result: Result, context: Context) -> Iterator[str]:
    yield f"# {result.title}"
    scale = result.scale(context)
    changed = ", changed as listed below" if context.changes and scale == "quick" else ""
    yield f"Scale: {_SCALES[scale]}{changed}."
    yield _provenance(result, context)
    for table in result.tables:
        if table.caption:
            yield f"{table.caption}:"
        yield markdown_table(table.head, table.rows)
    notes = [*(verdict.note() for verdict in result.verdicts), *result.notes]
    if notes:
        yield "\n".join(f"- {note}" for note in notes)


def _provenance(result: Result, context: Context) -> str:
    machine = describe_machine()
    versions: Any = machine["versions"]
    gpu: Any = machine["gpu"]
    where = gpu["name"] if gpu else f"{machine['processor']}, {machine['cores']} cores"
    learning = {} if result.exact else context.learning()
    departures = context.departures if result.scale(context) == "reduced" else ()
    lines = [
        *([f"Base: {'; '.join(map(_describe_base, context.bases))}."] if context.bases else []),
        *(f"{name}: {value}." for name, value in result.settings.items()),
        *([f"Not the paper's: {'; '.join(departures)}."] if departures else []),
        *(_learning(who, settings) for who, settings in learning.items()),
        *(f"Learning rate, {who}: {rate}." for who, rate in context.rates.items()),
        f"Machine: {where}; torch {versions['torch']}, transformers {versions['transformers']}.",
    ]
    return "  \n".join(lines)


def _learning(who: str, settings: dict[str, Any]) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"Learning, {who}: {listed}; for the rest the paper's preset."


def _describe_base(base: str) -> str:
    """Name a base, and how it differs from the paper's; folders above it are left out."""
    name = short_name(base)
    tuned = ", pretrained and then tuned contrastively as a sentence encoder"
    return name + (tuned if name.rpartition("/")[2] in _SENTENCE_ENCODERS else "")


def short_name(base: str) -> str:
    """Return a base's name without the folders above it."""
    path = Path(base)
    return path.name if path.is_dir() else base


def _record(result: Result, context: Context) -> dict[str, Any]:
    return {
        "experiment": context.name,
        "title": result.title,
        "scale": result.scale(context),
        "bases": [short_name(base) for base in context.bases],
        "settings": dict(result.settings),
        "departures": list(context.departures) if result.scale(context) == "reduced" else [],
        "learning": None if result.exact else context.learning(),
        "rates": dict(context.rates),
        "machine": describe_machine(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "values": dict(result.values),
        "claims": [verdict.record() for verdict in result.verdicts],
        "notes": list(result.notes),
    }
