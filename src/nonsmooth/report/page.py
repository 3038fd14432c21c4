"""The page: from results and figures to one HTML document that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import nonsmooth
from nonsmooth.claims.framework import registry
from nonsmooth.claims.framework.results import ClaimEntry, Results, ValueEntry
from nonsmooth.figures.csv_table import csv_table
from nonsmooth.figures.figure import Figure
from nonsmooth.figures.legend import legend
from nonsmooth.figures.specification import panel_specification
from nonsmooth.figures.tones import CHROME, TONES
from nonsmooth.foreign_text import visible
from nonsmooth.number_text import format_number
from nonsmooth.report import palette
from nonsmooth.report.prose import blocks, inline
from nonsmooth.report.summary import answer, duration, headline

SOURCES = ("paper", "measured", "control", "predicted")
"""Where a value comes from: the columns of a claim's table, each only if something stands in it."""

SHOWN = 8
"""So many rows of a claim's numbers are in sight, those that its rule asks for first; the others are folded away."""

_NOT_FINITE = {"inf": "∞", "-inf": "−∞", "nan": "not a number"}


def render(
    results: Results, figures: Mapping[str, Sequence[Figure]], parts: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The report as one HTML page: style, scripts and data inside, no request to anywhere.

    Args:
        results: what `results.json` holds.
        figures: of each claim by its id; a claim may have none.
        parts: of each claim's plan by its id, where they differ from the part in the settings.
    """
    drawn = {entry["id"]: _figures(entry["id"], figures.get(entry["id"], ())) for entry in results["claims"]}
    panels = {panel["id"]: panel.pop("spec") for group in drawn.values() for f in group for panel in f["panels"]}
    scripts = {name: Markup(_template_text(name)) for name in ("theme.js", "page.js")}
    scripts["plotly.js"] = Markup(_plotly())
    own = any(registry.argument_of(entry["id"]) != entry["id"] for entry in results["claims"])
    all_claims = [entry["id"] for entry in results["claims"]] if own else []
    page = _environment().get_template("page.html.j2")
    return page.render(
        results=results,
        answer=answer(results),
        title=headline(results),
        shown=SHOWN,
        of_paper={entry["id"] for entry in results["claims"] if registry.is_of_paper(entry["id"])},
        figures=drawn,
        command=_command("", all_claims, results["settings"], parts or {}),
        commands={
            entry["id"]: _command(entry["id"], [entry["id"]], results["settings"], parts or {})
            for entry in results["claims"]
        },
        data=_script_json({"panels": panels, "tones": _tones(), "chrome": CHROME}),
        tones=TONES,
        verdicts=palette.VERDICTS,
        style=Markup(_template_text("style.css")),
        scripts=scripts,
        script_sources=" ".join(_hash(script) for script in scripts.values()),
        version=nonsmooth.__version__,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nonsmooth.report"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        inline=inline, blocks=blocks, number=number, duration=duration, look=_look, table=value_table, words=_words
    )
    return environment


def _visible(value: Any) -> Any:
    """Text without characters that act and are not seen; markup was made of such text."""
    return visible(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template_text(name: str) -> str:
    return (resources.files("nonsmooth.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The script as a Content-Security-Policy names it: no other script runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _script_json(content: Any) -> Markup:
    """JSON that can stand inside a script element, whatever strings it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _tones() -> dict[str, dict[str, str]]:
    return {name: {"light": tone.light, "dark": tone.dark} for name, tone in TONES.items()}


def _look(verdict: str | None) -> palette.Look:
    return palette.NO_VERDICT if verdict is None else palette.VERDICTS[verdict]


def _figures(claim_id: str, figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """What the template needs of a claim's figures; a panel's `spec` is for the script."""
    return [_figure_or_fault(f"{claim_id}-figure-{i}", figure) for i, figure in enumerate(figures, 1)]


def _figure_or_fault(figure_id: str, figure: Figure) -> dict[str, Any]:
    """A figure for the template; one that cannot be drawn has a `fault` in place of its legend and its panels."""
    head = {"id": figure_id, "title": figure.title, "caption": figure.caption, "fault": figure_fault(figure)}
    if head["fault"] is not None:
        return {**head, "legend": [], "panels": [], "csv": ""}
    entries = legend(figure)
    panels = [
        {
            "id": f"{figure_id}-{j}",
            "title": panel.title,
            "x": panel.x,
            "y": panel.y,
            "spec": panel_specification(panel, entries),
            # What only this panel shows is explained below it.
            "legend": [entry for entry in entries if entry.panels == (j - 1,) and len(figure.panels) > 1],
        }
        for j, panel in enumerate(figure.panels, 1)
    ]
    shared = [entry for entry in entries if len(entry.panels) > 1 or len(figure.panels) == 1]
    return {
        **head,
        "legend": shared,
        "panels": panels,
        "csv": f"data:text/csv;charset=utf-8,{quote(csv_table(figure))}",
    }


def figure_fault(figure: Figure) -> str | None:
    """Why a figure cannot be drawn; None if it can."""
    try:
        entries = legend(figure)
        _script_json([panel_specification(panel, entries) for panel in figure.panels])
        csv_table(figure)
    # Whatever is wrong with one figure must not lose the page.
    except Exception as error:
        return visible(f"{type(error).__name__}: {error}")
    return None


def number(value: Any) -> str:
    """A value of `results.json` as a reader wants it."""
    return _NOT_FINITE[value] if isinstance(value, str) and value in _NOT_FINITE else format_number(value)


def value_table(entry: ClaimEntry) -> dict[str, Any]:
    """A claim's values as a table: a row for each quantity, a column for each source that has any.

    Quantities of the same name stand in the same row, so that the paper's number and ours can be compared.
    """
    groups: dict[str, list[ValueEntry]] = {source: entry[source] for source in SOURCES}  # type: ignore[literal-required]
    given = dict.fromkeys(value["name"] for source in SOURCES for value in groups[source])
    names = list(dict.fromkeys([*(name for name in entry["asked"] if name in given), *given]))
    rows = []
    for name in names:
        cells = {source: [v for v in groups[source] if v["name"] == name] for source in SOURCES}
        label = next(value["label"] for values in cells.values() for value in values)
        rows.append({"name": name, "label": label, "cells": cells})
    return {"sources": [source for source in SOURCES if groups[source]], "rows": rows}


def _command(
    claim_id: str, names: Sequence[str], settings: Mapping[str, Any], parts: Mapping[str, Sequence[str]]
) -> str:
    """What measures claims again under the same settings; without a name, all of the paper's."""
    options = {"scale": settings["scale"], "data": settings["data"], "seeds": settings["seeds"]}
    conditions = [f" --where {shlex.quote(condition)}" for condition in parts.get(claim_id, settings["part"])]
    words = [f" --{name} {value}" for name, value in options.items() if value is not None]
    first = f" --seed {settings['first_seed']}" if settings["first_seed"] else ""
    typed = [f" {shlex.quote(registry.argument_of(name))}" for name in names]
    return "nonsmooth reproduce" + "".join((*typed, *words, first, *conditions))


def _words(value: Any) -> str:
    """A setting or a version as words."""
    if isinstance(value, list):
        return ", ".join(_words(item) for item in value)
    return "the claim's own" if value is None else str(value)
