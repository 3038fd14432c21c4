"""The names that claims in files of one's own import from here."""

from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series

__all__ = ["Axis", "Figure", "Panel", "Series"]
