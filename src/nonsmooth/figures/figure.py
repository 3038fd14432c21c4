"""Figures as plain data: they say what to draw; how it looks is decided elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nonsmooth.extras import require

KINDS = ("line", "points", "bars", "band", "horizontal", "vertical")
TONES = ("paper", "ours", "control", "theory", "neutral", "a", "b", "c", "d", "e", "f", "g")


def _number(value: float | None) -> float | None:
    """A plain float; None (a gap) for what cannot be drawn."""
    try:
        plain = None if value is None else float(value)
    except OverflowError:  # an integer beyond the floats
        return None
    return plain if plain is not None and math.isfinite(plain) else None


def _numbers(values: Sequence[float | None]) -> tuple[float | None, ...]:
    return tuple(_number(value) for value in values)


@dataclass(frozen=True)
class Series:
    """One line, cloud of points, group of bars, band or straight rule.

    Attributes:
        kind: "line", "points", "bars", "band" (needs `low` and `high`), "horizontal" (a rule at y[0]) or
            "vertical" (a rule at x[0]).
        name: what the legend says.
        x: abscissae; strings for the categories of bars. None is a gap, and so is what is not finite.
        y: ordinates; empty for a band or a vertical rule. None is a gap, and so is what is not finite.
        low: lower ends of error bars, or of the band.
        high: upper ends.
        tone: colour by meaning: "paper", "ours", "control", "theory" (a formula's prediction), "neutral", or "a" to
            "g" for categories.
        dashed: whether the line is dashed.

    Raises:
        ValueError: an unknown kind or tone, or lengths that differ.
    """

    kind: str
    name: str
    x: Sequence[float | str | None] = ()
    y: Sequence[float | None] = ()
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    tone: str = "ours"
    dashed: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; accepted are {', '.join(KINDS)}")
        if self.tone not in TONES:
            raise ValueError(f"tone is {self.tone!r}; accepted are {', '.join(TONES)}")
        object.__setattr__(self, "x", tuple(v if isinstance(v, str) else _number(v) for v in self.x))
        object.__setattr__(self, "y", _numbers(self.y))
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(getattr(self, name)))
        if self.kind == "band" and (self.low is None or self.high is None):
            raise ValueError(f"band {self.name!r} needs low and high")
        if self.kind in ("line", "points", "bars") and len(self.x) != len(self.y):
            raise ValueError(f"series {self.name!r} has {len(self.x)} x and {len(self.y)} y")
        for end in (self.low, self.high):
            if end is not None and len(end) != len(self.x):
                raise ValueError(f"series {self.name!r} has {len(self.x)} x and {len(end)} ends of intervals")


@dataclass(frozen=True)
class Axis:
    """An axis: label with unit, and whether it is logarithmic."""

    label: str
    log: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the panel; says what differs between panels.
        x: abscissa.
        y: ordinate.
        series: what is drawn, in drawing order.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Figure:
    """One to six panels side by side, with a caption that says what to see.

    Attributes:
        title: a short title.
        caption: one to three sentences: what is drawn, and what a reader should see in it.
        panels: the panels; on a narrow screen they stand below each other.
    """

    title: str
    caption: str
    panels: tuple[Panel, ...]

    def show(self, theme: str | None = None) -> None:
        """Display the figure: inline in a notebook; from a script as plotly does, in the browser.

        Args:
            theme: "light" or "dark"; None for dark where plotly's own default template is `plotly_dark`, else light.

        Raises:
            ImportError: plotly is not installed.
            ValueError: another theme.
        """
        self.to_plotly(theme).show()

    def to_plotly(self, theme: str | None = None) -> Any:
        """The figure as a `plotly.graph_objects.Figure`, to be changed or saved.

        Args:
            theme: as in `show`.

        Raises:
            ImportError: plotly is not installed.
            ValueError: another theme.
        """
        require("reproduce", "Displaying a figure", ("plotly",))
        from nonsmooth.figures.drawing import draw  # noqa: PLC0415  slow to load

        return draw(self, theme)

    def _repr_mimebundle_(self, *_arguments: Any, **_options: Any) -> dict[str, Any]:
        """What a notebook shows: the figure; where plotly is missing, its words and what to install."""
        words = f"{self.title}. {self.caption}"
        try:
            drawn = self.to_plotly()
        except ImportError as error:
            return {"text/plain": f"{words}\n{error}"}
        return {**drawn._repr_mimebundle_(), "text/plain": words}
