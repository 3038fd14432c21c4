"""Certificates against closed forms, convex references and brute force; and that taking one leaves no trace."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import Lasso
from torch import nn

from nonsmooth.optim import ProxAdam, ProxAdamW, ProxSGD, certify, lasso_gap, penalize
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, Nuclear, SparseGroupL1

SAMPLES, FEATURES = 60, 12


@pytest.fixture
def problem():
    """Data, response, and the largest curvature of ‖y - Xw‖²/(2N)."""
    generator = torch.Generator().manual_seed(3)
    data = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    response = data[:, :3].sum(1) + 0.1 * torch.randn(SAMPLES, generator=generator, dtype=torch.float64)
    return data, response, float(torch.linalg.eigvalsh(data.mT @ data / SAMPLES)[-1])


def squared_loss(data, response, weight):
    return (response - data @ weight.reshape(-1)).square().sum() / (2 * len(response))


def trained(problem, penalty, *, steps=3000, shape=(FEATURES,), optimizer=ProxSGD, **options):
    data, response, curvature = problem
    weight = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    made = optimizer([weight], lr=options.pop("lr", 1 / curvature), penalty=penalty, **options)

    def closure():
        return squared_loss(data, response, weight)

    for _ in range(steps):
        made.zero_grad()
        closure().backward()
        made.step()
    return made, closure, weight


def test_at_the_lasso_solution_of_scikit_learn_the_certificate_is_zero(problem):
    data, response, _ = problem
    solution = Lasso(alpha=0.1, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(data.numpy(), response.numpy())
    weight = torch.tensor(solution.coef_, requires_grad=True)
    found = certify(
        ProxSGD([weight], lr=0.1, penalty=L1(0.1)), lambda: squared_loss(data, response, weight), quadratic=True
    )
    assert found.relative_residual < 1e-6
    assert found.converged
    assert 0 <= found.gap < 1e-10
    assert found.zeros == int((solution.coef_ == 0).sum()) > 0
    assert found.objective == pytest.approx(
        ((response.numpy() - data.numpy() @ solution.coef_) ** 2).sum() / (2 * SAMPLES)
        + 0.1 * abs(solution.coef_).sum()
    )


def test_away_from_the_solution_it_is_not(problem):
    optimizer, closure, weight = trained(problem, L1(0.1))
    assert certify(optimizer, closure).converged
    with torch.no_grad():
        weight[0] += 1e-3
    moved = certify(optimizer, closure, quadratic=True)
    assert not moved.converged
    # One coordinate of curvature about 1 was moved by 1e-3, so the gradient by about that, and λ is 0.1.
    assert moved.relative_residual == pytest.approx(1e-2, rel=0.5)
    assert moved.gap > 1e-7
    assert certify(optimizer, closure, tolerance=1.0).converged


def test_the_residual_is_the_distance_that_a_naive_loop_finds(problem):
    optimizer, closure, weight = trained(problem, L1(0.1), steps=5)
    data, response, _ = problem
    slope = (data.mT @ (data @ weight.detach() - response) / SAMPLES).tolist()
    expected = [
        abs(g + math.copysign(0.1, w)) if w != 0 else max(abs(g) - 0.1, 0.0)
        for g, w in zip(slope, weight.tolist(), strict=True)
    ]
    found = certify(optimizer, closure)
    assert found.tensors[0].distances.tolist() == pytest.approx(expected, rel=1e-10)
    assert found.residual == pytest.approx(max(expected))
    assert found.relative_residual == pytest.approx(max(expected) / 0.1)
    assert found.tensors[0].support.tolist() == [w != 0 for w in weight.tolist()]


@pytest.mark.parametrize(
    ("penalty", "shape"),
    [
        (L1(0.1), (FEATURES,)),
        (L1(0.1, weights=torch.linspace(0.5, 2, FEATURES, dtype=torch.float64)), (FEATURES,)),
        (L1(torch.linspace(0.05, 0.2, FEATURES, dtype=torch.float64)), (FEATURES,)),
        (ElasticNet(0.1, 0.6), (FEATURES,)),
        (GroupL1(0.1), (4, 3)),
        (GroupL1(0.1, index=[[0, 5, 7], [1, 2, 3, 4], [6, 8, 9, 10, 11]]), (FEATURES,)),
        (SparseGroupL1(0.1, 0.4), (4, 3)),
        (Nuclear(0.1), (4, 3)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else str(value),
)
def test_the_gap_bounds_the_distance_from_the_minimum_all_along(problem, penalty, shape):
    """The minimum is that of a long run, whose own gap shows it to be one."""
    optimizer, closure, weight = trained(problem, penalty, shape=shape)
    end = certify(optimizer, closure, quadratic=True)
    assert end.relative_residual < 1e-9
    assert 0 <= end.gap + 1e-13 < 1e-9
    solution = weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    seen = []
    for distance in (1.0, 0.1, 0.01):
        with torch.no_grad():
            weight.copy_(solution + distance * torch.randn(shape, generator=generator, dtype=torch.float64))
        here = certify(optimizer, closure, quadratic=True)
        assert here.gap >= here.objective - end.objective - 1e-12
        seen.append(here.gap)
    assert seen[0] > seen[1] > seen[2] > 1e-9


def test_the_gap_of_an_elastic_net_against_scikit_learn(problem):
    data, response, _ = problem
    # scikit-learn: α(r‖w‖₁ + (1-r)‖w‖²/2), the same convention as ElasticNet's.
    solution = SklearnElasticNet(alpha=0.1, l1_ratio=0.6, fit_intercept=False, tol=1e-14, max_iter=10**6)
    expected = solution.fit(data.numpy(), response.numpy()).coef_
    _, _, weight = trained(problem, ElasticNet(0.1, 0.6))
    assert np.abs(weight.detach().numpy() - expected).max() < 1e-7


def test_a_loss_that_is_not_quadratic_is_refused_a_gap_and_the_weights_stay(problem):
    optimizer, _, weight = trained(problem, L1(0.1), steps=3)
    before = weight.detach().clone()
    with pytest.raises(ValueError, match="quadratic is True"):
        certify(optimizer, lambda: torch.relu(weight).square().sum() + weight.square().square().sum(), quadratic=True)
    with pytest.raises(ValueError, match="quadratic is True"):
        certify(optimizer, lambda: -weight.square().sum(), quadratic=True)
    assert torch.equal(weight, before)


def intercept_problem(problem, **options):
    data, response, curvature = problem
    weight = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)
    groups = [{"params": [weight], "penalty": L1(0.1)}, {"params": [intercept]}]
    optimizer = ProxSGD(groups, lr=0.5 / curvature, **options)
    return optimizer, lambda: (response - data @ weight - intercept).square().mean() / 2, weight, intercept


def test_the_gap_takes_an_intercept_out_exactly_as_lasso_gap_does(problem):
    data, response, _ = problem
    optimizer, closure, weight, intercept = intercept_problem(problem)
    for steps in (0, 3, 300):
        for _ in range(steps):
            optimizer.zero_grad()
            closure().backward()
            optimizer.step()
        before = weight.detach().clone(), intercept.detach().clone()
        found = certify(optimizer, closure, quadratic=True)
        assert all("rounding" in note for note in found.notes)
        expected = lasso_gap(data, response, weight, 0.1, intercept=float(intercept.detach()))
        # Of all multiples of the residual lasso_gap may take another one.
        assert found.gap == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert torch.equal(weight, before[0])
        assert torch.equal(intercept, before[1])


def test_where_weights_decay_an_intercept_makes_the_gap_loose_and_the_certificate_says_so(problem):
    optimizer, closure, _, _ = intercept_problem(problem, weight_decay=0.01)
    found = certify(optimizer, closure, quadratic=True)
    assert "loose" in found.notes[-1]
    assert found.gap == pytest.approx(found.objective)


FREE = torch.tensor([0.0, 0.0, *[1.0] * (FEATURES - 2)], dtype=torch.float64)
FIRST_FREE = torch.tensor([0.0, 1.0, 2.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("penalty", "shape"),
    [
        (L1(0.1, weights=FREE), (FEATURES,)),
        (L1(0.1 * FREE), (FEATURES,)),
        (L1(0.1 * torch.zeros(FEATURES, dtype=torch.float64)), (FEATURES,)),
        (ElasticNet(0.1, 0.6, weights=FREE), (FEATURES,)),
        (ElasticNet(0.1, 0.0, weights=FREE), (FEATURES,)),
        (GroupL1(0.1, weights=FIRST_FREE), (4, 3)),
        (SparseGroupL1(0.1, 0.0, weights=FIRST_FREE), (4, 3)),
        (SparseGroupL1(0.1, 0.4, weights=FIRST_FREE), (4, 3)),
    ],
    ids=repr,
)
def test_weights_of_zero_leave_the_gap_a_bound_that_closes(problem, penalty, shape):
    """It was as large as the objective, or infinite; here against the best of a long run."""
    optimizer, closure, weight = trained(problem, penalty, shape=shape)
    end = certify(optimizer, closure, quadratic=True)
    assert 0 <= end.gap + 1e-13 < 1e-9
    assert all("rounding" in note for note in end.notes)
    solution, generator, seen = weight.detach().clone(), torch.Generator().manual_seed(0), []
    for distance in (1.0, 0.1, 0.01):
        with torch.no_grad():
            weight.copy_(solution + distance * torch.randn(shape, generator=generator, dtype=torch.float64))
        here = certify(optimizer, closure, quadratic=True)
        assert here.objective - end.objective - 1e-12 <= here.gap < math.inf
        seen.append(here.gap)
    assert seen[0] > seen[1] > seen[2]


def test_the_gap_reads_a_penalty_that_somebody_has_just_put_into_a_group(problem):
    data, response, _ = problem
    weight = torch.nn.Parameter(torch.zeros(FEATURES, dtype=torch.float64))
    gaps = []
    for build in (lambda: ProxSGD([weight], lr=0.1, penalty=L1(0.1)), lambda: ProxSGD([weight], lr=0.1)):
        optimizer = build()
        optimizer.param_groups[0]["penalty"] = L1(0.1)
        gaps.append(certify(optimizer, lambda: squared_loss(data, response, weight), quadratic=True).gap)
    assert gaps[0] == gaps[1] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_singular_values_of_half_precision_are_certified_in_single(dtype):
    torch.manual_seed(0)
    start = torch.randn(4, 3).to(dtype)
    found = []
    for precision in (dtype, torch.float32):
        weight = torch.nn.Parameter(start.to(precision))
        optimizer = ProxSGD([weight], lr=0.1, penalty=Nuclear(0.5))
        found.append(certify(optimizer, lambda weight=weight: weight.float().square().sum()))
        assert Nuclear(0.5).subgradient(weight.detach()).dtype == precision
    assert found[0].penalty == found[1].penalty
    assert found[0].residual == pytest.approx(found[1].residual, rel=0.02)


def test_coupled_weight_decay_is_part_of_the_objective(problem):
    """LASSO with a ridge is an elastic net: certified by the other penalty as well."""
    optimizer, closure, weight = trained(problem, L1(0.06), weight_decay=0.04, lr=0.2)
    found = certify(optimizer, closure, quadratic=True)
    assert found.relative_residual < 1e-9
    assert found.gap < 1e-9
    assert found.weight_decay == pytest.approx(0.02 * float(weight.detach().square().sum()))
    twin = ProxSGD([weight], lr=0.2, penalty=ElasticNet(0.1, 0.6))
    assert certify(twin, closure).relative_residual < 1e-9


def test_decoupled_weight_decay_is_counted_in_the_optimisers_metric(problem):
    optimizer, closure, _ = trained(
        problem, L1(0.06), optimizer=ProxAdamW, lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95)
    )
    found = certify(optimizer, closure)
    assert found.relative_residual < 1e-6
    assert any("decoupled" in note for note in found.notes)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    assert certify(optimizer, closure).relative_residual > 1e-4


def test_maximising_minus_the_loss_is_the_same_problem(problem):
    data, response, curvature = problem
    weight = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
    optimizer = ProxSGD([weight], lr=1 / curvature, penalty=L1(0.1), maximize=True)
    for _ in range(2000):
        optimizer.zero_grad()
        (-squared_loss(data, response, weight)).backward()
        optimizer.step()
    found = certify(optimizer, lambda: -squared_loss(data, response, weight), quadratic=True)
    assert found.relative_residual < 1e-9
    assert found.gap < 1e-9
    assert found.loss < 0 < found.objective


def test_an_unpenalised_parameter_counts_against_the_largest_strength():
    weight, bias = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = ProxSGD([{"params": [weight], "penalty": L1(0.5)}, {"params": [bias]}], lr=0.1)
    found = certify(optimizer, lambda: 0.3 * weight + 0.2 * bias)
    assert [part.relative_residual for part in found.tensors] == [0.0, pytest.approx(0.4)]
    assert found.relative_residual == pytest.approx(0.4)
    assert (found.zeros, found.penalized) == (1, 1)


def test_without_a_penalty_it_is_the_gradient():
    weight = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    found = certify(torch.optim.SGD([weight], lr=0.1), lambda: 3 * weight)
    assert found.relative_residual == 3.0
    assert found.penalty == 0.0


def test_taking_a_certificate_leaves_no_trace():
    """Weights, gradients, random numbers and buffers: as a network with dropout in training mode would show."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
    inputs = torch.randn(16, 4)
    optimizer = ProxAdam(penalize(model, L1(1e-3)), lr=1e-3)
    model(inputs).square().mean().backward()
    optimizer.step()
    before = [(p.detach().clone(), p.grad.clone(), p.grad) for p in model.parameters()]
    state = torch.get_rng_state()
    found = certify(optimizer, lambda: model(inputs).square().mean())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    for parameter, (value, gradient, same) in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is same
        assert torch.equal(parameter.grad, gradient)
    assert [part.name for part in found.tensors] == ["0.weight", "3.weight", "0.bias", "3.bias"]


