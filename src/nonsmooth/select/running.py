"""Run the user's functions in the lab's cells: in this process, in others, or on an executor."""

from __future__ import annotations

import contextlib
import importlib
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


@dataclass(frozen=True)
class Workers:
    """Who measures cells.

    Attributes:
        count: how many at once. One is a thread of this process, so that no other one has to import the functions.
        executor: in place of processes of the lab.
        watcher: is told how the run goes.

    Raises:
        ValueError: the count is less than 1.
    """

    count: int = 1
    executor: Executor | None = None
    watcher: Watcher | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise ValueError(f"workers is {self.count!r}; accepted are whole numbers of at least 1")

    def measured(self, cells: Sequence[Cell], measure: UserCode, folder: Path) -> dict[Cell, Record]:
        """The records of cells, from the folder or measured now.

        Raises:
            TypeError: another process could not import one of the functions.
            LabError: a measurement raised, the folder is in use, or a worker process died; what is stored stays.
            Interrupted: on Ctrl-C or a request to terminate.
        """
        store, context = Store(folder), Context()
        if self.executor is not None or self.count != 1:
            if self.executor is None:
                check_importable(measure.functions())
            how: Any = {"workers": self.count, "executor": self.executor, "watcher": self.watcher}
            outcome = run(cells, measure, store, context=context, **how)
        else:
            with _this_process() as (here, stopping):
                measure = replace(measure, stopping=stopping)
                outcome = run(cells, measure, store, context=context, executor=here, watcher=self.watcher)
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
    limits = importlib.import_module("threadpoolctl")
    # The lab sets this process to one thread.
    try:
        with limits.threadpool_limits(), ThreadPoolExecutor(1) as executor:
            try:
                yield executor, stopping
            finally:
                stopping.set()
    finally:
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
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(number)
        np.random.seed(number)
        random.seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


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
