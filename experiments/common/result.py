"""What an experiment comes to, before it is written anywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.common.context import Context

Draw = Callable[[Any], None]
"""Draws into an empty `matplotlib.figure.Figure`, whose size it may set."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        head: names of the columns.
        rows: cells, as many a row as there are columns.
        caption: a line above it; empty for none.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Result:
    """What an experiment comes to.

    Attributes:
        title: what was measured, such as ``Table 8: parameters and memory``.
        tables: what is printed, with the paper's numbers beside ours.
        values: the same and more for programs; of JSON's types.
        settings: settings that decide over the values.
        notes: sentences that a reader of the tables must know: the paper's claim, and what differs here.
        draw: draws the figure; None where there is none.
        exact: whether it is counted from shapes and files, so that the scale makes no difference.
    """

    title: str
    tables: Sequence[Table]
    values: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    draw: Draw | None = None
    exact: bool = False

    def scale(self, context: Context) -> str:
        """``quick``, ``full`` or ``exact``."""
        return "exact" if self.exact else context.scale
