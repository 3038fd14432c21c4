"""The cells of one run in flight: started, watched, stored as they finish, kept when the run is stopped."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor

from nonsmooth.lab.cell import Cell, Context, Record
from nonsmooth.lab.errors import Interrupted, LabError
from nonsmooth.lab.estimate import TimeEstimate, start_order
from nonsmooth.lab.stop_signals import stop_signals
from nonsmooth.lab.store import Store
from nonsmooth.lab.watcher import Watcher
from nonsmooth.lab.worker import (
    CellTask,
    Measure,
    Measured,
    measure_task,
    no_interrupts_for_children,
    notice_dead_workers,
    worker_pool,
)

_POLL = 0.25
_PATIENCE = 10.0
"""Seconds that an executor may take to start the first cell until the user is told."""

_RESUME = "The records stored so far are kept, and the same call goes on from there"


class Crew:
    """One run's cells in flight, from their start to their record."""

    def __init__(
        self, measure: Measure, store: Store, context: Context, watcher: Watcher, cells: Sequence[Cell], workers: int
    ) -> None:
        self.records: dict[Cell, Record] = {}
        self.failures: dict[Cell, str] = {}
        self._measure = measure
        self._store = store
        self._context = context
        self._watcher = watcher
        self._cells = start_order(cells)
        self._worker_count = workers
        self._estimate = TimeEstimate(self._cells, workers)
        self._pending: dict[Future[Measured], Cell] = {}
        # Futures as they finish; None wakes the loop up.
        self._events: queue.SimpleQueue[Future[Measured] | None] = queue.SimpleQueue()
        self._asked_to_stop: list[int] = []
        self._own_pool: ProcessPoolExecutor | None = None
        # When a cell was first seen to run, and the fraction that was told last.
        self._flight: dict[Cell, tuple[float, float]] = {}
        self._calibrated = False
        self._told = -1
        self._next_look = 0.0
        # When to say that no worker measures; infinite once one does.
        self._say_idle_at = float("inf")

    def measure_all(self, executor: Executor | None) -> None:
        """Measure the cells, the first one alone to time this machine; keep what is finished if that is stopped."""
        try:
            with stop_signals(self._ask_to_stop), self._workers(executor) as pool:
                self._start_and_collect(pool)
        except Interrupted as interruption:
            self._keep_finished()
            raise Interrupted(f"interrupted. {_RESUME}", interruption.signal_number) from None
        except BrokenExecutor as error:
            self._keep_finished()
            if self._asked_to_stop:  # a request to the whole group of processes has ended the workers as well
                raise Interrupted(f"interrupted. {_RESUME}", self._asked_to_stop[0]) from None
            raise LabError(
                "a worker process ended unexpectedly: it was killed, perhaps for lack of memory, or it crashed. "
                f"{_RESUME}; fewer workers need less memory"
            ) from error
        except _ClosedError as closed:
            self._keep_finished()
            raise LabError(
                f"the executor was closed, or gave cells back, before all were measured ({closed}). {_RESUME}"
            ) from closed.__cause__
        finally:
            self._store.forget_progress(self._cells)

    @contextlib.contextmanager
    def _workers(self, executor: Executor | None) -> Iterator[Executor]:
        """Our own processes, or the caller's executor, which is not shut down."""
        if executor is None:
            with worker_pool(self._worker_count) as self._own_pool:
                yield self._own_pool
        else:
            self._say_idle_at = time.monotonic() + _PATIENCE
            with _cancelled_if_stopped(self._pending):
                yield executor

    def _start_and_collect(self, executor: Executor) -> None:
        start = time.monotonic()
        self._submit(self._cells[:1], executor)
        self._collect()
        self._calibrated = True
        self._watcher.estimated(time.monotonic() - start + self._estimate.remaining())
        self._submit(self._cells[1:], executor)
        self._collect()

    def _ask_to_stop(self, signal_number: int) -> None:
        """Called from a signal handler, for which appending and `SimpleQueue.put` are safe."""
        self._asked_to_stop.append(signal_number)
        self._events.put(None)

    def _submit(self, cells: Sequence[Cell], executor: Executor) -> None:
        with no_interrupts_for_children():
            for cell in cells:
                scratch = self._store.scratch(cell).absolute()
                context = Context(self._context.device, self._context.data, scratch)
                task = CellTask(self._measure, cell, context, self._store.progress_file(cell).absolute())
                try:
                    future = executor.submit(measure_task, task)
                except (BrokenExecutor, TypeError, AttributeError):  # died, or the measurement cannot be sent
                    raise
                # Executors differ in what they raise once they are closed.
                except Exception as error:
                    raise _ClosedError(_reason(error)) from error
                self._pending[future] = cell
                future.add_done_callback(self._events.put)

    def _collect(self) -> None:
        """Store what finishes, tell what goes on, until nothing is pending."""
        while self._pending:
            try:
                future = self._events.get(timeout=_POLL)
            except queue.Empty:
                future = None
            # Before anything else: many large records may be waiting to be stored.
            if self._asked_to_stop:
                raise Interrupted("", self._asked_to_stop[0])
            if future is not None:
                self._settle(future)
            self._look()

    def _settle(self, future: Future[Measured]) -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        if isinstance(error, CancelledError):
            raise _ClosedError(_reason(error)) from error
        self._say_idle_at = float("inf")
        cell = self._pending.pop(future)
        if error is not None:
            # The task could not be sent, or its result could not: the measurement itself never raises here.
            self._fail(cell, f"{type(error).__name__}: {error}")
            return
        measured = future.result()
        for remark in measured.remarks:
            self._watcher.warned(remark)
        if measured.failure is not None:
            self._fail(cell, measured.failure)
            return
        self._store.save(Record(cell, measured.values, measured.seconds, measured.origin))
        record = self._store.read(cell)
        if record is None:
            raise LabError(f"{self._store.path(cell)} was stored and has gone: another program removes files there")
        self.records[cell] = record
        self._estimate.finish(cell, measured.seconds)
        self._watcher.finished(cell, record)

    def _fail(self, cell: Cell, message: str) -> None:
        self.failures[cell] = message
        self._estimate.finish(cell, None)
        self._watcher.failed(cell, message)

    def _keep_finished(self) -> None:
        """Store what has finished; nothing else is going to."""
        for future in list(self._pending):
            lost = BrokenExecutor, CancelledError
            if future.done() and not future.cancelled() and not isinstance(future.exception(), lost):
                self._settle(future)

    def _look(self) -> None:
        """Read how far the cells in flight are, at most a few times a second, and tell what has changed."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _POLL
        if self._own_pool is not None:
            notice_dead_workers(self._own_pool)
        flying = self._store.in_progress()
        for cell in self._pending.values():
            if cell.key in flying:
                self._look_at(cell, now)
        if self._calibrated:
            self._tell_remaining()
        if self._flight or any(future.running() for future in self._pending):
            self._say_idle_at = float("inf")
        elif now >= self._say_idle_at:
            self._say_idle_at = float("inf")
            self._watcher.warned(
                f"no worker has taken a cell yet, as far as can be seen from here, after {_PATIENCE:.0f} seconds. Are "
                "the executor's workers connected, and not busy with other work? The run goes on waiting"
            )

    def _look_at(self, cell: Cell, now: float) -> None:
        fraction = self._store.progress(cell)
        if fraction is None:
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
def _cancelled_if_stopped(pending: Mapping[Future[Measured], Cell]) -> Iterator[None]:
    """If the block raises, take back what has not started; what has is the executor's."""
    try:
        yield
    except BaseException:
        for future in list(pending):
            future.cancel()
        raise


class _ClosedError(Exception):
    """The executor measures no more; the message says why, as far as it tells."""


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
