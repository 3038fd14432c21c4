"""What a figure draws, as a table for other programs."""

from __future__ import annotations

import csv
import io
from itertools import zip_longest

from nonsmooth.figures.figure import Figure
from nonsmooth.foreign_text import visible


def csv_table(figure: Figure) -> str:
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
