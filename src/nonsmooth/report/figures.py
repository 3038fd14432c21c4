"""The old place of what `nonsmooth.figures` has now, for one version."""

import warnings

from nonsmooth.figures.csv_table import csv_table as table
from nonsmooth.figures.legend import legend
from nonsmooth.figures.specification import panel_specification

__all__ = ["legend", "panel_specification", "table"]

warnings.warn("nonsmooth.report.figures is now nonsmooth.figures", DeprecationWarning, stacklevel=2)
