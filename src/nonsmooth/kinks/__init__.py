"""Where a function is not differentiable: scan a module, a loss or its graph; count crossings on a probe batch."""

from nonsmooth.kinks.findings import Operation, Scan
from nonsmooth.kinks.scanning import scan
from nonsmooth.kinks.smoothness import Smoothness

__all__ = ["Operation", "Scan", "Smoothness", "scan"]
