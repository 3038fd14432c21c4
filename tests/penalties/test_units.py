"""What a penalty sets to zero as one: counted, measured, cut off and kept, against loops over the parts."""

import pytest
import torch

import nonsmooth as ns

COORDINATES = [ns.L1(1.0), ns.ElasticNet(1.0), ns.MCP(1.0), ns.SCAD(1.0), ns.TransformedL1(1.0), ns.L0(1.0)]
GROUPED = [
    (ns.GroupL1(1.0), lambda w: [w[i] for i in range(w.shape[0])]),
    (ns.GroupL1(1.0, dim=1), lambda w: [w[:, i] for i in range(w.shape[1])]),
    (ns.GroupL1(1.0, dim=(0, 1)), lambda w: [w[i, j] for i in range(w.shape[0]) for j in range(w.shape[1])]),
    (ns.SparseGroupL1(1.0), lambda w: [w[i] for i in range(w.shape[0])]),
    (ns.GroupL1(1.0, dim=1, index=[0, 1, 0, 1]), lambda w: [w[:, ::2], w[:, 1::2]]),
]


def point(seed=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(6, 4, 3, generator=generator)
    w[1] = 0
    w[:, 2] = 0
    w[4, 1, 1] = 0
    return w


@pytest.mark.parametrize("penalty", COORDINATES, ids=lambda p: type(p).__name__)
def test_single_coordinates(penalty):
    w = point()
    assert penalty.units(w.shape) == w.numel()
    assert torch.equal(penalty.unit_sizes(w), w.abs().flatten())
    assert int(penalty.zero_units(w)) == int((w == 0).sum())
    size = float(w.abs().flatten().kthvalue(50).values)
    cut = w.clone()
    penalty.cut_(cut, penalty.unit_sizes(w) <= size)
    assert int((cut == 0).sum()) == 50
    assert torch.equal(cut[cut != 0], w[w.abs() > size])
    other = torch.ones_like(w)
    penalty.zero_keeper(w)(other)
    assert torch.equal(other != 0, w != 0)
    assert torch.equal(penalty.along_zeros(w, torch.ones_like(w)), other)


@pytest.mark.parametrize(("penalty", "parts"), GROUPED)
def test_groups(penalty, parts):
    w = point()
    each = parts(w)
    sizes = torch.stack([part.square().mean().sqrt() for part in each])
    assert penalty.units(w.shape) == len(each)
    assert torch.allclose(penalty.unit_sizes(w), sizes)
    assert int(penalty.zero_units(w)) == sum(not part.any() for part in each)
    size = float(sizes.median())
    cut = w.clone()
    penalty.cut_(cut, sizes <= size * 1.001)
    for before, after, own in zip(each, parts(cut), sizes, strict=True):
        assert torch.equal(after, before if own > size * 1.001 else torch.zeros_like(before))
    large = penalty.above(w, size * 1.001).expand_as(w)
    for mask, own in zip(parts(large), sizes, strict=True):
        assert bool(mask.all() if own > size * 1.001 else not mask.any())


def test_tiny_groups_are_not_zero():
    w = torch.full((2, 3), 1e-30)  # squares underflow
    w[1] = 0
    assert int(ns.GroupL1(1.0).zero_units(w)) == 1


def test_singular_values():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 4, generator=generator)).Q for n in (7, 5))
    w = (left * torch.tensor([4.0, 3.0, 2.0, 0.0])) @ right.T
    penalty = ns.Nuclear(1.0)
    assert penalty.units(w.shape) == 5
    assert torch.allclose(penalty.unit_sizes(w), torch.tensor([4.0, 3.0, 2.0, 0.0, 0.0]), atol=1e-5)
    assert int(penalty.zero_units(w)) == 2
    assert penalty.above(w, 1.0) is None
    cut = w.clone()
    penalty.cut_(cut, penalty.unit_sizes(w) <= 2.5)
    assert torch.allclose(cut, (left * torch.tensor([4.0, 3.0, 0.0, 0.0])) @ right.T, atol=1e-5)
    assert int(penalty.zero_units(cut)) == 3
    other = torch.randn(7, 5, generator=generator)
    u, s, v = torch.linalg.svd(other, full_matrices=False)
    penalty.zero_keeper(w)(other)
    assert torch.allclose(other, (u[:, :3] * s[:3]) @ v[:3], atol=1e-5)
    # A step along the tangent changes the fourth singular value in second order alone.
    slope = penalty.along_zeros(w, torch.randn(7, 5, generator=generator))
    moved = [float(torch.linalg.svdvals(w + step * slope)[3]) for step in (1e-1, 1e-2)]
    assert moved[1] < moved[0] / 30