class Counting(nn.Module):
    """Everything that a forward pass may leave behind beside gradients."""

    def __init__(self):
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.calls, self.generator = 0, torch.Generator().manual_seed(0)
        self.register_buffer("replaced", torch.zeros(2))

    def forward(self, rows):
        self.calls += 1
        self.replaced = self.replaced + 1
        self.register_buffer("new", torch.ones(1), persistent=False)
        return self.frozen(self.norm(rows + torch.rand(4, generator=self.generator)))


@pytest.mark.parametrize("fails", [False, True])
def test_a_certificate_leaves_the_modules_that_its_closure_calls_as_they_were(fails):
    torch.manual_seed(0)
    model, rows = Counting(), torch.randn(16, 4)
    optimizer = ProxSGD(model.norm.parameters(), lr=0.1, penalty=L1(1e-3))
    model(rows).sum().backward()
    del model.new

    def state():
        buffers = [(name, id(tensor), tensor.tolist()) for name, tensor in model.named_buffers()]
        gradients = [(id(p.grad), p.grad.tolist()) for p in model.parameters()]
        attributes = [model.calls, model.generator.get_state().tolist(), *model._non_persistent_buffers_set]
        return buffers, gradients, attributes, [module.training for module in model.modules()]

    def closure():
        model.eval()
        model.norm.train()
        loss = model(rows).square().mean()
        loss.backward()
        if fails:
            raise ZeroDivisionError
        return loss

    before = state()
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        certify(optimizer, closure)
    assert state() == before


