"""Run cells: those that are stored are read, the others measured, on this machine's cores or on any executor."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from nonsmooth.lab.cell import Cell, Context, Record
from nonsmooth.lab.crew import Crew
from nonsmooth.lab.notebook import watcher_here
from nonsmooth.lab.origin import available_cores
from nonsmooth.lab.store import Store, UnreadableRecordError
from nonsmooth.lab.watcher import Watcher
from nonsmooth.lab.worker import Measure
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True)
class Outcome(Tabular):
    """What came of a run.

    Attributes:
        records: of the cells that are stored, in the order in which they were asked for, as read back from the disk.
        failures: the traceback of each cell whose measurement raised.
    """

    records: Mapping[Cell, Record]
    failures: Mapping[Cell, str]

    def __str__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{len(self.records)} cells stored{failed}"

    def rows(self) -> list[Row]:
        """A row for each record: claim and seed, the cell's parameters, the values measured, and the seconds."""
        rows = [
            {"claim": cell.claim, "seed": cell.seed, **cell.parameters, **record.values, "seconds": record.seconds}
            for cell, record in self.records.items()
        ]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return [{name: row.get(name) for name in names} for row in rows]


def run(
    cells: Iterable[Cell],
    measure: Measure,
    store: Store,
    *,
    context: Context,
    workers: int = 1,
    executor: Executor | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Measure the cells that are not stored yet, and read the others.

    Each cell is measured on one thread, so its bits depend neither on the number of workers nor on interruptions.

    Args:
        cells: what to measure; a cell that occurs twice is measured once.
        measure: a pure function of the cell that another process can import by name.
        store: where the records are kept; it is locked for the time of the run.
        context: device and data for each measurement; its scratch folder and progress callback are set per cell.
        workers: how many processes measure at once, at most the number of available cores. With an executor: how
            many cells it runs at once, which only the estimate of the time uses.
        executor: measures in place of the lab's own processes, for instance `distributed.Client(...).get_executor()`.
        fresh: measure all cells anew.
        watcher: is told how the run goes; None for a progress bar in a notebook, and nothing elsewhere.

    Raises:
        TypeError: another process could not import `measure`.
        ValueError: `workers` is less than 1.
        LabError: the folder is in use, the disk refuses, or a worker process died.
        Interrupted: on Ctrl-C or a request to terminate.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; accepted are integers from 1")
    if executor is None:
        _check_importable(measure)
    watcher = watcher_here() if watcher is None else watcher
    asked = list(dict.fromkeys(cells))
    with store.lock():
        store.clean()
        if fresh:
            store.discard(asked)
        records = _stored(asked, store, watcher)
        missing = [cell for cell in asked if cell not in records]
        watcher.planned(len(asked), len(records))
        failures: dict[Cell, str] = {}
        if missing:
            store.prepare(missing)
            if executor is None:
                workers = _capped(workers, watcher)
            crew = Crew(measure, store, context, watcher, missing, workers)
            crew.measure_all(executor)
            records |= crew.records
            failures = crew.failures
    return Outcome({cell: records[cell] for cell in asked if cell in records}, failures)


def _check_importable(measure: Measure) -> None:
    try:
        pickle.dumps(measure)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"measure is {measure!r}; accepted is a function that another process can import by name"
        ) from error


def _capped(workers: int, watcher: Watcher) -> int:
    cores = available_cores()
    if workers > cores:
        watcher.warned(f"{workers} workers were asked for, but {cores} cores are available; {cores} are used")
    return min(workers, cores)


def _stored(cells: Sequence[Cell], store: Store, watcher: Watcher) -> dict[Cell, Record]:
    found = ((cell, _stored_record(cell, store, watcher)) for cell in cells)
    return {cell: record for cell, record in found if record is not None}


def _stored_record(cell: Cell, store: Store, watcher: Watcher) -> Record | None:
    try:
        return store.read(cell)
    except UnreadableRecordError as error:
        watcher.warned(str(error))
        return None
