"""From a folder of records to `results.json` and the report."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nonsmooth.claims.part import planned_cells
from nonsmooth.claims.results import (
    RESULTS_FILE,
    Results,
    assess,
    illustrate,
    read_settings,
    stored_records,
    summarise,
    write_json,
    write_text,
)
from nonsmooth.lab import Cell, Store
from nonsmooth.report.page import figure_fault, render

REPORT_FILE = Path("report") / "index.html"
"""Where the report lies in a run's folder."""


@dataclass(frozen=True)
class Timing:
    """When a run took place: ISO 8601 times, and the seconds of wall time between them."""

    started: str
    finished: str
    seconds: float


def write_report(folder: Path, failures: Collection[Cell] = (), timing: Timing | None = None) -> Results:
    """Judge and draw all that was measured in a folder; write `results.json` and `report/index.html`.

    Args:
        folder: of a run; it holds its settings and its cells.
        failures: the cells whose measurement failed just now. Failures are not stored.
        timing: of the run; without one, that of the folder's earlier results is kept.

    Returns:
        What is in `results.json` now.

    Raises:
        FileNotFoundError: no run has begun in that folder.
        ValueError: the settings in the folder cannot be read.
    """
    settings, claim_ids = read_settings(folder)
    plans = planned_cells(claim_ids, settings)
    records = stored_records(Store(folder), (cell for cells in plans.values() for cell in cells))
    entries = [assess(claim_id, cells, records, failures, settings.part) for claim_id, cells in plans.items()]
    figures = {entry["id"]: illustrate(entry, plans[entry["id"]], records) for entry in entries}
    for entry in entries:
        faults = ((figure, figure_fault(figure)) for figure in figures[entry["id"]])
        entry["notes"] += [f"The figure “{f.title}” cannot be drawn: {fault}." for f, fault in faults if fault]
    timing = timing or _earlier_timing(folder)
    results = summarise(
        entries,
        settings,
        records.values(),
        started=timing.started,
        finished=timing.finished,
        seconds=timing.seconds,
    )
    write_json(folder / RESULTS_FILE, results)
    write_text(folder / REPORT_FILE, render(results, figures))
    return results


def _earlier_timing(folder: Path) -> Timing:
    """The timing in `results.json`; empty if the run was interrupted before it had results."""
    path = folder / RESULTS_FILE
    if not path.exists():
        return Timing("", "", 0.0)
    content = json.loads(path.read_text(encoding="utf-8"))
    return Timing(content["started"], content["finished"], content["seconds"])
