"""One table of cases for every penalty, which the tests here run through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1
from nonsmooth.penalties.penalty import Penalty

INDEX = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3, 0, 2, 1, 2])


@dataclass(frozen=True)
class Case:
    """A penalty with its other numbers fixed.

    Attributes:
        make: λ (and, for sums over coordinates, other fields by keyword) → the penalty.
        shape: of points to try it on.
        slope_at_zero: λ_max for a gradient of one entry 1, times λ; None where that is no single number.
    """

    make: Callable[..., Penalty]
    shape: tuple[int, ...] = (12,)
    slope_at_zero: float | None = None

    def point(self, seed=0, scale=1.0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64).mul(scale).to(dtype)

    def steps(self, seed=0, low=0.05, high=0.9, dtype=torch.float64):
        """A step per coordinate."""
        generator = torch.Generator().manual_seed(1000 + seed)
        shares = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        return (low * (high / low) ** shares).to(dtype)


CASES = {
    "L1": Case(L1, slope_at_zero=1.0),
    "elastic net": Case(lambda strength, **rest: ElasticNet(strength, 0.6, **rest), slope_at_zero=0.6),
    "transformed L1, a = 1": Case(lambda strength, **rest: TransformedL1(strength, 1.0, **rest), slope_at_zero=2.0),
    "transformed L1, a = 0.3": Case(
        lambda strength, **rest: TransformedL1(strength, 0.3, **rest), slope_at_zero=1.3 / 0.3
    ),
    "MCP": Case(lambda strength, **rest: MCP(strength, 2.5, **rest), slope_at_zero=1.0),
    "SCAD": Case(lambda strength, **rest: SCAD(strength, 3.7, **rest), slope_at_zero=1.0),
    "L0": Case(L0),
    "groups: rows": Case(GroupL1, (3, 4)),
    "groups: columns": Case(lambda strength: GroupL1(strength, dim=1), (4, 3)),
    "groups: kernels": Case(lambda strength: GroupL1(strength, dim=(0, 1)), (2, 3, 2, 2)),
    "groups: an index": Case(lambda strength: GroupL1(strength, index=INDEX), (12,)),
    "groups: weighted": Case(
        lambda strength: GroupL1(strength, weights=torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)), (3, 4)
    ),
    "sparse groups": Case(lambda strength: SparseGroupL1(strength, 0.4), (3, 4)),
    "sparse groups: an index": Case(lambda strength: SparseGroupL1(strength, 0.7, index=INDEX), (12,)),
    "nuclear": Case(Nuclear, (4, 3)),
    "nuclear: a convolution": Case(Nuclear, (3, 2, 2)),
}
SEPARABLE = {name: case for name, case in CASES.items() if case.make(1.0).separable}
CONVEX = {name: case for name, case in CASES.items() if case.make(1.0).convex}
JUMPING = {name: case for name, case in SEPARABLE.items() if name not in CONVEX}


def named(cases):
    """A fixture over cases; of module scope, so that hypothesis accepts it."""
    return pytest.fixture(params=list(cases.values()), ids=list(cases), scope="module")


@named(CASES)
def case(request):
    """Each penalty."""
    return request.param


@named(SEPARABLE)
def separable(request):
    """Each penalty that is a sum over coordinates."""
    return request.param


@named(CONVEX)
def convex(request):
    """Each convex penalty."""
    return request.param


@named({name: case for name, case in CONVEX.items() if name not in SEPARABLE})
def coupled(request):
    """Each penalty on norms of groups or on singular values."""
    return request.param


@named(JUMPING)
def jumping(request):
    """Each penalty that is not convex."""
    return request.param
