"""Accuracy against sparsity as a picture in SVG, readable in light and dark, without a drawing library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from nonsmooth import extremes
from nonsmooth.figures.tones import BACKGROUND, TONES

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 30, 42
TICKS = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
LEGEND_LINE, LEGEND_COLUMN = 19, 400
SIZE = 4.5
GRID = {"light": "#e3e6ea", "dark": "#30363d"}


@dataclass(frozen=True)
class Series:
    """One method: its points (share of zeros, accuracy, half an interval), joined by a line."""

    label: str
    tone: str
    marker: str
    points: Sequence[tuple[float, float, float]]


def across(share: float, ends: tuple[float, float]) -> float:
    """Where a share of zeros lies on the axis, which is logarithmic in the weights that remain."""
    first, last = (math.log(1 - end) for end in ends)
    return (math.log(1 - extremes.smallest(share, ends[1])) - first) / (last - first)


def style() -> str:
    """Colours by class, for both schemes; the background changes with them."""

    def rules(scheme: str) -> str:
        tones = "".join(f".{name}{{color:{getattr(tone, scheme)}}}" for name, tone in TONES.items())
        back, ink = BACKGROUND[scheme], getattr(TONES["paper"], scheme)
        return f".back,.open{{fill:{back}}}text{{fill:{ink}}}.grid{{stroke:{GRID[scheme]}}}{tones}"

    return (
        "<style>text{font-family:system-ui,sans-serif;font-size:12px}.title{font-weight:600;font-size:13px}"
        ".line{fill:none;stroke:currentColor;stroke-width:1.5}.full{fill:currentColor;stroke:currentColor}"
        ".open{stroke:currentColor;stroke-width:1.8}.bar{stroke:currentColor;stroke-width:1.2}"
        + rules("light")
        + "@media (prefers-color-scheme: dark){"
        + rules("dark")
        + "}</style>"
    )


def marker(kind: str, x: float, y: float) -> str:
    """A marker's shape."""
    shape, _, hollow = kind.partition("-")
    look = "open" if hollow else "full"
    if shape == "circle":
        return f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="{SIZE}"/>'
    if shape in ("cross", "plus"):
        d = SIZE - 0.5 if shape == "cross" else SIZE + 1
        path = f"M{x - d:.1f},{y - d:.1f}l{2 * d},{2 * d}M{x - d:.1f},{y + d:.1f}l{2 * d},{-2 * d}"
        if shape == "plus":
            path = f"M{x - d:.1f},{y:.1f}h{2 * d}M{x:.1f},{y - d:.1f}v{2 * d}"
        return f'<path class="line" style="stroke-width:2.4" d="{path}"/>'
    corners = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        "triangle": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        "star": [
            (
                (1.5 if k % 2 == 0 else 0.6) * math.sin(k * math.pi / 5),
                -(1.5 if k % 2 == 0 else 0.6) * math.cos(k * math.pi / 5),
            )
            for k in range(10)
        ],
    }[shape]
    points = " ".join(f"{x + SIZE * dx:.1f},{y + SIZE * dy:.1f}" for dx, dy in corners)
    return f'<polygon class="{look}" points="{points}"/>'


def curve(one: Series, place: Callable[[float, float], tuple[float, float]]) -> str:
    """A line through the points, their intervals and their markers."""
    spots = [
        (*place(share, value), place(share, value + half)[1], place(share, value - half)[1])
        for share, value, half in one.points
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in spots)
    parts = [f'<polyline class="line" opacity="0.55" points="{path}"/>'] if len(spots) > 1 else []
    for x, y, high, low in spots:
        parts += [f'<path class="bar" opacity="0.7" d="M{x:.1f},{high:.1f}V{low:.1f}"/>', marker(one.marker, x, y)]
    return f'<g class="{one.tone}"><title>{escape(one.label)}</title>{"".join(parts)}</g>'


def limits(panels: Sequence[tuple[str, Sequence[Series]]]) -> tuple[float, float]:
    """Round ends of the accuracies, for all panels of a column."""
    values = [
        end
        for _, drawn in panels
        for one in drawn
        for _, value, half in one.points
        for end in (value - half, value + half)
    ]
    return math.floor(extremes.smallest(values) * 20) / 20, math.ceil(extremes.largest(values) * 20) / 20


def panel(
    title: str, drawn: Sequence[Series], low: float, high: float, ends: tuple[float, float], left: float, top: float
) -> str:
    """Axes and curves, at a place of the picture."""
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(share: float, value: float) -> tuple[float, float]:
        return LEFT + wide * across(share, ends), TOP + tall * (high - value) / (high - low)

    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>']
    for tick in (tick for tick in TICKS if ends[0] <= tick <= ends[1]):
        x = place(tick, low)[0]
        parts.append(f'<path class="grid" d="M{x:.1f},{TOP}V{TOP + tall}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + tall + 16}" text-anchor="middle">{100 * tick:g}</text>')
    count = round((high - low) * 20)
    for k in range(0, count + 1, 2 if count > 6 else 1):
        y = place(ends[0], low + k / 20)[1]
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{LEFT + wide}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * (low + k / 20):.0f}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">weights that are zero (%)</text>')
    middle = TOP + tall / 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">test accuracy (%)</text>'
    )
    parts += [curve(one, place) for one in drawn]
    return f'<g transform="translate({left} {top})">{"".join(parts)}</g>'


def draw(panels: Sequence[tuple[str, Sequence[Series]]], columns: int) -> str:
    """Panels row by row, and below them the legend that they share."""
    names = {one.label: one for _, drawn in panels for one in drawn}
    rows = math.ceil(len(panels) / columns)
    lines = math.ceil(len(names) / columns)
    width, height = columns * WIDTH, rows * HEIGHT + lines * LEGEND_LINE + 16
    shares = [share for _, drawn in panels for one in drawn for share, _, _ in one.points]
    last = next((tick for tick in TICKS[1:] if tick >= extremes.largest(shares)), TICKS[-1])
    first = next(tick for tick in reversed(TICKS) if tick <= extremes.smallest(shares) and tick < last)
    body = []
    for index, (title, drawn) in enumerate(panels):
        low, high = limits(panels[index % columns :: columns])
        body.append(panel(title, drawn, low, high, (first, last), index % columns * WIDTH, index // columns * HEIGHT))
    for index, (label, one) in enumerate(names.items()):
        x, y = LEFT + index // lines * LEGEND_COLUMN, rows * HEIGHT + 14 + index % lines * LEGEND_LINE
        body.append(
            f'<g class="{one.tone}">{marker(one.marker, x, y)}</g><text x="{x + 12}" y="{y + 4}">{escape(label)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Test accuracy against the share of zero weights">{style()}'
        f'<rect class="back" width="{width}" height="{height}"/>{"".join(body)}</svg>\n'
    )
