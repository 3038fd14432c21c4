"""Colours by meaning, for light and dark pages: told apart by colour-blind readers, and never the only distinction.

Each tone also has a marker of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKGROUND = {"light": "#ffffff", "dark": "#161b22"}
"""What figures and badges lie on."""

CHROME = {
    "light": {
        "ink": "#24292f",
        "muted": "#57606a",
        "grid": "#e7eaee",
        "axis": "#9aa2ab",
        "surface": BACKGROUND["light"],
    },
    "dark": {"ink": "#e6e9ee", "muted": "#a3adb8", "grid": "#2b323b", "axis": "#69727d", "surface": BACKGROUND["dark"]},
}
"""What is no data, in each theme: text, labels of ticks, grid, axes, and what they lie on."""


@dataclass(frozen=True)
class Tone:
    """How one tone of `figures.figure.TONES` looks: a colour on each background, and plotly's name of a marker."""

    light: str
    dark: str
    marker: str


TONES = {
    "paper": Tone("#24292f", "#e6e9ee", "diamond"),
    "ours": Tone("#0067b8", "#58a9f0", "circle"),
    "control": Tone("#c2500a", "#f5975a", "square"),
    "theory": Tone("#00806a", "#3ccfae", "x"),
    "neutral": Tone("#767d86", "#8d96a1", "circle-open"),
    "a": Tone("#3c3ca2", "#9a9efa", "circle"),
    "b": Tone("#c34b6f", "#f18ead", "square"),
    "c": Tone("#198a9a", "#6ed7e3", "diamond"),
    "d": Tone("#9a7b00", "#e0c04a", "triangle-up"),
    "e": Tone("#8c2d8c", "#d47cce", "cross"),
    "f": Tone("#3f7d30", "#8bcf75", "x"),
    "g": Tone("#6b4a35", "#c9a48a", "star"),
}
