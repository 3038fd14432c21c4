"""Figures as plain data, and how they are drawn: in notebooks and scripts by plotly, in the report by its page."""

from nonsmooth.figures.figure import Axis, Figure, Panel, Series

__all__ = ["Axis", "Figure", "Panel", "Series"]
