"""Figure specifications to what the page's script hands to plotly.

Colours are left open: "@ours" stands for a tone's colour and "@ours/20" for the same at 20 % opacity. The script fills
them in for the theme at hand, so that one specification serves the light page, the dark page and paper.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

from nonsmooth.claims.framework.claim import format_number
from nonsmooth.claims.framework.figure import Figure, Panel, Series
from nonsmooth.foreign_text import visible
from nonsmooth.report.palette import TONES

MARKED_POINTS = 16
"""A line through at most so many points shows them."""

BARRED_POINTS = 24
"""A line through at most so many points has error bars, one through more has a band."""

CROWDED_POINTS = 150
"""More points than this are drawn small."""

DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "circle-open")

_LINES = ("line", "horizontal", "vertical")
_DOTS = ("points", "line")


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend: what shares a name and a tone is switched on and off together.

    Attributes:
        key: identifies what it switches, in every panel of the figure.
        name: what a reader sees.
        tone: of its colour.
        marks: how it is drawn, such as ("line",) or ("line", "band").
        dash: of its lines, as plotly names it; entries of one tone in one panel differ in it.
        marker: of its points, as plotly names it; the same holds.
        hint: where a straight rule stands; empty for others.
        panels: the numbers of the panels that show it.
    """

    key: str
    name: str
    tone: str
    marks: tuple[str, ...]
    dash: str
    marker: str
    hint: str
    panels: tuple[int, ...]


def legend(figure: Figure) -> list[LegendEntry]:
    """The legend of a figure; in each panel no two entries look alike, while there are dashes and markers left."""
    groups: dict[str, list[tuple[int, Series]]] = {}
    for number, panel in enumerate(figure.panels):
        for series in panel.series:
            groups.setdefault(_key(series), []).append((number, series))
    drawn = {key: [series for _, series in group] for key, group in groups.items()}
    lines = {key: _dash(group) for key, group in drawn.items() if any(series.kind in _LINES for series in group)}
    dots = {
        key: TONES[group[0].tone].marker
        for key, group in drawn.items()
        if any(series.kind in _DOTS for series in group)
    }
    dashes, markers = _told_apart(lines, groups, DASHES), _told_apart(dots, groups, MARKERS)
    return [
        LegendEntry(
            key,
            group[0].name,
            group[0].tone,
            tuple(dict.fromkeys(series.kind for series in group)),
            dashes.get(key, "solid"),
            markers.get(key, TONES[group[0].tone].marker),
            _rule_hint(group),
            tuple(dict.fromkeys(number for number, _ in groups[key])),
        )
        for key, group in drawn.items()
    ]


def _dash(group: Sequence[Series]) -> str:
    return "dash" if any(series.dashed for series in group) else "solid"


def _told_apart(
    wanted: Mapping[str, str], groups: Mapping[str, Sequence[tuple[int, Series]]], looks: Sequence[str]
) -> dict[str, str]:
    """A look for each key: the one it wants, or another where a panel has an earlier one of its tone with that look.

    Args:
        wanted: the look that each key wants.
        groups: the series of each key, with the numbers of their panels.
        looks: what else may be given; if all are taken, keys get what they want.
    """
    places = {key: {(number, series.tone) for number, series in groups[key]} for key in wanted}
    given: dict[str, str] = {}
    for key, look in wanted.items():
        rivals = [other for other in wanted if other != key and places[other] & places[key]]
        taken = {given[other] for other in rivals if other in given}
        later = {wanted[other] for other in rivals}
        # What another one wants is given away last.
        candidates = (look, *(other for other in looks if other not in later), *looks)
        given[key] = next((other for other in candidates if other not in taken), look)
    return given


def _key(series: Series) -> str:
    return f"{series.tone}:{visible(series.name)}"


def _rule_hint(group: Sequence[Series]) -> str:
    """Where the straight rules of a legend entry stand, if it has no other marks and they stand at one place."""
    places = {
        f"{'y' if s.kind == 'horizontal' else 'x'} = {format_number(place)}"
        for s in group
        if (place := _place(s)) is not None
    }
    return places.pop() if len(places) == 1 and len({s.kind for s in group}) == 1 else ""


def _place(series: Series) -> float | str | None:
    """Where a straight rule stands; None where there is no such place, and for what is no rule."""
    values = {"horizontal": series.y, "vertical": series.x}.get(series.kind, ())
    return values[0] if values else None


def panel_specification(panel: Panel, entries: Sequence[LegendEntry] | None = None) -> dict[str, Any]:
    """Traces, straight rules and axes of a panel, as JSON types.

    Args:
        panel: what to draw.
        entries: the legend of its figure; None for a figure of this panel alone.
    """
    looks = {entry.key: entry for entry in (legend(Figure("", "", (panel,))) if entries is None else entries)}
    categories = list(dict.fromkeys(visible(x) for series in panel.series for x in series.x if isinstance(x, str)))
    traces = [trace for series in panel.series for trace in _traces(series, looks[_key(series)], bool(categories))]
    return {
        "traces": traces,
        "shapes": [
            _rule(series, looks[_key(series)], place)
            for series in panel.series
            if (place := _place(series)) is not None
        ],
        "x": {
            "log": panel.x.log and not categories,
            "categories": categories,
            "decades": _decades(x for series in panel.series for x in series.x if not isinstance(x, str)),
        },
        "y": {
            "log": panel.y.log,
            "decades": _decades(
                y for series in panel.series for y in (*series.y, *(series.low or ()), *(series.high or ()))
            ),
        },
    }


