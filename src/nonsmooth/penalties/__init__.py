"""Penalties R(w): value, prox (Euclidean and in a diagonal metric), distance to the subdifferential."""

from nonsmooth.penalties.checking import check_penalty
from nonsmooth.penalties.elastic_net import ElasticNet
from nonsmooth.penalties.group_l1 import GroupL1, SparseGroupL1
from nonsmooth.penalties.l0 import L0
from nonsmooth.penalties.l1 import L1
from nonsmooth.penalties.mcp import MCP
from nonsmooth.penalties.nuclear import Nuclear
from nonsmooth.penalties.penalty import Penalty, from_specification
from nonsmooth.penalties.scad import SCAD
from nonsmooth.penalties.separable import SeparablePenalty
from nonsmooth.penalties.transformed_l1 import TransformedL1

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "ElasticNet",
    "GroupL1",
    "Nuclear",
    "Penalty",
    "SeparablePenalty",
    "SparseGroupL1",
    "TransformedL1",
    "check_penalty",
    "from_specification",
]
