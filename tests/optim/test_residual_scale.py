"""The certificate's numbers in units that a reader can judge: the same however a penalty is written, and never below
what rounding leaves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nonsmooth.optim import ProxAdam, ProxAdamW, ProxSGD, SteadyAdam, certify, lasso_gap
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, Nuclear, SparseGroupL1

ROWS, COLUMNS = 4, 6


def certificate(penalty, *, weight_decay=0.0, seed=0, scale=1.0):
    """Of a linear model with a bias that nobody penalises, at random weights with zeros among them."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs, targets = random(50, COLUMNS), random(50, ROWS)
    weight, bias = random(ROWS, COLUMNS) * scale, random(ROWS)
    weight[1] = 0
    weight[2, :3] = 0
    weight.requires_grad_()
    bias.requires_grad_()
    groups = [{"params": [weight], "penalty": penalty, "weight_decay": weight_decay}, {"params": [bias]}]
    return certify(ProxSGD(groups, lr=0.1), lambda: (inputs @ weight.T + bias - targets).square().mean())


def pairs(lam, weights, rows, ratio):
    """The same function, written in two ways."""
    root = math.sqrt(COLUMNS)
    labels = torch.arange(ROWS).repeat_interleave(COLUMNS)
    first, second = lam * ratio, lam * (1 - ratio) * root
    return {
        "weights by coordinate": (L1(lam, weights=weights), L1(lam * weights)),
        "scaled weights": (L1(lam, weights=weights), L1(lam / 3, weights=3 * weights)),
        "a tensor of one number": (L1(lam), L1(torch.tensor(lam, dtype=torch.float64))),
        "an elastic net without its ridge": (L1(lam), ElasticNet(lam, 1.0)),
        "groups by size": (GroupL1(lam), GroupL1(lam * root, weights=torch.ones(ROWS))),
        "groups with weights": (GroupL1(lam, weights=rows), GroupL1(lam * 5, weights=rows / 5)),
        "groups by index": (GroupL1(lam), GroupL1(lam, index=labels)),
        "sparse groups": (SparseGroupL1(lam, ratio),
                          SparseGroupL1(first + second, first / (first + second), weights=torch.ones(ROWS))),
        "sparse groups of one part": (SparseGroupL1(lam, 0.0), GroupL1(lam)),
        "groups of one": (GroupL1(lam, index=torch.arange(ROWS * COLUMNS)), L1(lam)),
    }  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(
    lam=st.floats(1e-3, 10),
    ratio=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
    name=st.sampled_from(list(pairs(1.0, torch.ones(1), torch.ones(1), 0.5))),
)
def test_residuals_do_not_depend_on_how_a_penalty_is_written(lam, ratio, seed, name):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(ROWS, COLUMNS, generator=generator, dtype=torch.float64) + 0.1
    weights[0, 0] = 0
    rows = torch.rand(ROWS, generator=generator, dtype=torch.float64) + 0.1
    one, other = (certificate(penalty, seed=seed) for penalty in pairs(lam, weights, rows, ratio)[name])
    assert one.penalty == pytest.approx(other.penalty, rel=1e-12)
    for field in ("residual", "relative_residual", "typical_residual", "movement"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-9), field
    assert [t.relative_residual for t in one.tensors] == pytest.approx([t.relative_residual for t in other.tensors])


def test_a_ridge_is_the_same_in_the_penalty_and_in_weight_decay():
    one, other = certificate(ElasticNet(0.1, 0.6)), certificate(L1(0.06), weight_decay=0.04)
    assert one.relative_residual == pytest.approx(other.relative_residual, rel=1e-12)
    pure, decay = certificate(ElasticNet(0.1, 0.0)), certificate(None, weight_decay=0.1)
    assert pure.relative_residual == pytest.approx(decay.relative_residual, rel=1e-12)


@pytest.mark.parametrize(
    ("penalty", "shape"),
    [(L1(0.3), (3, 4)), (L1(0.3, weights=torch.tensor([0.5, 1.0, 2.0, 4.0])), (3, 4)), (GroupL1(0.3), (3, 4)),
     (GroupL1(0.3, dim=1), (3, 4)), (GroupL1(0.3, weights=torch.tensor([1.0, 2.0, 3.0])), (3, 4)),
     (SparseGroupL1(0.3, 0.4), (3, 4)), (Nuclear(0.3), (3, 3)), (MCP(0.3), (3, 4))],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)  # fmt: skip
def test_one_means_as_much_as_the_penalty_itself(penalty, shape):
    """At w ≠ 0 without a gradient the penalty alone pulls, on each coordinate or group by all that it has."""
    weight = torch.full(shape, 1e-3, dtype=torch.float64)
    if isinstance(penalty, Nuclear):
        weight = torch.eye(3, dtype=torch.float64)
    weight.requires_grad_()
    found = certify(ProxSGD([weight], lr=0.1, penalty=penalty), lambda: 0 * weight.sum())
    assert found.relative_residual == pytest.approx(1, rel=0.01)
    assert found.typical_residual == pytest.approx(1, rel=0.01)


