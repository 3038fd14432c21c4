"""The names of `nonsmooth.figures`, for claims that are still to be ported."""

from nonsmooth.figures.figure import KINDS, TONES, Axis, Figure, Panel, Series  # noqa: F401
