"""Four cases of the edge of stability as a picture in SVG, readable in light and dark, without a drawing library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from nonsmooth.lab import Record
from nonsmooth.report.palette import BACKGROUND, TONES

NAME = "edge-of-stability.svg"
CASES = {
    "tanh": "tanh network: smooth edge of stability",
    "gelu": "GELU network, small step: stable",
    "huber": "Huber regression, large step: bounded cycle",
    "lasso": "LASSO, large λ: across kinks",
}
"""The model of each panel, and its title."""
SERIES = {
    "sharpness": ("ours", "sharpness / threshold"),
    "directional": ("control", "directional smoothness / threshold"),
}
"""What is drawn, with its tone and its label."""
WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 32, 40
LEGEND = 34
DECADES = (-2, 1)
"""Of the vertical axis; what lies outside is drawn at its end."""
GRID = {"light": "#e3e6ea", "dark": "#30363d"}


def draw(records: Sequence[Record]) -> str:
    """The figure: a panel for each case, both readings over their threshold against the step."""
    chosen = [record for name in CASES for record in records if _shows(record, name)]
    panels = "".join(_panel(record, WIDTH * (i % 2), LEGEND + HEIGHT * (i // 2)) for i, record in enumerate(chosen))
    keys = "".join(
        f'<g class="{tone}">{_mark(name, 60 + 220 * i, 16)}</g><text x="{72 + 220 * i}" y="20">{escape(label)}</text>'
        for i, (name, (tone, label)) in enumerate(SERIES.items())
    )
    size = f'width="{2 * WIDTH}" height="{LEGEND + 2 * HEIGHT}"'
    view = f'viewBox="0 0 {2 * WIDTH} {LEGEND + 2 * HEIGHT}"'
    label = "Sharpness and directional smoothness over the stability threshold, four cases"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" aria-label="{label}">{_style()}'
        f'<rect class="back" width="100%" height="100%"/>{keys}{panels}</svg>\n'
    )


def _shows(record: Record, name: str) -> bool:
    return record.parameters["model"] == name and record.parameters["optimiser"] == "GD"


def _panel(record: Record, left: float, top: float) -> str:
    """One case: decades and the edge as rules, the two readings as marks joined by lines."""
    last, (low, high) = record.parameters["steps"], DECADES
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(step: float) -> float:
        return LEFT + wide * step / last

    def up(ratio: float) -> float:
        place = math.log10(max(ratio, 1e-9)) if ratio > 0 else low
        return TOP + tall * (high - min(max(place, low), high)) / (high - low)

    parts = [f'<text class="title" x="{LEFT}" y="20">{escape(CASES[record.parameters["model"]])}</text>']
    for decade in range(low, high + 1):
        y = up(10.0**decade)
        kind = "edge" if decade == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for share in (0, 0.5, 1):
        x, anchor = across(share * last), "end" if share == 1 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{share * last:g}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>')
    for name, (tone, _) in SERIES.items():
        places = [(across(s), up(r)) for s, r in zip(record["step"], record[name], strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks = "".join(_mark(name, x, y) for x, y in places)
        parts.append(f'<g class="{tone}"><polyline class="line" points="{line}"/>{marks}</g>')
    return f'<g transform="translate({left},{top})">{"".join(parts)}</g>'


def _mark(name: str, x: float, y: float) -> str:
    """A disc for the sharpness, an open square for the directional smoothness."""
    if name == "sharpness":
        return f'<circle class="full" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
    return f'<rect class="open" x="{x - 2.6:.1f}" y="{y - 2.6:.1f}" width="5.2" height="5.2"/>'


def _style() -> str:
    """Colours by class, for both schemes."""

    def rules(scheme: str) -> str:
        tones = "".join(f".{tone}{{color:{getattr(TONES[tone], scheme)}}}" for tone, _ in SERIES.values())
        back, ink = BACKGROUND[scheme], getattr(TONES["paper"], scheme)
        theory = getattr(TONES["theory"], scheme)
        return (
            f".back,.open{{fill:{back}}}text{{fill:{ink}}}.grid{{stroke:{GRID[scheme]}}}.edge{{stroke:{theory}}}{tones}"
        )

    return (
        "<style>text{font-family:system-ui,sans-serif;font-size:12px}.title{font-weight:600;font-size:13px}"
        ".line{fill:none;stroke:currentColor;stroke-width:1;opacity:.6}.full{fill:currentColor}"
        ".open{stroke:currentColor;stroke-width:1.3}.edge{stroke-dasharray:5 4;stroke-width:1.4}"
        + rules("light")
        + "@media (prefers-color-scheme: dark){"
        + rules("dark")
        + "}</style>"
    )
