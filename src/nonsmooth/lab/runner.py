"""Run cells: those that are stored are read, the others measured, on this machine's cores or on any executor."""

from __future__ import annotations

import contextlib
import pickle
import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from nonsmooth.lab.cell import Cell, Context, Record
from nonsmooth.lab.errors import Interrupted, LabError
from nonsmooth.lab.estimate import Estimate, calibrating_cell, dearest_first
from nonsmooth.lab.origin import available_cores
from nonsmooth.lab.store import PROGRESS_SUFFIX, Store, UnreadableRecordError
from nonsmooth.lab.watcher import SilentWatcher, Watcher
from nonsmooth.lab.worker import Measure, Measured, Task, measure_task, no_interrupts_for_children, worker_pool

_POLL = 0.25
_SILENT = SilentWatcher()
_RESUME = "The records stored so far are kept, and the same call goes on from there"


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        records: of the cells that are stored, in the order in which they were asked for, as read back from the disk.
        failures: the traceback of each cell whose measurement raised.
    """

    records: Mapping[Cell, Record]
    failures: Mapping[Cell, str]


def run(
    cells: Iterable[Cell],
    measure: Measure,
    store: Store,
    *,
    context: Context,
    workers: int = 1,
    executor: Executor | None = None,
    fresh: bool = False,
    watcher: Watcher = _SILENT,
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
        watcher: is told how the run goes.

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
            if executor is None:
                workers = _capped(workers, watcher)
            crew = _Crew(measure, store, context, watcher, Estimate(_start_order(missing), workers))
            with worker_pool(workers) if executor is None else contextlib.nullcontext(executor) as pool:
                crew.measure_all(missing, pool)
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


def _start_order(cells: Sequence[Cell]) -> list[Cell]:
    """The calibrating cell, then the others, dearest first."""
    first = calibrating_cell(cells)
    return [first, *(cell for cell in dearest_first(cells) if cell != first)]


class _Crew:
    """One run's cells in flight, from their start to their record."""

    def __init__(self, measure: Measure, store: Store, context: Context, watcher: Watcher, estimate: Estimate) -> None:
        self.records: dict[Cell, Record] = {}
        self.failures: dict[Cell, str] = {}
        self._measure = measure
        self._store = store
        self._context = context
        self._watcher = watcher
        self._estimate = estimate
        self._pending: dict[Future[Measured], Cell] = {}
        # Finished futures and signal numbers, in the order in which they came.
        self._events: queue.SimpleQueue[Future[Measured] | int] = queue.SimpleQueue()
        # When a cell was first seen to run, and the fraction that was told last.
        self._flight: dict[Cell, tuple[float, float]] = {}
        self._calibrated = False
        self._told = -1
        self._next_look = 0.0

    def measure_all(self, cells: Sequence[Cell], executor: Executor) -> None:
        """Measure the cells, the first one alone to time this machine."""
        first, *others = _start_order(cells)
        start = time.monotonic()
        try:
            with _signals(self._events):
                self._submit([first], executor)
                self._collect()
                self._calibrated = True
                self._watcher.estimated(time.monotonic() - start + self._estimate.remaining())
                self._submit(others, executor)
                self._collect()
        except Interrupted as interruption:
            self._keep_finished()
            raise Interrupted(f"interrupted. {_RESUME}", interruption.signal_number) from None
        except BrokenExecutor as error:
            self._keep_finished()
            raise LabError(
                "a worker process ended unexpectedly: it was killed, perhaps for lack of memory, or it crashed. "
                f"{_RESUME}; fewer workers need less memory"
            ) from error
        finally:
            for path in self._progress_files():
                path.unlink(missing_ok=True)

    def _submit(self, cells: Sequence[Cell], executor: Executor) -> None:
        with no_interrupts_for_children():
            for cell in cells:
                scratch = self._store.scratch(cell).absolute()
                context = Context(self._context.device, self._context.data, scratch)
                task = Task(self._measure, cell, context, scratch.with_name(cell.key + PROGRESS_SUFFIX))
                future = executor.submit(measure_task, task)
                self._pending[future] = cell
                future.add_done_callback(self._events.put)

    def _collect(self) -> None:
        """Store what finishes, tell what goes on, until nothing is pending."""
        while self._pending:
            try:
                event = self._events.get(timeout=_POLL)
            except queue.Empty:
                pass
            else:
                if isinstance(event, int):
                    raise Interrupted("", event)
                self._settle(event)
            self._look()

    def _settle(self, future: Future[Measured]) -> None:
        cell = self._pending.pop(future)
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        if error is not None:
            # The task could not be sent, or its result could not: the measurement itself never raises here.
            self._fail(cell, f"{type(error).__name__}: {error}")
            return
        measured = future.result()
        if measured.failure is not None:
            self._fail(cell, measured.failure)
            return
        self._store.save(Record(cell, measured.values, measured.seconds, measured.origin))
        record = self._store.read(cell)
        if record is None:
            raise LabError(f"{self._store.path(cell)} was stored and is gone; something else removes files there")
        self.records[cell] = record
        self._estimate.finish(cell, measured.seconds)
        self._watcher.finished(cell, record)

    def _fail(self, cell: Cell, message: str) -> None:
        self.failures[cell] = message
        self._estimate.finish(cell, None)
        self._watcher.failed(cell, message)

    def _keep_finished(self) -> None:
        """Store what has finished; what has not started never will."""
        for future in list(self._pending):
            future.cancel()
        with contextlib.suppress(queue.Empty, BrokenExecutor):
            while True:
                event = self._events.get_nowait()
                if not isinstance(event, int):
                    self._settle(event)

    def _progress_files(self) -> list[Path]:
        return list((self._store.folder / "scratch").glob(f"*{PROGRESS_SUFFIX}"))

    def _look(self) -> None:
        """Read how far the cells in flight are, at most a few times a second, and tell what has changed."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _POLL
        flying = {path.name.removesuffix(PROGRESS_SUFFIX): path for path in self._progress_files()}
        for cell in self._pending.values():
            if cell.key in flying:
                self._look_at(cell, flying[cell.key], now)
        if self._calibrated:
            self._tell_remaining()

    def _look_at(self, cell: Cell, path: Path, now: float) -> None:
        try:
            fraction = float(path.read_text())
        except FileNotFoundError:
            return
        started, told = self._flight.get(cell, (now, 0.0))
        self._flight[cell] = (started, fraction)
        self._estimate.progress(cell, fraction, now - started)
        if fraction != told:
            self._watcher.progressed(cell, fraction)

    def _tell_remaining(self) -> None:
        seconds = self._estimate.remaining()
        if round(seconds) != self._told:
            self._told = round(seconds)
            self._watcher.remaining(seconds)


@contextlib.contextmanager
def _signals(events: queue.SimpleQueue[Future[Measured] | int]) -> Iterator[None]:
    """Turn the first Ctrl-C or request to terminate into an event; a second one acts as it would without us.

    Only the main thread may handle signals; elsewhere they are left to whoever handles them there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        events.put(number)  # SimpleQueue.put is made to be called from signal handlers
        signal.signal(number, before[signal.Signals(number)])

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, ask_to_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
