"""Watchers of a run: what the runner reports while it works."""

from __future__ import annotations

import warnings
from typing import Protocol

from nonsmooth.foreign_text import visible
from nonsmooth.lab.cell import Cell, Record


class Watcher(Protocol):
    """What the runner calls, always in the thread that called `run`."""

    def planned(self, cells: int, cached: int) -> None:
        """The run asks for `cells` different cells, of which `cached` are stored already."""

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
    """Ignores everything but warnings, which it passes on as Python's. A base class for watchers that need less."""

    def planned(self, cells: int, cached: int) -> None:
        """Ignored."""

    def estimated(self, seconds: float) -> None:
        """Ignored."""

    def remaining(self, seconds: float) -> None:
        """Ignored."""

    def progressed(self, cell: Cell, fraction: float) -> None:
        """Ignored."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Ignored."""

    def failed(self, cell: Cell, message: str) -> None:
        """Ignored: the outcome of the run holds the message."""

    def warned(self, message: str) -> None:
        """Passed on as a Python warning."""
        warnings.warn(visible(message), stacklevel=3)