@pytest.mark.parametrize("penalty", [L1(0.1), GroupL1(0.1), SparseGroupL1(0.1), Nuclear(0.1)], ids=repr)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_a_parameter_without_entries_is_at_its_optimum(penalty, shape):
    empty, weight = torch.nn.Parameter(torch.ones(shape)), torch.nn.Parameter(torch.ones(2, 2))
    optimizer = ProxSGD([empty, weight], lr=0.1, penalty=penalty)

    def loss():
        return (weight**2).sum()

    certificate = certify(optimizer, lambda: empty.sum() + loss())
    assert certificate.tensors[0].residual == certificate.tensors[0].relative_residual == 0
    alone = certify(ProxSGD([weight], lr=0.1, penalty=penalty), loss)
    assert certificate.relative_residual == alone.relative_residual > 0


def test_a_closure_that_calls_backward_gives_the_same_certificate(problem):
    optimizer, closure, _ = trained(problem, L1(0.1), steps=7)

    def backward():
        optimizer.zero_grad()
        loss = closure()
        loss.backward()
        return loss

    assert certify(optimizer, backward).tensors[0].distances.equal(certify(optimizer, closure).tensors[0].distances)


def test_a_parameter_without_gradient_is_named_and_left_out():
    weight, unused = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = ProxSGD([("used", weight), ("unused", unused)], lr=0.1, penalty=L1(0.1))
    found = certify(optimizer, lambda: 1 * weight.sum())
    assert [part.name for part in found.tensors] == ["used"]
    assert "unused" in found.notes[0]


