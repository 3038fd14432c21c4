"""Penalties R(w): value, prox (Euclidean and in a diagonal metric), distance to the subdifferential."""

from nonsmooth.penalties.l1 import L1
from nonsmooth.penalties.penalty import Penalty
from nonsmooth.penalties.transformed_l1 import TransformedL1

__all__ = ["L1", "Penalty", "TransformedL1"]
