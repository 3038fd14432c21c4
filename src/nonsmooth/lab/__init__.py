"""Cells of work: plan, run (here or on a cluster), store, resume, progress."""

from nonsmooth.extras import require

require("reproduce", "nonsmooth.lab")

from nonsmooth.lab.cell import Cell, Context, Record, Scalar
from nonsmooth.lab.errors import Interrupted, LabError
from nonsmooth.lab.runner import Outcome, run
from nonsmooth.lab.store import Store
from nonsmooth.lab.watcher import SilentWatcher, Watcher

__all__ = [
    "Cell",
    "Context",
    "Interrupted",
    "LabError",
    "Outcome",
    "Record",
    "Scalar",
    "SilentWatcher",
    "Store",
    "Watcher",
    "run",
]