def test_a_penalty_that_is_not_convex_certifies_a_stationary_point_only(problem):
    optimizer, closure, _ = trained(problem, MCP(0.1), lr=0.2)
    found = certify(optimizer, closure, quadratic=True)
    assert found.converged
    assert found.gap is None
    assert any("not convex" in note for note in found.notes)


def test_a_certificate_cannot_be_changed_and_prints_its_verdict(problem):
    optimizer, closure, _ = trained(problem, L1(0.1))
    found = certify(optimizer, closure)
    with pytest.raises(AttributeError):
        found.converged = False  # type: ignore[misc]
    assert str(found).startswith("converged")
    assert "not converged" in str(certify(optimizer, lambda: closure() * 3))


@pytest.mark.parametrize(
    ("closure", "message"),
    [(lambda: None, "closure returned None"), (lambda: torch.ones(2), "tensor of one element"),
     (lambda: torch.ones(()) * 1j, "a real tensor of one element"),
     (lambda: torch.tensor(1.0), "no parameter")],
)  # fmt: skip
def test_a_closure_that_gives_no_loss_is_refused(closure, message):
    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.ones(2)
    with pytest.raises(ValueError, match=message):
        certify(ProxSGD([weight], lr=0.1, penalty=L1(0.1)), closure)
    assert torch.equal(weight.grad, torch.ones(2))


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance is -1"):
        certify(ProxSGD([torch.ones(1, requires_grad=True)], lr=0.1), lambda: None, tolerance=-1)
