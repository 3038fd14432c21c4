"""Live progress of a run: on a terminal a picture that changes, elsewhere a line every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nonsmooth.claims.framework.results import JUDGED, assess, stored_records
from nonsmooth.cli.listing import verdict_text
from nonsmooth.cli.terminal import OutputError, foreign
from nonsmooth.lab import Cell, Record, SilentWatcher, Store
from nonsmooth.report.summary import duration

LINE_EVERY = 5.0
"""Seconds between the lines that a log gets."""

BAR_WIDTH = 24


class Progress(SilentWatcher):
    """Counts what is done, and tells a claim's verdict as soon as its last cell is there.

    Args:
        console: where it prints.
        plans: all cells of each claim, also those that this run leaves out.
        cells: those that this run is about.
        store: where the records are.
        workers: how many cells are measured at once.
        fresh: whether stored records are discarded.
    """

    def __init__(
        self,
        console: Console,
        plans: Mapping[str, Sequence[Cell]],
        cells: Sequence[Cell],
        store: Store,
        workers: int,
        fresh: bool,
    ) -> None:
        self._console = console
        # In the plan's order, in which the claim is judged at the end too.
        self._plans = {claim_id: dict.fromkeys(plan) for claim_id, plan in plans.items()}
        self._store = store
        self._workers = workers
        asked = frozenset(cells)
        self._cells = asked
        everything = asked.union(*self._plans.values())
        self._done = {c for c in everything if store.has(c) and not (fresh and c in asked)}
        self._failed: set[Cell] = set()
        self._flight: dict[Cell, float] = {}
        self._left: float | None = None
        self._began = time.monotonic()
        # The live picture is drawn by a thread of its own.
        self._lock = threading.RLock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""

    @abstractmethod
    def _changed(self) -> None:
        """Show the new state, if it is time to."""

    def planned(self, cells: int, cached: int) -> None:
        """Print what is about to happen, with the time that the claims themselves declare."""
        missing = [cell.cost for cell in self._cells - self._done]
        text = f"{_plural(len(self._plans), 'claim')}, {_plural(cells, 'cell')}"
        if cached:
            text += f", {cached} of them measured already"
        if missing:
            workers = min(self._workers, len(missing))
            guess = max(sum(missing) / workers, *missing, 0.0)
            text += f"; by the claims' own guess {duration(guess)} on {_plural(workers, 'worker')}"
        self._say(Text(f"{text}."))

    def estimated(self, seconds: float) -> None:
        """Print how long it will take on this machine."""
        self._say(Text(f"By the first cell's time on this machine: about {duration(seconds)}."))
        self.remaining(seconds)

    def remaining(self, seconds: float) -> None:
        """Note the time left."""
        with self._lock:
            self._left = seconds
        self._changed()

    def progressed(self, cell: Cell, fraction: float) -> None:
        """Note how far a cell is."""
        with self._lock:
            self._flight[cell] = fraction
        self._changed()

    def finished(self, cell: Cell, record: Record) -> None:
        """Note that a cell is done; if it was the last of a claim, judge it."""
        with self._lock:
            self._done.add(cell)
            self._flight.pop(cell, None)
        for claim_id, plan in self._plans.items():
            if cell in plan and plan.keys() <= self._done:
                self._tell_verdict(claim_id)
        self._changed()

    def failed(self, cell: Cell, message: str) -> None:
        """Print the last line of the traceback; the whole is told at the end."""
        with self._lock:
            self._failed.add(cell)
            self._flight.pop(cell, None)
        last = (message.strip().splitlines() or ["no message"])[-1]
        self._say(foreign(self._console, f"{cell.claim}: a cell failed: ", "red"), foreign(self._console, last))
        self._changed()

    def warned(self, message: str) -> None:
        """Print the warning."""
        self._say(Text("Warning: ", "yellow"), foreign(self._console, message))

    def _say(self, *parts: Text) -> None:
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def _tell_verdict(self, claim_id: str) -> None:
        cells = tuple(self._plans[claim_id])
        entry = assess(claim_id, cells, stored_records(self._store, cells))
        because = entry["because"] if entry["status"] == JUDGED else entry["error"]
        reason = foreign(self._console, f". {because}")
        self._say(Text(claim_id, "bold"), Text(": "), verdict_text(entry), reason)

    def _count(self) -> int:
        return len(self._cells & self._done)

    def _fraction(self) -> float:
        """Done share of the declared seconds, with the cells in flight."""
        total = sum(cell.cost for cell in self._cells) or 1.0
        done = sum(cell.cost for cell in self._cells & (self._done | self._failed))
        return (done + sum(cell.cost * part for cell, part in self._flight.items())) / total

    def _times(self) -> str:
        elapsed = _clock(time.monotonic() - self._began)
        return f"{elapsed} elapsed" if self._left is None else f"{elapsed} elapsed, about {_clock(self._left)} left"


class PlainProgress(Progress):
    """Progress for logs: a line at most every few seconds."""

    _next_line = 0.0

    def _changed(self) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            share = f"{100 * self._fraction():.0f} %"
            self._say(Text(f"{self._count()} of {_plural(len(self._cells), 'cell')}, {share}, {self._times()}"))


class LiveProgress(Progress):
    """Progress for a terminal: a bar for everything, the claims in progress, and the cells in flight."""

    _live: Live | None = None

    def __enter__(self) -> Progress:
        self._live = Live(
            console=self._console, get_renderable=self._picture, refresh_per_second=4, transient=True
        ).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the picture away; what was printed above it stays."""
        # If the terminal has gone, that is why the run ends, and not why it failed.
        with contextlib.suppress(*(() if error is None else (OutputError,))):
            if self._live is not None:
                self._live.__exit__(kind, error, trace)

    def _changed(self) -> None:
        """The picture is drawn anew by its own clock."""

    def _picture(self) -> RenderableType:
        with self._lock:
            bars = Table.grid(padding=(0, 1))
            bars.add_row(
                Text("all", "bold"),
                ProgressBar(total=1.0, completed=self._fraction(), width=BAR_WIDTH),
                Text(f"{self._count()}/{len(self._cells)}"),
                Text(self._times()),
            )
            waiting = []
            for claim_id, plan in self._plans.items():
                asked = plan.keys() & self._cells
                done = len(asked & self._done)
                if done == len(asked):
                    continue
                if not done and not asked & self._flight.keys():
                    waiting.append(claim_id)
                    continue
                flying = [f"{100 * part:.0f} %" for cell, part in self._flight.items() if cell in asked]
                bar = ProgressBar(total=len(asked), completed=done, width=BAR_WIDTH)
                bars.add_row(
                    Text(claim_id),
                    bar,
                    Text(f"{done}/{len(asked)}"),
                    Text(f"in flight: {', '.join(flying)}" if flying else "", "bright_black"),
                )
        if not waiting:
            return bars
        return Group(bars, Text(f"waiting: {', '.join(waiting)}", "bright_black", overflow="ellipsis", no_wrap=True))


def watch(
    console: Console,
    plans: Mapping[str, Sequence[Cell]],
    cells: Sequence[Cell],
    store: Store,
    workers: int,
    fresh: bool,
) -> Progress:
    """The watcher that fits the console; the arguments are those of `Progress`."""
    moves = console.is_terminal and not console.is_dumb_terminal
    kind: Callable[..., Progress] = LiveProgress if moves else PlainProgress
    return kind(console, plans, cells, store, workers, fresh)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
