"""What an experiment leaves behind: JSON, a Markdown table and, where it has one, a figure.

The one place that writes files, names machine and versions, and says at which scale a result was measured.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.common.context import Context
from experiments.common.result import Result
from lab.extras import need
from lab.machine import describe_machine
from lab.tables import markdown_table

_SENTENCE_ENCODERS = ("all-MiniLM-L6-v2", "gte-small", "all-mpnet-base-v2")
_SCALES = {
    "quick": "quick (few rows and epochs, for two cores: shows the direction, not the level)",
    "full": "full (whole data, the paper's settings)",
    "exact": "exact (counted, nothing is trained: the same at both scales)",
}


def write_result(result: Result, context: Context, folder: Path) -> list[Path]:
    """Write a result into a folder, in place of an older one of the same experiment and scale.

    Args:
        result: what to write.
        context: the command.
        folder: made if it is not there.

    Returns:
        The files written: ``<stem>.json``, ``<stem>.md`` and, where there is a figure, ``<stem>.png``.

    Raises:
        MissingExtraError: there is a figure, and matplotlib is not installed.
        OSError: the folder can't be written.
    """
    stem = context.name + ("-quick" if result.scale(context) == "quick" else "")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
    paths[0].write_text(json.dumps(_record(result, context), indent=1) + "\n")
    paths[1].write_text(to_markdown(result, context) + "\n")
    if result.draw is not None:
        paths.append(folder / f"{stem}.png")
        figure = need("matplotlib.figure").Figure(figsize=(6.4, 4), layout="constrained")
        result.draw(figure)
        figure.savefig(paths[-1], dpi=150)
    return paths


def to_markdown(result: Result, context: Context) -> str:
    """The tables and all that a reader must know of them."""
    return "\n\n".join(_paragraphs(result, context))


def _paragraphs(result: Result, context: Context) -> Iterator[str]:
    yield f"# {result.title}"
    changed = ", changed as told below" if context.changes and not result.exact else ""
    yield f"Scale: {_SCALES[result.scale(context)]}{changed}."
    yield _provenance(result, context)
    for table in result.tables:
        if table.caption:
            yield f"{table.caption}:"
        yield markdown_table(table.head, table.rows)
    if result.notes:
        yield "\n".join(f"- {note}" for note in result.notes)


def _provenance(result: Result, context: Context) -> str:
    machine = describe_machine()
    versions: Any = machine["versions"]
    gpu: Any = machine["gpu"]
    where = gpu["name"] if gpu else f"{machine['processor']}, {machine['cores']} cores"
    learning = {} if result.exact else context.learning()
    lines = [
        f"Base: {'; '.join(map(_describe_base, context.bases))}.",
        *(f"{name}: {value}." for name, value in result.settings.items()),
        *(_learning(who, settings) for who, settings in learning.items()),
        f"Machine: {where}; torch {versions['torch']}, transformers {versions['transformers']}.",
    ]
    return "  \n".join(lines)


def _learning(who: str, settings: dict[str, Any]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"Learning, {who}: {told}; for the rest the paper's preset."


def _describe_base(base: str) -> str:
    """A base by its name, and how it differs from the paper's; folders above it are left out."""
    name = short_name(base)
    tuned = ", pretrained and then tuned contrastively as a sentence encoder"
    return name + (tuned if name.rpartition("/")[2] in _SENTENCE_ENCODERS else "")


def short_name(base: str) -> str:
    """A base's name without the folders above it."""
    path = Path(base)
    return path.name if path.is_dir() else base


def _record(result: Result, context: Context) -> dict[str, Any]:
    return {
        "experiment": context.name,
        "title": result.title,
        "scale": result.scale(context),
        "bases": [short_name(base) for base in context.bases],
        "settings": dict(result.settings),
        "learning": None if result.exact else context.learning(),
        "machine": describe_machine(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "values": dict(result.values),
        "notes": list(result.notes),
    }
