"""A figure as plotly draws it in a notebook, a browser or a file."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects
from plotly.io import templates

from nonsmooth.figures.figure import Figure, Panel
from nonsmooth.figures.legend import legend
from nonsmooth.figures.specification import panel_specification
from nonsmooth.figures.tones import CHROME, TONES
from nonsmooth.foreign_text import visible

ROW_LENGTH = 3
"""So many panels stand side by side; further ones below."""

GAP = {"x": 0.09, "y": 0.24}
"""Between panels, as a share of the width and of the height."""

ROW_HEIGHT = 330
"""Of a row of panels, in pixels."""

CAPTION_LENGTH = 120
"""Characters in a line of the caption, which plotly does not break."""

MANY_DECADES = 1.6
"""From so many on, a logarithmic axis has labels at whole powers of ten only."""

_STYLED = ("line", "marker", "error_y", "fillcolor")


def draw(figure: Figure, theme: str | None = None) -> Any:
    """The figure as a `plotly.graph_objects.Figure`.

    Args:
        figure: what to draw.
        theme: "light" or "dark"; None for dark where plotly's own default template is `plotly_dark`, else light.

    Raises:
        ValueError: another theme.
    """
    if theme is None:
        theme = "dark" if "plotly_dark" in str(templates.default) else "light"
    if theme not in CHROME:
        raise ValueError(f"theme is {theme!r}; accepted are {', '.join(CHROME)}")
    entries = legend(figure)
    names = {entry.key: _text(entry.name) for entry in entries}
    layout = _layout(figure, theme)
    traces: list[dict[str, Any]] = []
    listed: set[str] = set()
    lines = {entry.key for entry in entries if set(entry.marks) != {"band"}}
    for number, panel in enumerate(figure.panels, 1):
        specification = panel_specification(panel, entries)
        place = "" if number == 1 else str(number)
        layout |= _axes(panel, specification, number, len(figure.panels), CHROME[theme])
        if len(figure.panels) > 1:
            layout["annotations"].append(_title(panel.title, place))
        for kind, found in (("traces", traces), ("shapes", layout["shapes"])):
            for item in specification[kind]:
                axes = _axes_of_shape(item, place) if kind == "shapes" else {"xaxis": f"x{place}", "yaxis": f"y{place}"}
                painted = {name: _paint(part, theme) if name in _STYLED else part for name, part in item.items()}
                key = painted.pop("key")
                # A band stands in the legend only where no line does.
                shown = key not in listed and not (item.get("fill") and key in lines)
                found.append({**painted, **axes, "name": names[key], "legendgroup": key, "showlegend": shown})
                listed.update({key} if shown else ())
    return plotly.graph_objects.Figure({"data": traces, "layout": layout})


def _layout(figure: Figure, theme: str) -> dict[str, Any]:
    """What the panels share."""
    look, rows = CHROME[theme], math.ceil(len(figure.panels) / ROW_LENGTH)
    caption = textwrap.wrap(visible(figure.caption), CAPTION_LENGTH)
    return {
        "title": {"text": _text(figure.title), "subtitle": {"text": "<br>".join(map(_text, caption))}},
        "height": 175 + 15 * len(caption) + ROW_HEIGHT * rows,
        "margin": {"l": 56, "r": 16, "t": 95 + 15 * len(caption), "b": 48},
        "paper_bgcolor": look["surface"],
        "plot_bgcolor": look["surface"],
        "font": {"color": look["ink"], "size": 12},
        "hoverlabel": {"bgcolor": look["surface"], "bordercolor": look["axis"], "font": {"color": look["ink"]}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.24 / max(rows, 1), "x": 0},
        "bargap": 0.25,
        "bargroupgap": 0.08,
        "shapes": [],
        "annotations": [],
    }


def _axes(
    panel: Panel, specification: Mapping[str, Any], number: int, count: int, look: Mapping[str, str]
) -> dict[str, Any]:
    """The two axes of a panel, in their place among the panels."""
    columns, rows = min(count, ROW_LENGTH), math.ceil(count / ROW_LENGTH)
    row, column = divmod(number - 1, ROW_LENGTH)
    place = "" if number == 1 else str(number)
    x = _axis(specification["x"], panel.x.label, _domain(column, columns, GAP["x"]), look)
    y = _axis(specification["y"], panel.y.label, _domain(rows - 1 - row, rows, GAP["y"]), look)
    return {f"xaxis{place}": {**x, "anchor": f"y{place}"}, f"yaxis{place}": {**y, "anchor": f"x{place}"}}


def _title(text: str, place: str) -> dict[str, Any]:
    """A title above its panel."""
    across = {"xref": f"x{place} domain", "x": 0.5, "xanchor": "center"}
    above = {"yref": f"y{place} domain", "y": 1.02, "yanchor": "bottom"}
    return {"text": f"<b>{_text(text)}</b>", "showarrow": False, **across, **above}


def _domain(index: int, count: int, gap: float) -> list[float]:
    size = (1 - gap * (count - 1)) / count
    start = index * (size + gap)
    return [start, min(1.0, start + size)]


def _axis(kind: Mapping[str, Any], label: str, domain: list[float], look: Mapping[str, str]) -> dict[str, Any]:
    categories = kind.get("categories")
    axis: dict[str, Any] = {
        "type": "log" if kind["log"] else "category" if categories else "linear",
        "title": {"text": _text(label)},
        "domain": domain,
        "automargin": True,
        "gridcolor": look["grid"],
        "linecolor": look["axis"],
        "tickcolor": look["axis"],
        "tickfont": {"color": look["muted"]},
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "nticks": 6,
        "exponentformat": "power",
    }
    if kind["log"] and kind["decades"] >= MANY_DECADES:
        axis |= {"dtick": math.ceil(kind["decades"] / 5)}
    if categories:
        axis |= {"categoryorder": "array", "categoryarray": categories, "showgrid": False}
    return axis


def _axes_of_shape(shape: Mapping[str, Any], place: str) -> dict[str, str]:
    """A straight rule runs across its own panel, and not across the whole figure."""
    x, y = f"x{place}", f"y{place}"
    return {"xref": f"{x} domain", "yref": y} if "xref" in shape else {"xref": x, "yref": f"{y} domain"}


def _paint(item: Any, theme: str) -> Any:
    """A copy with the colours of the theme in place of "@tone" and "@tone/percent"."""
    if isinstance(item, str) and item.startswith("@"):
        name, _, percent = item[1:].partition("/")
        color = CHROME[theme]["ink"] if name == "ink" else getattr(TONES[name], theme)
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{int(percent) / 100:g})" if percent else color
    if isinstance(item, Mapping):
        return {key: _paint(inner, theme) for key, inner in item.items()}
    return [_paint(inner, theme) for inner in item] if isinstance(item, list) else item


def _text(text: str) -> str:
    """Text for plotly, which reads some tags in it."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
