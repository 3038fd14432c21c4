"""A progress bar for a run that a notebook started."""

from __future__ import annotations

import sys
from typing import Any

from nonsmooth.lab.cell import Cell, Record
from nonsmooth.lab.watcher import SilentWatcher, Watcher


class NotebookProgress(SilentWatcher):
    """Cells done of cells planned, and the time left, in one line of output that is overwritten."""

    def __init__(self, display: Any, html: Any) -> None:
        self._html, self._cells, self._done, self._failed, self._left = html, 0, 0, 0, ""
        self._handle = display(self._bar(), display_id=True)

    def _bar(self) -> Any:
        failed = f", {self._failed} failed" if self._failed else ""
        bar = f'<progress max="{self._cells or 1}" value="{self._done}"></progress>'
        return self._html(f"{bar} {self._done} of {self._cells} cells{failed}{self._left}")

    def _show(self) -> None:
        self._handle.update(self._bar())

    def planned(self, cells: int, cached: int) -> None:
        """Those that are stored count as done."""
        self._cells, self._done = cells, cached
        self._show()

    def remaining(self, seconds: float) -> None:
        """The time left."""
        self._left = f", about {seconds:,.0f} s left"
        self._show()

    def finished(self, cell: Cell, record: Record) -> None:
        """One more is done."""
        self._advance()

    def failed(self, cell: Cell, message: str) -> None:
        """One more is done, and failed."""
        self._failed += 1
        self._advance()

    def _advance(self) -> None:
        self._done += 1
        if self._done == self._cells:
            self._left = ""
        self._show()


def watcher_here() -> Watcher:
    """A progress bar in a notebook; elsewhere a watcher that tells nothing."""
    ipython = sys.modules.get("IPython")  # in a notebook it is loaded
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return SilentWatcher()
    from IPython.display import HTML, display  # noqa: PLC0415

    return NotebookProgress(display, HTML)
