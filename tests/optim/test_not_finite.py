"""No certificate says converged over a number that is none, wherever it is and in whatever order."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nonsmooth.optim import ProxAdam, ProxSGD, certify, penalize
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

PENALTIES = [L1(10.0), ElasticNet(10.0), L0(1.0), MCP(10.0), SCAD(10.0), TransformedL1(10.0), GroupL1(10.0),
             SparseGroupL1(10.0), Nuclear(10.0), None]  # fmt: skip
BAD = [math.nan, math.inf, -math.inf]


@settings(deadline=None, max_examples=150)
@given(
    place=st.sampled_from(["weight", "gradient", "loss", "frozen", "without gradient"]),
    bad=st.sampled_from(BAD),
    penalty=st.sampled_from(PENALTIES),
    count=st.integers(1, 4),
    at=st.integers(0, 3),
    entry=st.integers(0, 5),
)
def test_a_number_that_is_none_never_counts_as_converged(place, bad, penalty, count, at, entry):
    """At weights that are stationary otherwise: zero, under a penalty that is stronger than the gradient."""
    at %= count
    weights = [torch.zeros(2, 3, requires_grad=True) for _ in range(count)]
    slopes = [torch.zeros(2, 3) for _ in range(count)]
    offset = torch.zeros(())
    if place == "weight":
        with torch.no_grad():
            weights[at].view(-1)[entry] = bad
    elif place == "gradient":
        slopes[at].view(-1)[entry] = bad
    elif place == "loss":
        offset = torch.tensor(bad)
    unused = torch.full((2, 3), bad if place in ("frozen", "without gradient") else 0.0)
    unused.requires_grad_(place != "frozen")
    optimizer = ProxSGD([*weights, unused], lr=0.1, penalty=penalty)

    def closure():
        # The gradient is the slope, whatever the weight; and the loss is a number although a weight is none.
        value = sum((_with_slope(w, s) for w, s in zip(weights, slopes, strict=True)), start=torch.zeros(()))
        return value + offset

    found = certify(optimizer, closure)
    assert not found.converged
    assert str(found).startswith("not converged")
    assert any("finite" in note or "loss" in note for note in found.notes)
    if place in ("weight", "gradient"):
        assert not math.isfinite(found.residual)
        assert not math.isfinite(found.relative_residual)
        assert not math.isfinite(found.tensors[at].residual)


def _with_slope(weight, slope):
    return Sloped.apply(weight, slope)


class Sloped(torch.autograd.Function):
    """0, with a gradient of one's choice."""

    @staticmethod
    def forward(ctx, weight, slope):
        ctx.save_for_backward(slope)
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx, gradient):
        (slope,) = ctx.saved_tensors
        return slope * 1.0, None


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
def test_the_same_without_it_is_converged(penalty):
    weight = torch.zeros(2, 3, requires_grad=True)
    assert certify(ProxSGD([weight], lr=0.1, penalty=penalty), lambda: weight.sum() * 0).converged


def test_the_order_of_the_parameters_does_not_matter():
    weight, scale = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(3))
    for order in ([weight, scale], [scale, weight]):
        found = certify(
            ProxSGD(order, lr=0.1, penalty=L1(0.5)), lambda: weight.square().sum() + scale.pow(2).sum().sqrt()
        )
        assert not found.converged
        assert math.isnan(found.residual)
        # The one that is not a number is shown first.
        shown = [line for line in str(found).splitlines() if line.startswith("  ")]
        assert "nan" in shown[0]


def test_a_nan_row_of_an_embedding_that_the_batch_does_not_use():
    embedding = nn.Embedding(10, 3)
    with torch.no_grad():
        embedding.weight.zero_()
        embedding.weight[7] = math.nan
    found = certify(
        ProxSGD([embedding.weight], lr=0.1, penalty=L1(10.0)), lambda: (embedding(torch.arange(7)) - 1).square().mean()
    )
    assert not found.converged
    assert math.isnan(found.residual)


def test_a_nan_target_behind_a_dead_layer():
    torch.manual_seed(0)
    inputs, targets = torch.randn(64, 5), torch.randn(64, 1)
    targets[3] = math.nan
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-0.1)
        model[2].weight.zero_()
    for optimizer in (ProxSGD(penalize(model, L1(0.1)), lr=0.1), ProxAdam(penalize(model, L1(0.1)))):
        assert not certify(optimizer, lambda: (model(inputs) - targets).square().mean(), tolerance=1e-4).converged


def test_no_gap_is_made_of_numbers_that_are_none():
    weight = torch.zeros(3, requires_grad=True)
    found = certify(
        ProxSGD([weight], lr=0.1, penalty=L1(1.0)), lambda: (weight - math.inf).square().sum(), quadratic=True
    )
    assert found.gap is None
    assert not found.converged


def test_a_loss_that_is_no_number_along_the_probing_line_is_no_quadratic():
    weight = torch.ones(2, requires_grad=True)

    def closure():
        return weight.square().sum() * (1.0 if weight.detach().abs().max() < 1.1 else math.nan)

    with pytest.raises(ValueError, match="quadratic is True"):
        certify(ProxSGD([weight], lr=0.1, penalty=L1(1.0)), closure, quadratic=True)
