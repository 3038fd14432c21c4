"""Where a function is not differentiable: scan a module, a loss or its graph; count crossings on a probe batch."""

from nonsmooth.kinks.crossings import crossings
from nonsmooth.kinks.crossings.counts import Crossings, LayerCrossings
from nonsmooth.kinks.findings import Operation, PenaltyTerm, Scan
from nonsmooth.kinks.penalty_terms import penalty_terms
from nonsmooth.kinks.scanning import scan
from nonsmooth.kinks.table.smoothness import Smoothness

__all__ = [
    "Crossings",
    "LayerCrossings",
    "Operation",
    "PenaltyTerm",
    "Scan",
    "Smoothness",
    "crossings",
    "penalty_terms",
    "scan",
]
