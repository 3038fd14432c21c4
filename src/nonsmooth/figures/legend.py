"""The legend of a figure: what is switched together, and how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nonsmooth.figures.figure import Figure, Series
from nonsmooth.figures.tones import TONES
from nonsmooth.foreign_text import visible
from nonsmooth.number_text import format_number

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
            groups.setdefault(series_key(series), []).append((number, series))
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


def series_key(series: Series) -> str:
    """What identifies the legend entry of a series."""
    return f"{series.tone}:{visible(series.name)}"


def _rule_hint(group: Sequence[Series]) -> str:
    """Where the straight rules of a legend entry stand, if it has no other marks and they stand at one place."""
    places = {
        f"{'y' if s.kind == 'horizontal' else 'x'} = {format_number(place)}"
        for s in group
        if (place := rule_place(s)) is not None
    }
    return places.pop() if len(places) == 1 and len({s.kind for s in group}) == 1 else ""


def rule_place(series: Series) -> float | str | None:
    """Where a straight rule stands; None where there is no such place, and for what is no rule."""
    values = {"horizontal": series.y, "vertical": series.x}.get(series.kind, ())
    return values[0] if values else None
