"""Charts as SVG: lines over epochs, calibration, values. Colours are classes of the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.judging.evaluation import Bin
from training.page.html import escaped

_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 16, 16, 48
_TICKS = 7
_MOST_MARKS = 60
_LARGEST_STRETCH = 3.0


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: What it is of.
        points: (x, y) of each point.
        colour: Class of its colour.
        marked: Index of a point to mark; None for none.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    marked: int | None = None


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value lies, in the units of the SVG."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, *, whole: bool = False) -> list[float]:
        """Return round values along the axis."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough - 1e-12)
        step = max(1.0, step) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(
    title: str, lines: Sequence[Line], *, x_name: str, y_name: str, level: tuple[str, float] | None = None
) -> str:
    """Draw lines; where there are several, with a legend below.

    Args:
        title: What is drawn, for those who can't see it, too.
        lines: At least one with a point.
        x_name: Name of the horizontal axis, whose values are whole numbers.
        y_name: Name of the vertical axis.
        level: Name and value of a dashed horizontal line, left out where the lines would look flat beside it.
    """
    finite = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    if not finite:
        return ""
    points = [point for line in finite for point in line.points if math.isfinite(point[1])]
    heights = [y for _, y in points]
    if level and _stretch(heights, level[1]) > _LARGEST_STRETCH:
        level = None
    x, y = _axes([x for x, _ in points], [*heights, *([level[1]] if level else [])])
    drawn = [_grid(x, y, x_name, y_name, whole=True), *(_line(line, x, y) for line in finite)]
    if level:
        drawn.append(f'<path class="level" d="M{x.start} {y(level[1]):.1f}H{x.end}"/>')
    names = {line.name: line.colour for line in finite}
    return _figure(title, drawn, {**names, **({level[0]: "level"} if level else {})}, _told(finite, level))


def calibration_chart(title: str, bins: Sequence[Bin]) -> str:
    """Draw for each bin the share of answers that came true over their mean probability."""
    x, y = (_Axis(0, 1, *ends) for ends in ((_LEFT, _WIDTH - _RIGHT), (_HEIGHT - _BOTTOM, _TOP)))
    bars = [
        f'<rect class="bar" x="{x(one.low) + 1:.1f}" width="{x(one.high) - x(one.low) - 2:.1f}" '
        f'y="{y(one.accuracy):.1f}" height="{y(0) - y(one.accuracy):.1f}"/>'
        f'<circle class="one" cx="{x(one.confidence):.1f}" cy="{y(one.accuracy):.1f}" r="4"/>'
        for one in bins
    ]
    diagonal = f'<path class="level" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>'
    drawn = [_grid(x, y, "probability", "share that came true"), *bars, diagonal]
    told = "; ".join(f"probability {one.confidence:.2f}, true {one.accuracy:.2f}" for one in bins)
    return _figure(title, drawn, {"answers": "one", "perfect calibration": "level"}, told)


def scatter_chart(title: str, values: Sequence[tuple[float, float]]) -> str:
    """Draw predicted values over the right ones."""
    every = [value for pair in values for value in pair if math.isfinite(value)]
    if not every:
        return ""
    x, y = _axes(every, every)
    dots = [f'<circle class="dot" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>' for a, b in values]
    diagonal = f'<path class="level" d="M{x.start} {y(x.low):.1f}L{x.end} {y(x.high):.1f}"/>'
    drawn = [_grid(x, y, "right", "predicted"), *dots, diagonal]
    return _figure(title, drawn, {}, f"{len(values)} values from {min(every):.4g} to {max(every):.4g}")


def _stretch(heights: Sequence[float], level: float) -> float:
    """Return how many times higher a chart is that shows a level, too."""
    span = max(heights) - min(heights) or 1.0
    return (max(*heights, level) - min(*heights, level)) / span


def _axes(across: Sequence[float], up: Sequence[float]) -> tuple[_Axis, _Axis]:
    low, high = min(up), max(up)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    left, right = min(across), max(across)
    right = right if right > left else left + 1
    return (
        _Axis(left, right, _LEFT, _WIDTH - _RIGHT),
        _Axis(low - room, high + room, _HEIGHT - _BOTTOM, _TOP),
    )


def _grid(x: _Axis, y: _Axis, x_name: str, y_name: str, *, whole: bool = False) -> str:
    parts = [
        f'<path class="grid" d="M{x.start} {y(value):.1f}H{x.end}"/>'
        f'<text x="{x.start - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        for value in y.ticks()
    ]
    parts += [
        f'<text x="{x(value):.1f}" y="{y.start + 19}" text-anchor="middle">{_number(value)}</text>'
        for value in x.ticks(whole=whole)
    ]
    middle, centre = (x.start + x.end) / 2, (y.start + y.end) / 2
    parts += [
        f'<path class="axis" d="M{x.start} {y.end}V{y.start}H{x.end}"/>',
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escaped(x_name)}</text>',
        f'<text transform="translate(15 {centre}) rotate(-90)" text-anchor="middle">{escaped(y_name)}</text>',
    ]
    return "".join(parts)


def _line(line: Line, x: _Axis, y: _Axis) -> str:
    there = [(x(a), y(b)) for a, b in line.points if math.isfinite(b)]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in there)
    marks = there if len(there) <= _MOST_MARKS else []
    dots = "".join(f'<circle class="{line.colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in marks)
    if line.marked is not None:
        a, b = line.points[line.marked]
        dots += f'<circle class="{line.colour} best" cx="{x(a):.1f}" cy="{y(b):.1f}" r="6"/>'
    return f'<path class="line {line.colour}" d="M{path}"/>{dots}'


def _figure(title: str, drawn: Sequence[str], names: dict[str, str], told: str) -> str:
    """Put a chart together; its legend is in the order of the names."""
    legend = "".join(f'<li class="{colour}">{escaped(name)}</li>' for name, colour in names.items())
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escaped(f"{title}: {told}")}">{"".join(drawn)}</svg>'
        + (f'<ul class="legend">{legend}</ul>' if len(names) > 1 else "")
        + "</figure>"
    )


def _told(lines: Sequence[Line], level: tuple[str, float] | None) -> str:
    parts = [f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines]
    return "; ".join([*parts, *([f"{level[0]} {level[1]:.4g}"] if level else [])])


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"  # noqa: PLR2004
