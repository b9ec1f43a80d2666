"""What the figures share: colors, and the words that say where a figure's numbers come from."""

from typing import Any

from experiments.context import Context
from experiments.output import short_name

DARK = "#333333"
PRETRAINED, FINETUNING, MASKING = "#9aa5b1", "#d98c3f", "#0b6e4f"
METHOD_COLORS = {"masking": MASKING, "finetuning": FINETUNING}
SERIES = (MASKING, FINETUNING, "#5b7db1", "#b5482e", "#6bbf8a", "#8e6bb0", PRETRAINED, DARK)
"""For things that have no color of their own, in this order."""


def where(context: Context) -> str:
    """Return base and scale, for a title."""
    return f"{short_name(context.base)}, {'quick' if context.quick else 'full'} scale"


def clear(axes: Any) -> None:
    """Take away the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)
