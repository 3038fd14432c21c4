"""From a folder of records to `results.json` and the report."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nonsmooth.claims.framework.part import planned_cells
from nonsmooth.claims.framework.results import Results, assess, illustrate, stored_records, summarise
from nonsmooth.claims.framework.run_folder import (
    REPORT_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    read_settings,
    write_json,
    write_text,
)
from nonsmooth.lab import Cell, LabError, Store
from nonsmooth.lab.folder import Folder
from nonsmooth.lab.values import checked_seconds
from nonsmooth.report.page import figure_fault, render

_RESULTS_LIMIT = 1 << 26


@dataclass(frozen=True)
class Timing:
    """When a run took place: ISO 8601 times, and the seconds of wall time between them."""

    started: str
    finished: str
    seconds: float


def check_report_folder(folder: Path) -> None:
    """Make sure, before hours of work, that nothing else stands in the place of the report's folder.

    Raises:
        LabError: a link or another thing does.
    """
    try:
        Folder(folder).check(REPORT_FILE.parent.name)
    except OSError as error:
        raise LabError(f"cannot write {folder / REPORT_FILE}: {error.strerror or error}") from error


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
        ValueError: the settings in the folder cannot be read, or they name no claim that exists.
        LabError: the folder cannot be written, or a link stands in the place of a folder in it.
    """
    store = Store(folder)
    store.check()
    settings, parts = read_settings(folder)
    if not parts:
        raise ValueError(f"{folder / SETTINGS_FILE} names no claim that exists")
    plans = planned_cells(parts, settings, parts)
    records = stored_records(store, (cell for cells in plans.values() for cell in cells))
    entries = [assess(claim_id, cells, records, failures, parts[claim_id]) for claim_id, cells in plans.items()]
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
    write_text(folder / REPORT_FILE, render(results, figures, parts), within=folder)
    return results


def _earlier_timing(folder: Path) -> Timing:
    """The timing in `results.json`; empty if the run was interrupted before it had results, or if they are not whole.

    That they are not whole is said by a warning.
    """
    try:
        content = json.loads(Folder(folder).read(RESULTS_FILE, limit=_RESULTS_LIMIT))
        started, finished = content["started"], content["finished"]
        for moment in (started, finished):
            if moment != "":  # as a run that was interrupted left it
                datetime.fromisoformat(moment)
        return Timing(started, finished, checked_seconds(content["seconds"]))
    except FileNotFoundError:
        pass
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        warnings.warn(
            f"{folder / RESULTS_FILE} does not hold the results of a run ({reason}); it is written anew, without times",
            stacklevel=3,
        )
    return Timing("", "", 0.0)
