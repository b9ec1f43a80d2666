"""Drawing: the figures' colors, scores with error bars, and the title that names base and scale.

Size and letters are those of `experiments.common.report`.
"""

from collections.abc import Sequence
from typing import Any

from experiments.common.context import Context
from experiments.common.report import short_name
from experiments.common.scores import Scores

DARK, BAND = "#333333", "#e4e8ec"
PRETRAINED, FINETUNING, MASKING, MASKING_LIGHT = "#9aa5b1", "#d98c3f", "#0b6e4f", "#6bbf8a"
METHOD_COLORS = {"masking": MASKING, "finetuning": FINETUNING}
SERIES = ("#3f6fb5", "#b5482e", "#8e6bb0", DARK, "#c2a23a", "#4aa3a2", "#d06a9f", "#7a5c43")
"""For things that are neither methods nor the pretrained encoder, in this order."""


def where(context: Context) -> str:
    """Return bases and scale, for a title."""
    return f"{', '.join(map(short_name, context.bases))}, {context.scale} scale"


def title_of(what: str, context: Context) -> str:
    """Return a figure's title: what is drawn, the bases and the scale."""
    return f"{what}\n({where(context)})"


def draw_scores(axes: Any, places: Sequence[float], scores: Sequence[Scores], **style: Any) -> None:
    """Draw means over seeds, with their standard deviation as a bar where there is more than one seed.

    Args:
        axes: Where to.
        places: Where each stands on the x axis.
        scores: What to draw, in percent.
        style: As `matplotlib.axes.Axes.errorbar` takes it, instead of this one.
    """
    means, spreads = [one.mean for one in scores], [one.spread or 0.0 for one in scores]
    axes.errorbar(places, means, yerr=spreads, **{"marker": "o", "markersize": 4, "capsize": 2, **style})


def clear(axes: Any) -> None:
    """Take away the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)