def test_a_weight_of_zero_counts_as_no_penalty():
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    penalty = L1(0.5, weights=torch.tensor([0.0, 1.0], dtype=torch.float64))
    found = certify(ProxSGD([weight], lr=0.1, penalty=penalty), lambda: 0.2 * weight[0] + 0.3 * weight[1])
    assert found.tensors[0].distances.tolist() == pytest.approx([0.2, 0.0])
    assert found.relative_residual == pytest.approx(0.4)
    nothing = L1(0.5, weights=torch.zeros(2, dtype=torch.float64))
    assert certify(ProxSGD([weight], lr=0.1, penalty=nothing), lambda: 0.2 * weight[0]).relative_residual == 0.2


def test_the_movement_is_what_a_step_of_gradient_descent_moves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    inputs = torch.randn(40, 6, dtype=torch.float64)
    optimizer = ProxSGD(model.parameters(), lr=0.05, penalty=GroupL1(0.01, index=None, dim=0))
    for _ in range(5):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss = (model(inputs) - inputs[:, :1]).square().mean()
        found = certify(optimizer, lambda: (model(inputs) - inputs[:, :1]).square().mean())
        loss.backward()
        optimizer.step()
        moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(model.parameters(), before, strict=True))
        size = sum(float(b.square().sum()) for b in before)
        assert found.movement == pytest.approx(math.sqrt(moved / size), rel=1e-9)
        assert "one more step" in str(found)


@pytest.mark.parametrize("kind", [ProxAdam, ProxAdamW, SteadyAdam])
def test_the_movement_falls_to_zero_at_a_solution_of_an_adaptive_optimiser(kind):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    response = data[:, :2].sum(1)
    weight = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = kind([weight], lr=1e-2, betas=(0.9, 0.99), penalty=L1(0.2))
    seen = []
    for step in range(3001):
        if step in (0, 10, 3000):
            seen.append(certify(optimizer, lambda: (data @ weight - response).square().mean()).movement)
        optimizer.zero_grad()
        (data @ weight - response).square().mean().backward()
        optimizer.step()
    assert seen[0] is None  # no step has been taken yet, so nobody knows its length
    assert seen[1] > 1e-3
    assert seen[2] < 1e-9


def test_a_gradient_that_the_averages_have_not_seen_is_no_huge_movement():
    """A squared average of zero makes D = lr/ε, a hundred thousand steps of the learning rate."""
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = ProxAdam([weight], lr=1e-3, penalty=L1(1e-3))
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    with torch.no_grad():
        weight.fill_(1.0)
    assert certify(optimizer, lambda: 1 * weight.sum()).movement < 0.01


def test_there_is_no_movement_without_a_step_size_or_a_known_step():
    weight = torch.ones(3, requires_grad=True)
    assert certify(ProxSGD([weight], lr=0.0, penalty=L1(0.1)), lambda: 1 * weight.sum()).movement is None
    assert certify(torch.optim.Adadelta([weight]), lambda: 1 * weight.sum()).movement is None


def problem(seed, samples, features, scale):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(samples, features, generator=generator) * scale
    response = data[:, :3].sum(1) + 0.1 * scale * torch.randn(samples, generator=generator)
    return data, response, 0.1 * scale**2


@pytest.mark.parametrize(("samples", "features", "scale"), [(60, 12, 1.0), (500, 200, 1.0), (50, 300, 1e-3)])
def test_in_float32_the_gap_is_never_below_the_gap_in_exact_arithmetic(samples, features, scale):
    """The same weights, data and response in float64, in which float32's rounding is nothing."""
    for seed in range(5):
        data, response, lam = problem(seed, samples, features, scale)
        curvature = float(torch.linalg.eigvalsh((data.T @ data / samples).double())[-1])
        weight = torch.zeros(features, requires_grad=True)
        optimizer = ProxSGD([weight], lr=1 / curvature, penalty=L1(lam))

        def closure(data=data, response=response, weight=weight, samples=samples):
            return (response - data @ weight).square().sum() / (2 * samples)

        for step in range(301):
            if step in (20, 300):
                found = certify(optimizer, closure, quadratic=True)
                exact = lasso_gap(data, response, weight, lam)
                assert exact <= found.gap < exact + 1e-4 * found.objective
            optimizer.zero_grad()
            closure().backward()
            optimizer.step()


def test_a_gap_of_rounding_is_said_to_be_one():
    weight = torch.zeros(2, requires_grad=True)
    found = certify(ProxSGD([weight], lr=0.1, penalty=L1(9.0)), lambda: (weight - 1).square().sum(), quadratic=True)
    assert 0 < found.gap < 1e-4
    assert any("rounding can hide" in note for note in found.notes)
    assert any("rounding leaves" in note for note in found.notes)


def test_lasso_gap_is_not_below_rounding_either():
    data = torch.eye(2, dtype=torch.float64)
    # The residual is 1 and the gap exactly 0; the response of 1e8 leaves it eight digits.
    response = torch.tensor([1e8, 0.0], dtype=torch.float64)
    weight = torch.tensor([1e8 - 1.0, 0.0], dtype=torch.float64)
    assert 1e-9 < lasso_gap(data, response, weight, 0.5) < 1e-5
