"""A panel as what plotly draws, in JSON types.

Colours are left open: "@ours" stands for a tone's colour and "@ours/20" for the same at 20 % opacity. They
are filled in for the theme at hand, so that one specification serves light pages, dark pages and paper.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from nonsmooth.figures.figure import Figure, Panel, Series
from nonsmooth.figures.legend import LegendEntry, legend, rule_place, series_key
from nonsmooth.foreign_text import visible
from nonsmooth.number_text import format_number

MARKED_POINTS = 16
"""A line through at most so many points shows them."""

BARRED_POINTS = 24
"""A line through at most so many points has error bars, one through more has a band."""

CROWDED_POINTS = 150
"""More points than this are drawn small."""


def panel_specification(panel: Panel, entries: Sequence[LegendEntry] | None = None) -> dict[str, Any]:
    """Traces, straight rules and axes of a panel, as JSON types.

    Args:
        panel: what to draw.
        entries: the legend of its figure; None for a figure of this panel alone.
    """
    looks = {entry.key: entry for entry in (legend(Figure("", "", (panel,))) if entries is None else entries)}
    categories = list(dict.fromkeys(visible(x) for series in panel.series for x in series.x if isinstance(x, str)))
    traces = [
        trace for series in panel.series for trace in _traces(series, looks[series_key(series)], bool(categories))
    ]
    return {
        "traces": traces,
        "shapes": [
            _rule(series, looks[series_key(series)], place)
            for series in panel.series
            if (place := rule_place(series)) is not None
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
        "key": series_key(series),
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
    color, dash = f"@{series.tone}", look.dash
    marker = {"color": color, "symbol": look.marker, "size": 7, "line": {"width": 0, "color": color}}
    if series.kind == "bars":
        return {"type": "bar", "marker": {"color": color, "line": {"width": 0}}}
    if series.kind == "points":
        crowded = len(series.x) > CROWDED_POINTS
        return {
            "type": "scatter",
            "mode": "markers",
            "marker": {**marker, "size": 4 if crowded else 8, "opacity": 0.65 if crowded else 1},
        }
    mode = "lines+markers" if len(series.x) <= MARKED_POINTS else "lines"
    return {"type": "scatter", "mode": mode, "line": {"color": color, "width": 2, "dash": dash}, "marker": marker}


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
        "key": series_key(series),
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
    shape = {"key": series_key(series), "type": "line", "layer": "above", "line": line}
    if series.kind == "horizontal":
        return {**shape, "xref": "paper", "x0": 0, "x1": 1, "y0": place, "y1": place}
    return {**shape, "yref": "paper", "y0": 0, "y1": 1, "x0": place, "x1": place}


def _plain(text: str) -> str:
    """Text for plotly, which reads some tags in it."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
