"""Printing of the store's commands: tables for people, JSON for programs, problems on stderr."""

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mask_store.messages import escape_controls

if TYPE_CHECKING:
    from mask_store.store.records import VersionInfo


def version_fields(version: "VersionInfo") -> dict[str, Any]:
    """Return a version as JSON has it."""
    return dataclasses.asdict(version) | {"published": version.published.isoformat()}


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))


def print_problems(problems: Iterable[Any]) -> None:
    """Print what is wrong, on stderr."""
    for problem in problems:
        where = problem.task if problem.number is None else f"{problem.task} version {problem.number}"
        print(escape_controls(f"problem: {where}: {problem.message} ({problem.kind})"), file=sys.stderr)


def print_table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print columns of equal width."""
    lines = [titles, *(tuple(map(escape_controls, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
