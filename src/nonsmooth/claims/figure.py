"""The names of `nonsmooth.figures`, where claims look for them."""

from nonsmooth.figures.figure import KINDS, TONES, Axis, Figure, Panel, Series

__all__ = ["KINDS", "TONES", "Axis", "Figure", "Panel", "Series"]
