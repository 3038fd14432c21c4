"""Figures of paths and of stability selection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from nonsmooth.figures import Axis, Figure, Panel, Series

if TYPE_CHECKING:
    from nonsmooth.select.path_results import PathPoint, SparsityPath
    from nonsmooth.select.stability_results import StabilitySelection

TONES = ("a", "b", "c", "d", "e")


def path_figure(path: SparsityPath, criteria: Iterable[str]) -> Figure:
    """Score and share of zeros against λ, with what criteria choose.

    Args:
        path: to draw.
        criteria: to be marked.
    """
    x = [point.strength or None for point in path.points]
    scores = [point.score for point in path.points]
    band: tuple[Series, ...] = ()
    if path.error_of:
        low, high = ([point.score + sign * point.error for point in path.points] for sign in (-1, 1))
        band = (Series("band", f"± standard error over {path.error_of}", x, low=low, high=high, tone="ours"),)
    chosen = _chosen(path, criteria)
    marks = [
        Series("points", f"{names}: λ = {point.strength:.3g}", [point.strength], [point.score], tone=tone)
        for (point, names), tone in zip(chosen, TONES, strict=False)
    ]
    share_marks = [replace(mark, y=[point.share]) for mark, (point, _) in zip(marks, chosen, strict=True)]
    axis, unit = Axis("λ", log=True), path.points[0].unit
    label = "mean over seeds" if len(path.seeds) > 1 else "model"
    shares = Series("line", label, x, [point.share for point in path.points], tone="ours")
    texts = [f"{100 * point.share:.1f} % zeros by {names}" for point, names in chosen]
    return Figure(
        "Score and zeros along the path",
        f"How good the models are on validation data, and how many of their {unit} are zero, by λ"
        + (f"; chosen: {', '.join(texts)}." if chosen else "."),
        (
            Panel("Score", axis, Axis("score on validation data"),
                  (*band, Series("line", label, x, scores, tone="ours"), *marks)),
            Panel("Zeros", axis, Axis(f"share of {unit} that are zero"), (shares, *share_marks)),
        ),
    )  # fmt: skip


def _chosen(path: SparsityPath, criteria: Iterable[str]) -> list[tuple[PathPoint, str]]:
    """The points that criteria choose, each with the names of those that do."""
    found: dict[int, list[str]] = {}
    for criterion in criteria:
        if criterion != "one-standard-error" or path.error_of:
            found.setdefault(path.choose(criterion).index, []).append(criterion)
    points = [(path.points[index], ", ".join(names)) for index, names in found.items()]
    return [(point, names) for point, names in points if point.strength > 0]


def stability_figure(selection: StabilitySelection) -> Figure:
    """How often each feature is chosen, in falling order.

    Args:
        selection: to draw.
    """
    rows = selection.rows()
    series = []
    for label, chosen, tone in (("selected", True, "ours"), ("not selected", False, "neutral")):
        places = [place for place, row in enumerate(rows, start=1) if row["selected"] is chosen]
        if places:
            values = [rows[place - 1]["probability"] for place in places]
            series.append(Series("points", label, places, values, tone=tone))
    if math.isfinite(selection.threshold):
        rule = f"threshold {selection.threshold:.2f}: at most {selection.bound:.2g} false"
        series.append(Series("horizontal", rule, y=[selection.threshold], tone="theory", dashed=True))
    axes = Axis("features, the one chosen most often first"), Axis("share of subsamples")
    panel = Panel("Share of subsamples that choose a feature, at its best λ", *axes, tuple(series))
    return Figure("How often features are chosen", str(selection).partition("\n")[0] + ".", (panel,))
