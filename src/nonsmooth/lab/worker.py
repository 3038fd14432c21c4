"""The process that measures: one thread, no signals of its own, gone when its parent is."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nonsmooth.lab.cell import Cell, Context
from nonsmooth.lab.checkpoint import collected_remarks
from nonsmooth.lab.folder import Folder
from nonsmooth.lab.origin import describe_origin
from nonsmooth.lab.values import plain_values

Measure = Callable[[Cell, Context], Mapping[str, Any]]
"""A function that another process can import by name: one cell to its values."""

_PROGRESS_INTERVAL = 0.25
_ENVIRONMENT = {
    # Read when the libraries load, so they must be set before a worker starts.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # cuBLAS is deterministic only with a workspace of fixed size.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass(frozen=True)
class CellTask:
    """What a worker needs to measure one cell.

    Attributes:
        measure: the function to call.
        cell: the cell to call it with.
        context: the context to call it with; its progress callback is replaced by the file.
        progress_file: where the fraction done is written for the parent to read.
    """

    measure: Measure
    cell: Cell
    context: Context
    progress_file: Path


@dataclass(frozen=True)
class Measured:
    """What came of a task: values, or the traceback of what was raised; and what the user should know of it."""

    values: Mapping[str, Any]
    seconds: float
    origin: Mapping[str, Any]
    failure: str | None = None
    remarks: tuple[str, ...] = ()


class _ProgressFile:
    """Writes the fraction done where the parent can read it, a few times a second at most.

    A file works alike for a process pool, a thread pool and a cluster with a shared disk, and cannot block.
    """

    def __init__(self, path: Path) -> None:
        # From the store's folder on, so that the folder between is not reached through a link.
        self._folder = Folder(path.parent.parent)
        self._parts = (path.parent.name, path.name)
        self._last = -float("inf")

    def __call__(self, fraction: float) -> None:
        now = time.monotonic()
        if now - self._last < _PROGRESS_INTERVAL:
            return
        self._last = now
        # Progress is only told, never needed: a full disk must stop the run at a record, with a clear message.
        with contextlib.suppress(OSError):
            self._folder.write(repr(float(fraction)).encode(), *self._parts, flush=False)

    def remove(self) -> None:
        """The cell is no longer in flight."""
        with contextlib.suppress(OSError):
            self._folder.remove_file(*self._parts)


def measure_task(task: CellTask) -> Measured:
    """Measure one cell on one thread; whatever the measurement raises comes back as text."""
    _use_one_thread(task.context.device)
    progress = _ProgressFile(task.progress_file)
    with collected_remarks() as remarks:
        measured = _measure(task, progress)
    return replace(measured, remarks=tuple(remarks))


def _measure(task: CellTask, progress: _ProgressFile) -> Measured:
    try:
        if task.context.scratch is not None:
            # The store's folder, the folder in it, the cell's: no link may lead from the first to the last.
            *root, shelf, key = task.context.scratch.parts
            Folder(Path(*root)).make(shelf, key)
        progress(0.0)
        start = time.perf_counter()
        values = task.measure(task.cell, replace(task.context, progress=progress))
        seconds = time.perf_counter() - start
        return Measured(plain_values(values), seconds, describe_origin(task.context.device))
    except (Exception, SystemExit):
        return Measured({}, 0.0, {}, traceback.format_exc())
    finally:
        progress.remove()


def _use_one_thread(device: str) -> None:
    """Fix what could make the bits depend on the machine's load: threads, and the choice of CUDA kernels."""
    # Imported here because they are slow to load, and of the lab only the workers need them.
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    importlib.import_module("threadpoolctl").threadpool_limits(limits=1)
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True, warn_only=True)


def _prepare_worker() -> None:
    """What a worker of our own pool does first."""
    threading.Thread(target=_exit_with_parent, daemon=True, name="exit-with-parent").start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module("torch").set_num_interop_threads(1)


def _exit_with_parent() -> None:
    """Wait for the parent to end, however it ends, and end this process at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A process pool whose workers are killed if the block raises."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    with no_interrupts_for_children():  # the pool starts the process that frees its semaphores
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        yield pool
    except BaseException:
        _kill(pool)
        raise
    finally:
        pool.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def notice_dead_workers(pool: ProcessPoolExecutor) -> None:
    """If a worker has died, end the others, as the pool itself does once it notices.

    It does not notice a worker that died while it sent a result: it waits for the rest of the result.
    """
    if any(process.exitcode is not None for process in _processes(pool)):
        _end_workers(pool)


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the workers now, whatever they do; a measurement may not look at signals for minutes."""
    _end_workers(pool)
    pool.shutdown(cancel_futures=True)


def _processes(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    # Before Python 3.14, the standard library has no public way to the workers.
    return list((pool._processes or {}).values())


def _end_workers(pool: ProcessPoolExecutor) -> None:
    processes = _processes(pool)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    # A worker that was killed while it sent a result leaves a part of it in the pipe. Our own end for writing, which
    # is never written to, is the last one open: closing it ends the wait of the pool's thread for the other part.
    results: Any = pool._result_queue
    if results is not None:
        results._writer.close()


@contextlib.contextmanager
def no_interrupts_for_children() -> Iterator[None]:
    """Start child processes that never see what a terminal sends to all; ours is delivered afterwards.

    Not even while they load. The process of the standard library that frees semaphores is one of them: a terminal that
    is closed must not end it before us.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
