"""Who watches a run: what the runner tells while it works."""

from __future__ import annotations

import warnings
from typing import Protocol

from nonsmooth.foreign_text import visible
from nonsmooth.lab.cell import Cell, Record


class Watcher(Protocol):
    """What the runner calls, always in the thread that called `run`."""

    def planned(self, cells: int, cached: int) -> None:
        """The run asks for so many different cells, of which so many are stored already."""

    def estimated(self, seconds: float) -> None:
        """The wall time of the whole run, told once the first cell has shown how fast this machine is."""

    def remaining(self, seconds: float) -> None:
        """The wall time left, told whenever its estimate changes."""

    def progressed(self, cell: Cell, fraction: float) -> None:
        """A cell in flight is done to this fraction, between 0 and 1."""

    def finished(self, cell: Cell, record: Record) -> None:
        """A cell was measured and stored."""

    def failed(self, cell: Cell, message: str) -> None:
        """The measurement of a cell raised; the message is its traceback."""

    def warned(self, message: str) -> None:
        """Something that the user should know; the run goes on."""


class SilentWatcher:
    """Tells nothing, except that it passes on warnings as Python warnings. A base for watchers that tell some of it."""

    def planned(self, cells: int, cached: int) -> None:
        """Nothing is told."""

    def estimated(self, seconds: float) -> None:
        """Nothing is told."""

    def remaining(self, seconds: float) -> None:
        """Nothing is told."""

    def progressed(self, cell: Cell, fraction: float) -> None:
        """Nothing is told."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Nothing is told."""

    def failed(self, cell: Cell, message: str) -> None:
        """Nothing is told: the outcome of the run holds the message."""

    def warned(self, message: str) -> None:
        """The message as a Python warning, because nobody else would tell it."""
        warnings.warn(visible(message), stacklevel=3)
