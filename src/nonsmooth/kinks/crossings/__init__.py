"""The kinks between two points of parameter space, counted on a probe batch."""

from nonsmooth.kinks.crossings.measurement import crossings

__all__ = ["crossings"]
