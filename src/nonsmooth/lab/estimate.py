"""How long a run will take: declared costs, corrected by what the cells really took."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nonsmooth.lab.cell import Cell

SHORTEST_CALIBRATION = 2.0
"""Seconds below which a cell's time says more about loading libraries than about the machine."""


def calibrating_cell(cells: Iterable[Cell]) -> Cell:
    """The cell to time first: the cheapest one that is long enough to tell, else the most expensive one."""
    ordered = sorted(cells, key=lambda cell: cell.cost)
    return next((cell for cell in ordered if cell.cost >= SHORTEST_CALIBRATION), ordered[-1])


def start_order(cells: Iterable[Cell]) -> list[Cell]:
    """The calibrating cell, then the others, most expensive first, so that none starts a long one at the end."""
    cells = list(cells)
    first = calibrating_cell(cells)
    return [first, *sorted((cell for cell in cells if cell != first), key=lambda cell: -cell.cost)]


@dataclass
class _Spent:
    """Seconds measured against seconds declared."""

    measured: float = 0.0
    declared: float = 0.0


class TimeEstimate:
    """The wall time left of a run.

    The machine's factor is the seconds measured over the seconds declared, of the finished cells and of the done
    fractions of those in flight. A claim whose cells were timed has a factor of its own, because the costs of one
    claim are declared in one place and tend to be wrong together.

    Args:
        cells: those to measure, in the order in which they will start.
        workers: how many run at once.
    """

    def __init__(self, cells: Iterable[Cell], workers: int) -> None:
        self._left = dict.fromkeys(cells)
        self._workers = workers
        self._flight: dict[Cell, tuple[float, float]] = {}
        self._total = _Spent()
        self._claims: dict[str, _Spent] = {}

    def finish(self, cell: Cell, seconds: float | None) -> None:
        """The cell took so many seconds, or None if it failed and its time tells nothing."""
        self._left.pop(cell, None)
        self._flight.pop(cell, None)
        if seconds is not None:
            for spent in (self._total, self._claims.setdefault(cell.claim, _Spent())):
                spent.measured += seconds
                spent.declared += cell.cost

    def progress(self, cell: Cell, fraction: float, elapsed: float) -> None:
        """The cell has run for so many seconds and is done to this fraction."""
        self._flight[cell] = (fraction, elapsed)

    def remaining(self) -> float:
        """Seconds of wall time until the last cell ends, if they start in their order as workers become free."""
        busy = [self._left_of(cell) for cell in self._left if cell in self._flight]
        busy += [0.0] * (self._workers - len(busy))
        heapq.heapify(busy)
        for cell in self._left:
            if cell not in self._flight:
                heapq.heappush(busy, heapq.heappop(busy) + self._factor(cell.claim) * cell.cost)
        return max(busy)

    def _left_of(self, cell: Cell) -> float:
        fraction, elapsed = self._flight[cell]
        if fraction > 0:
            return elapsed * (1 - fraction) / fraction
        return max(0.0, self._factor(cell.claim) * cell.cost - elapsed)

    def _factor(self, claim: str) -> float:
        spent = self._claims.get(claim, self._total)
        measured, declared = spent.measured, spent.declared
        for cell, (fraction, elapsed) in self._flight.items():
            if fraction > 0 and (spent is self._total or cell.claim == claim):
                measured += elapsed
                declared += fraction * cell.cost
        return measured / declared if declared > 0 else 1.0


class PacedProgress:
    """Progress of a long run in time, not in steps, from the pace of its own steps on the machine that is there.

    Loading and the first steps, which compile and fill caches, are slow: in steps they would make a run of two minutes
    look like one of a day.

    Args:
        progress: is told the fraction of the run's time that is over.
        steps: of the run.
        first: steps that are not timed.
    """

    def __init__(self, progress: Callable[[float], None], steps: int, first: int = 20) -> None:
        self._progress, self._steps, self._first = progress, steps, first
        self._start = time.perf_counter()
        self._warm = 0.0

    def __call__(self, fraction: float) -> None:
        """The fraction of the steps that is done."""
        done, elapsed = round(fraction * self._steps), time.perf_counter() - self._start
        if done <= self._first:
            self._warm = elapsed
            return
        pace = (elapsed - self._warm) / (done - self._first)
        self._progress(elapsed / (elapsed + pace * (self._steps - done)) if done < self._steps else 1.0)
