"""Colours by meaning, for light and dark pages: told apart by colour-blind readers, and never the only distinction.

Each tone also has a marker of its own, and each verdict an icon and its words.
"""

from __future__ import annotations

from dataclasses import dataclass

from nonsmooth.claims.framework.claim import Verdict

BACKGROUND = {"light": "#ffffff", "dark": "#161b22"}
"""What figures and badges lie on."""


@dataclass(frozen=True)
class Tone:
    """How one tone of `claims.figure.TONES` looks: a colour on each background, and plotly's name of a marker."""

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


@dataclass(frozen=True)
class Look:
    """How a verdict looks: a word for style sheets and the name of an icon in the page's sprite."""

    word: str
    icon: str


VERDICTS = {
    str(Verdict.REPRODUCED): Look("reproduced", "check"),
    str(Verdict.WITH_CORRECTION): Look("correction", "pencil"),
    str(Verdict.EXPLANATION_NOT_SUPPORTED): Look("unexplained", "half"),
    str(Verdict.NOT_REPRODUCED): Look("refuted", "cross"),
    str(Verdict.INCONCLUSIVE): Look("open", "question"),
}
"""In the order in which they are counted: from agreement to its absence."""

NO_VERDICT = Look("none", "dash")
"""A claim without a verdict: cells are missing or failed."""
