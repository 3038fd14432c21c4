"""Lines, bands and points on linear or logarithmic axes as a picture in SVG, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from cifar_sparsity_figure import LEGEND_LINE, marker, style

from nonsmooth import extremes

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 30, 42
LEGEND_COLUMN = 300


@dataclass(frozen=True)
class Axis:
    """Label and range; powers of ten are ticked on a logarithmic one, fifths of the range on a linear one."""

    label: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1; what is off the axis lies at its end."""
        value = extremes.smallest(extremes.largest(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Values to mark, at most seven."""
        if not self.log:
            return [self.low + k / 5 * (self.high - self.low) for k in range(6)]
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**k for k in range(first, last + 1, max(1, math.ceil((last - first) / 6)))]


@dataclass(frozen=True)
class Curve:
    """A line, with a band around it or markers on it.

    Attributes:
        label: in the legend; curves of one label share an entry.
        tone: a name in the report's palette.
        points: (x, y).
        band: (x, low, high), or none.
        marks: for each point a shape of `cifar_sparsity_figure.marker`, or none for a plain line.
        dashed: whether the line is.
    """

    label: str
    tone: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    marks: Sequence[str] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with curves."""

    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve] = field(default_factory=list)


def number(value: float, log: bool) -> str:
    """A tick as SVG text."""
    if not log or value == 1:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    power = str(round(math.log10(value))).replace("-", "−")
    return f'10<tspan dy="-5" font-size="9">{power}</tspan>'


def drawn(panel: Panel, left: float, top: float) -> str:
    """A panel at a place of the picture."""
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + wide * panel.x.share(x), TOP + tall * (1 - panel.y.share(y))

    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}</text>']
    for tick in panel.x.ticks():
        x = place(tick, panel.y.low)[0]
        parts.append(f'<path class="grid" d="M{x:.1f},{TOP}V{TOP + tall}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + tall + 16}" text-anchor="middle">{number(tick, panel.x.log)}</text>')
    for tick in panel.y.ticks():
        y = place(panel.x.low, tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{LEFT + wide}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick, panel.y.log)}</text>')
    middle = TOP + tall / 2
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.x.label)}</text>')
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(panel.y.label)}</text>"
    )
    for curve in panel.curves:
        spots = [place(x, y) for x, y in curve.points]
        inside = []
        if curve.band:
            edge = [place(x, high) for x, _, high in curve.band] + [place(x, low) for x, low, _ in curve.band[::-1]]
            outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
            inside.append(f'<polygon fill="currentColor" opacity="0.18" points="{outline}"/>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
        inside.append(f'<polyline class="line"{dash} points="{path}"/>')
        inside += [marker(mark, x, y) for mark, (x, y) in zip(curve.marks, spots, strict=False)]
        parts.append(f'<g class="{curve.tone}"><title>{escape(curve.label)}</title>{"".join(inside)}</g>')
    return f'<g transform="translate({left} {top})">{"".join(parts)}</g>'


def legend_key(curve: Curve, x: float, y: float) -> str:
    """A short piece of the curve."""
    dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
    band = f'<path fill="currentColor" opacity="0.18" d="M{x},{y - 6}h24v12h-24z"/>' if curve.band else ""
    line = f'<path class="line"{dash} d="M{x},{y}h24"/>'
    return f'<g class="{curve.tone}">{band}{line}{marker(curve.marks[0], x + 12, y) if curve.marks else ""}</g>'


def picture(panels: Sequence[Panel], columns: int, about: str) -> str:
    """Panels row by row, and below them the legend that they share.

    Args:
        panels: what to draw.
        columns: panels side by side.
        about: the picture in words, for those who do not see it.
    """
    entries = {curve.label: curve for panel in panels for curve in panel.curves}
    rows = math.ceil(len(panels) / columns)
    width = columns * WIDTH
    across = max(1, (width - LEFT) // LEGEND_COLUMN)
    height = rows * HEIGHT + math.ceil(len(entries) / across) * LEGEND_LINE + 14
    body = [drawn(panel, index % columns * WIDTH, index // columns * HEIGHT) for index, panel in enumerate(panels)]
    for index, (label, curve) in enumerate(entries.items()):
        x, y = LEFT + index % across * LEGEND_COLUMN, rows * HEIGHT + 12 + index // across * LEGEND_LINE
        body.append(f'{legend_key(curve, x, y)}<text x="{x + 32}" y="{y + 4}">{escape(label)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(about)}">{style()}'
        f'<rect class="back" width="{width}" height="{height}"/>{"".join(body)}</svg>\n'
    )
