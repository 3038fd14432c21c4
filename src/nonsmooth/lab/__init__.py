"""Cells of work: plan, run (here or on a cluster), store, resume, progress."""

from nonsmooth.lab.cell import Cell, Context, Record, Scalar

__all__ = ["Cell", "Context", "Record", "Scalar"]