def _decades(values: Iterable[float | None]) -> float:
    """How many decades a logarithmic axis has to span; the script places its ticks by it."""
    positive = [value for value in values if value is not None and 0 < value < math.inf]
    # The quotient itself overflows where one value is a denormal.
    return math.log10(max(positive)) - math.log10(min(positive)) if positive else 0.0


def _traces(series: Series, look: LegendEntry, categorical: bool) -> list[dict[str, Any]]:
    if series.kind in ("horizontal", "vertical"):
        return []
    if series.kind == "band":
        return [_band(series)]
    many = series.kind == "line" and len(series.x) > BARRED_POINTS and series.low is not None
    trace = {
        "key": _key(series),
        "name": _plain(series.name),
        "x": _abscissae(series),
        "y": list(series.y),
        **_style(series, look),
        **_hover(series, categorical),
    }
    if series.low is not None or series.high is not None:
        if many and series.high is not None:
            return [_band(series), trace]
        trace["error_y"] = _error_bars(series)
    return [trace]


def _abscissae(series: Series) -> list[float | str | None]:
    return [visible(x) if isinstance(x, str) else x for x in series.x]


def _style(series: Series, look: LegendEntry) -> dict[str, Any]:
    colour, dash = f"@{series.tone}", look.dash
    marker = {"color": colour, "symbol": look.marker, "size": 7, "line": {"width": 0, "color": colour}}
    if series.kind == "bars":
        return {"type": "bar", "marker": {"color": colour, "line": {"width": 0}}}
    if series.kind == "points":
        crowded = len(series.x) > CROWDED_POINTS
        return {
            "type": "scatter",
            "mode": "markers",
            "marker": {**marker, "size": 4 if crowded else 8, "opacity": 0.65 if crowded else 1},
        }
    mode = "lines+markers" if len(series.x) <= MARKED_POINTS else "lines"
    return {"type": "scatter", "mode": mode, "line": {"color": colour, "width": 2, "dash": dash}, "marker": marker}


def _hover(series: Series, categorical: bool) -> dict[str, Any]:
    x = "%{x}" if categorical else "%{x:.4~g}"
    if series.low is None or series.high is None:
        return {"hovertemplate": f"{x}, <b>%{{y:.4~g}}</b>"}
    ends = zip(series.low, series.high, strict=True)
    return {
        "text": [f"[{format_number(low)}, {format_number(high)}]" for low, high in ends],
        "hovertemplate": f"{x}, <b>%{{y:.4~g}}</b> %{{text}}",
    }


def _error_bars(series: Series) -> dict[str, Any]:
    """Distances from the values to the ends of their intervals; a missing end has none."""
    nothing: Sequence[None] = [None] * len(series.y)
    low, high = series.low or nothing, series.high or nothing

    def distances(starts: Sequence[float | None], ends: Sequence[float | None]) -> list[float | None]:
        pairs = zip(starts, ends, strict=True)
        # The difference of two floats can be beyond the floats.
        return [
            None if start is None or end is None else min(max(0.0, end - start), sys.float_info.max)
            for start, end in pairs
        ]

    return {
        "type": "data",
        "symmetric": False,
        "array": distances(series.y, high),
        "arrayminus": distances(low, series.y),
        "color": "@ink/75" if series.kind == "bars" else f"@{series.tone}",
        "thickness": 1.5,
        "width": 3,
    }


def _band(series: Series) -> dict[str, Any]:
    """A filled outline for each stretch without gaps."""
    low, high, abscissae = series.low or (), series.high or (), _abscissae(series)
    holes = [i for i, point in enumerate(zip(low, high, abscissae, strict=True)) if None in point]
    x: list[float | str | None] = []
    y: list[float | None] = []
    for before, after in pairwise([-1, *holes, len(low)]):
        stretch = slice(before + 1, after)
        if after - before > 1:
            x += [*abscissae[stretch], *reversed(abscissae[stretch]), None]
            y += [*low[stretch], *reversed(high[stretch]), None]
    return {
        "key": _key(series),
        "name": _plain(series.name),
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "fill": "toself",
        "fillcolor": f"@{series.tone}/18",
        "line": {"width": 0, "color": f"@{series.tone}"},
        "hoverinfo": "skip",
    }


def _rule(series: Series, look: LegendEntry, place: float | str) -> dict[str, Any]:
    """A straight rule across the panel."""
    line = {"color": f"@{series.tone}", "width": 1.5, "dash": look.dash}
    shape = {"key": _key(series), "type": "line", "layer": "above", "line": line}
    if series.kind == "horizontal":
        return {**shape, "xref": "paper", "x0": 0, "x1": 1, "y0": place, "y1": place}
    return {**shape, "yref": "paper", "y0": 0, "y1": 1, "x0": place, "x1": place}


def table(figure: Figure) -> str:
    """What a figure draws, as CSV: a row for each point, with the ends of its interval."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("panel", "series", "kind", "x", "y", "low", "high"))
    for number, panel in enumerate(figure.panels, 1):
        for series in panel.series:
            columns = (series.x, series.y, series.low or (), series.high or ())
            name = (visible(panel.title) or number, visible(series.name), series.kind)
            rows.writerows((*name, *map(_field, point)) for point in zip_longest(*columns))
    return text.getvalue()


def _field(value: float | str | None) -> str | float | None:
    return visible(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    """Text for plotly, which reads some tags in it."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
