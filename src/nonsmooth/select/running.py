"""Run the user's functions in the lab's cells: in this process, in others, or on an executor."""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nonsmooth.lab import Cell, Context, LabError, Record, Store, Watcher, run


@dataclass(frozen=True)
class UserCode:
    """A measurement that calls functions of the user; a base class.

    Attributes:
        stopping: in this process, is set once nobody waits for the measurement any more.
    """

    stopping: threading.Event | None = field(default=None, kw_only=True)

    def __call__(self, cell: Cell, context: Context) -> Mapping[str, Any]:
        """Measure one cell."""
        raise NotImplementedError

    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The user's functions, by the arguments that they came in."""
        raise NotImplementedError

    def stop_if_asked(self) -> None:
        """Raise where nobody waits any more; called where what has been done so far is stored."""
        if self.stopping is not None and self.stopping.is_set():
            raise LabError("the run was stopped")


def measured(
    cells: Sequence[Cell],
    measure: UserCode,
    folder: Path,
    *,
    workers: int,
    executor: Executor | None,
    watcher: Watcher | None,
) -> dict[Cell, Record]:
    """The records of cells, from the folder or measured now.

    One worker is a thread of this process, so that functions of a notebook need not be imported by another one.

    Raises:
        TypeError: another process could not import one of the functions.
        ValueError: `workers` is less than 1.
        LabError: a measurement raised, the folder is in use, or a worker process died; what is stored stays.
        Interrupted: on Ctrl-C or a request to terminate.
    """
    store, context = Store(folder), Context()
    if executor is not None or workers != 1:
        if executor is None:
            check_importable(measure.functions())
        outcome = run(cells, measure, store, context=context, workers=workers, executor=executor, watcher=watcher)
    else:
        with _this_process() as (here, stopping):
            here_measure = replace(measure, stopping=stopping)
            outcome = run(cells, here_measure, store, context=context, executor=here, watcher=watcher)
    if outcome.failures:
        cell, text = next(iter(outcome.failures.items()))
        raise LabError(
            f"{len(outcome.failures)} of {len(cells)} cells failed, and what the others gave is stored. Of seed "
            f"{cell.seed}:\n{text}"
        )
    return dict(outcome.records)


@contextlib.contextmanager
def _this_process() -> Iterator[tuple[Executor, threading.Event]]:
    """A thread that measures; if the block raises, it ends at the next point at which nothing is lost."""
    threads, stopping = torch.get_num_threads(), threading.Event()
    # The lab sets this process to one thread.
    with threadpool_limits(), ThreadPoolExecutor(1) as executor:
        try:
            yield executor, stopping
        finally:
            stopping.set()
    torch.set_num_threads(threads)


def check_importable(functions: Mapping[str, Callable[..., Any] | None]) -> None:
    """Raise unless other processes can import the functions.

    Raises:
        TypeError: one is a lambda, a function within a function, or of a notebook.
    """
    in_console = not hasattr(sys.modules.get("__main__"), "__file__")
    for name, function in functions.items():
        try:
            pickle.dumps(function)
            importable = not (in_console and getattr(function, "__module__", None) == "__main__")
        except (pickle.PicklingError, AttributeError, TypeError):
            importable = False
        if not importable:
            raise TypeError(
                f"{name} is {function!r}; with more than one worker, accepted is a function that another process can "
                "import by name, from a file. With workers=1 any function will do"
            )


@contextlib.contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """A block in which the global generators of torch, NumPy and Python draw from these seeds; then as before."""
    number = int(np.random.SeedSequence([abs(seed) for seed in seeds]).generate_state(1)[0])
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        random.seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def checked_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds as a tuple.

    Raises:
        ValueError: there is none, or one is there twice, is negative or is not a whole number.
    """
    found = tuple(seeds)
    whole = all(isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0 for seed in found)
    if not found or not whole or len(set(found)) < len(found):
        raise ValueError(f"seeds is {found!r}; accepted are different whole numbers of at least 0, at least one")
    return tuple(int(seed) for seed in found)
