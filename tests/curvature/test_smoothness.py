"""Smoothness along steps and kink gaps against closed forms."""

import numpy as np
import pytest
import torch
from cases import CASES, dense_hessian, digits, quadratic
from torch import nn
from torch.nn import functional

from nonsmooth.curvature import (
    directional_smoothness,
    evaluate_point,
    gradient_quotient,
    kink_gap,
    oscillation_smoothness,
    sharpness,
    stability_threshold,
    step_smoothness,
)


def moved(case, step):
    """The points before and after a step."""
    before = evaluate_point(case.closure, case.parameters)
    with torch.no_grad():
        for parameter in case.parameters:
            parameter.add_(step.view_as(parameter))
    return before, evaluate_point(case.closure, case.parameters)


def test_along_a_step_on_a_quadratic_everything_is_known():
    case = quadratic(torch.linspace(-1.0, 4.0, 20))
    hessian, step = dense_hessian(case), torch.randn(20, dtype=torch.float64)
    along = step_smoothness(*moved(case, step))
    curvature = float(step @ hessian @ step / step.square().sum())
    assert along.directional == pytest.approx(curvature)
    assert along.quotient == pytest.approx(float((hessian @ step).norm() / step.norm()))
    assert along.bregman == pytest.approx(curvature * float(step.square().sum()) / 2)
    assert along.backward_bregman == pytest.approx(along.bregman)
    assert along.distance == pytest.approx(float(step.norm()))
    assert not along.refutes(4.0)
    assert along.descent_residual(curvature) == pytest.approx(0, abs=1e-9)
    assert along.refutes(curvature * 0.99)
    assert along.smallest_constant == pytest.approx(max(along.quotient, abs(curvature)))


def test_in_the_metric_of_a_preconditioner():
    case = quadratic(torch.linspace(-1.0, 4.0, 20))
    hessian, step = dense_hessian(case), torch.randn(20, dtype=torch.float64)
    step[3] = 0
    metric = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)
    metric[3] = torch.inf
    before, after = moved(case, step)
    expected = float(step @ hessian @ step / (torch.where(step == 0, 0, metric) * step**2).sum())
    assert step_smoothness(before, after, metric).directional == pytest.approx(expected)
    assert step_smoothness(before, after, [metric]).directional == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"preconditioner has shape \(3,\); accepted are \(20,\)"):
        step_smoothness(before, after, torch.ones(3))


def test_an_oscillation_is_read_apart_from_the_drift_that_carries_it():
    case = quadratic(torch.linspace(-1.0, 4.0, 20))
    hessian = dense_hessian(case)
    vectors = torch.linalg.eigh(hessian).eigenvectors
    drift, swing = vectors[:, :3].sum(1), vectors[:, -3:].sum(1)
    metric = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)
    first, second = moved(case, 100 * drift - 2 * swing)
    _, third = moved(case, 100 * drift + 2 * swing)
    curvature = float(swing @ hessian @ swing / swing.square().sum())
    assert oscillation_smoothness(first, second, third).value == pytest.approx(curvature)
    along = float(swing @ hessian @ swing / (metric * swing.square()).sum())
    assert oscillation_smoothness(first, second, third, metric).value == pytest.approx(along)
    assert step_smoothness(second, third).directional < curvature / 2


@pytest.mark.parametrize("nesterov", [False, True])
def test_at_the_threshold_of_momentum_the_oscillation_has_it_and_the_step_does_not(nesterov):
    """A slope that never ends, and across it a parabola a little too curved for the optimiser."""
    weights = torch.tensor([0.0, 1e-3], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.9, nesterov=nesterov)
    curvature = 3.8 / 0.28 if nesterov else 3.8 / 0.1

    def loss():
        return -weights[0] + 1.001 * curvature / 2 * weights[1].square()

    points = []
    for _ in range(100):
        points = [*points[-2:], evaluate_point(loss, [weights])]
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert oscillation_smoothness(*points).value == pytest.approx(1.001 * curvature, rel=1e-3)
    assert step_smoothness(*points[-2:]).directional < curvature / 5


@pytest.mark.parametrize("distance", [1e-3, 1.0])
def test_across_a_kink_no_constant_survives_short_steps(distance):
    """|w| from -d/2 to d/2: ⟨Δg, Δw⟩/‖Δw‖² = 2/d."""
    weight = torch.tensor([-distance / 2], dtype=torch.float64, requires_grad=True)

    def loss():
        return weight.abs().sum()

    before = evaluate_point(loss, [weight])
    with torch.no_grad():
        weight += distance
    along = step_smoothness(before, evaluate_point(loss, [weight]))
    assert along.directional == pytest.approx(2 / distance)
    assert along.refutes(1.9 / distance)
    assert not along.refutes(2.1 / distance)


def test_the_certificate_is_silent_on_a_huber_loss_at_its_constant_and_not_below():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    constant = float(torch.linalg.eigvalsh(data.T @ data / 30)[-1])
    weight = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    response = torch.randn(30, generator=generator, dtype=torch.float64)

    def loss():
        return functional.huber_loss(data @ weight, response)

    for _ in range(50):
        before = evaluate_point(loss, [weight])
        with torch.no_grad():
            weight.copy_(torch.randn(5, generator=generator, dtype=torch.float64))
        along = step_smoothness(before, evaluate_point(loss, [weight]))
        assert not along.refutes(constant)
        assert along.smallest_constant <= constant * (1 + 1e-9)
    assert step_smoothness(*moved(quadratic(torch.full((5,), constant)), torch.ones(5))).refutes(constant / 2)


def test_rounding_refutes_nothing():
    """In float32, a linear function far from 0: its losses are off by more than a descent lemma with L = 0 allows."""
    weight = torch.full((1000,), 1000.0, requires_grad=True)
    slope = torch.randn(1000, generator=torch.Generator().manual_seed(0))

    def loss():
        return (slope * weight).sum() + 1e4

    before = evaluate_point(loss, [weight])
    with torch.no_grad():
        weight += 1e-3
    along = step_smoothness(before, evaluate_point(loss, [weight]))
    assert along.bregman != 0
    assert not along.refutes(0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_true_constant_is_never_refuted_where_large_numbers_cancel(dtype):
    """Least squares under gradient descent at α = 1/L: the descent lemma holds with equality along the top eigenvector,
    and the loss ends as a difference of numbers far above it."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(200, 20, generator=generator).to(dtype)
    response = data @ torch.randn(20, generator=generator).to(dtype) * 3
    constant = float(torch.linalg.eigvalsh(data.double().T @ data.double() / 200)[-1])
    weight = torch.zeros(20, dtype=dtype, requires_grad=True)

    def loss():
        return (data @ weight - response).square().mean() / 2

    optimizer = torch.optim.SGD([weight], lr=1 / constant)
    before = evaluate_point(loss, [weight])
    for _ in range(150):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        after = evaluate_point(loss, [weight])
        if torch.equal(before.weights, after.weights):
            break
        assert not step_smoothness(before, after).refutes(1.001 * constant)
        before = after


@pytest.mark.parametrize("how", ["logsumexp", "casts by hand", "autocast around no module"])
def test_rounding_that_precision_does_not_tell_is_measured(how):
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(50, 100, generator=generator), torch.randn(100, generator=generator)
    if how == "logsumexp":
        weight = weight + 1e4
    weight.requires_grad_()

    def loss():
        if how == "logsumexp":
            return weight.logsumexp(0) - weight[0]
        if how == "casts by hand":
            return (rows.bfloat16() @ weight.bfloat16()).float().square().mean() / 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (rows @ weight).float().square().mean() / 2

    constant = 1.0 if how == "logsumexp" else float(torch.linalg.eigvalsh(rows.T @ rows / 50)[-1])
    for _ in range(30):
        before = evaluate_point(loss, [weight])
        with torch.no_grad():
            weight.add_(1e-3 * torch.randn(100, generator=generator))
        after = evaluate_point(loss, [weight])
        assert before.noise > 0 if how == "logsumexp" else before.precision == torch.finfo(torch.bfloat16).eps
        if not torch.equal(before.weights, after.weights):
            assert not step_smoothness(before, after).refutes(1.01 * constant)


def test_negative_curvature_refutes_a_constant_as_well():
    weight = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)

    def loss():
        return -(3 * weight[0].square() + weight[1].square())

    before = evaluate_point(loss, [weight])
    with torch.no_grad():
        weight[0] += 0.1
    along = step_smoothness(before, evaluate_point(loss, [weight]))
    assert along.refutes(5.9)
    assert not along.refutes(6.1)


def test_an_oscillation_that_is_rounding_says_so():
    """Two equal steps in float32: what is left of their difference is rounding."""
    weight = torch.full((1000,), 1.0, requires_grad=True)
    points = []
    for _ in range(3):
        points.append(evaluate_point(lambda: weight.square().sum() / 2, [weight]))
        with torch.no_grad():
            weight.mul_(0.999)
    found = oscillation_smoothness(*points)
    assert found.rounding > 0.1
    weight.data.fill_(1.0)
    points = []
    for sign in (1, -1, 1):
        points.append(evaluate_point(lambda: weight.square().sum() / 2, [weight]))
        weight.data.add_(0.1 * sign)
    found = oscillation_smoothness(*points)
    assert found.value == pytest.approx(1, rel=1e-4)
    assert found.rounding < 1e-3


def test_a_preconditioner_that_is_none_is_refused():
    before, after = moved(quadratic(torch.ones(3)), torch.ones(3))
    for entry in (0.0, -1.0):
        with pytest.raises(ValueError, match="accepted are positive"):
            step_smoothness(before, after, torch.tensor([1.0, entry, 1.0]))


def test_many_pairs_at_once():
    move, change = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    assert directional_smoothness(move, change).shape == gradient_quotient(move, change).shape == (3, 4)
    one = directional_smoothness(move[1, 2], change[1, 2])
    assert float(directional_smoothness(move, change)[1, 2]) == pytest.approx(float(one))
    assert (directional_smoothness(move, change).abs() <= gradient_quotient(move, change) * (1 + 1e-6)).all()


def test_points_that_cannot_be_compared_are_refused():
    case, other = quadratic(torch.ones(3)), quadratic(torch.ones(4))
    before = evaluate_point(case.closure, case.parameters)
    with pytest.raises(ValueError, match="same point"):
        step_smoothness(before, before)
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        step_smoothness(before, evaluate_point(other.closure, other.parameters))
    with pytest.raises(ValueError, match=r"first and second and third have \(3,\) and \(3,\) and \(4,\)"):
        oscillation_smoothness(before, before, evaluate_point(other.closure, other.parameters))
    with pytest.raises(ValueError, match="steps from first to second"):
        oscillation_smoothness(before, before, before)


def network(activation):
    torch.manual_seed(0)
    inputs, targets = digits(400)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), activation(), nn.Linear(30, 10)).double()
    return lambda: functional.cross_entropy(model(inputs), targets), list(model.parameters())


@pytest.mark.parametrize("where", ["top eigenvector", "random direction"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.ReLU])
def test_only_relu_has_a_gap(activation, where):
    closure, parameters = network(activation)
    direction = sharpness(closure, parameters).eigenvector if where == "top eigenvector" else None
    found = kink_gap(closure, parameters, direction=direction)
    if activation is nn.ReLU:
        assert max(found.gaps) > 0.05
    else:
        assert max(found.gaps) < 1e-3
    assert found.epsilons == (1e-5, 1e-4, 1e-3, 1e-2)
    assert max(found.rounding) < 1e-3


def test_the_gap_of_a_kink_is_what_it_should_be():
    """w²/2 + |w| at 0.001: no kink within ε = 1e-4, one within 1e-2, where the slope jumps by 2."""
    weight = torch.tensor([1e-3], dtype=torch.float64, requires_grad=True)
    found = kink_gap(lambda: weight @ weight / 2 + weight.abs().sum(), [weight], epsilons=(1e-4, 1e-2))
    assert found.hessian == 1
    assert found.differences == pytest.approx((1, 1 + 2 / 2e-2))
    assert found.gaps == pytest.approx((0, 100 / 101), abs=1e-9)


def test_in_float32_the_rounding_is_reported():
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1)), torch.randn(50, 20)
    found = kink_gap(lambda: model(rows).square().mean(), model.parameters(), epsilons=(1e-6, 1e-2))
    assert found.gaps[0] > 1e-3
    assert found.rounding[0] > 1e-2
    assert found.gaps[1] < 1e-2


def test_bad_input_is_named():
    case = quadratic(torch.ones(3))
    with pytest.raises(ValueError, match="epsilons is"):
        kink_gap(case.closure, case.parameters, epsilons=(0.0,))
    with pytest.raises(ValueError, match="direction has shape"):
        kink_gap(case.closure, case.parameters, direction=torch.zeros(3))

    def backward():
        loss = case.closure()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="calls backward itself"):
        kink_gap(backward, case.parameters)
    assert case.parameters[0].grad is None
    assert CASES


def test_a_closure_that_draws_another_batch_each_time_is_refused():
    """Its differences would be those of the data, and look like kinks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    batches = iter(torch.randn(100, 16, 4, dtype=torch.float64))
    for measure in (evaluate_point, kink_gap):
        with pytest.raises(ValueError, match="at the same weights"):
            measure(lambda: model(next(batches)).square().mean(), model.parameters())


def test_a_closure_that_calls_backward_has_no_hessian_to_compare_with():
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def loss():
        value = weight.square().sum()
        value.backward()
        return value

    with pytest.raises(RuntimeError, match="no Hessian to compare with: the closure calls backward"):
        kink_gap(loss, [weight])


def test_lengths_may_be_an_array():
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    read = kink_gap(lambda: weight.pow(4).sum(), [weight], epsilons=np.logspace(-4, -2, 3))
    assert read.epsilons == pytest.approx((1e-4, 1e-3, 1e-2))


def test_points_and_preconditioner_are_of_one_order():
    """An optimiser with groups has another order than its model."""
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), torch.randn(20, 4)
    decayed, others = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    optimizer = torch.optim.Adam([{"params": decayed}, {"params": others}], lr=1e-2)

    def loss():
        return model(rows).square().mean()

    in_order = [*decayed, *others]
    points = {"model": [], "optimiser": []}
    for _ in range(2):
        points["model"].append(evaluate_point(loss, model.parameters()))
        points["optimiser"].append(evaluate_point(loss, in_order))
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    metric = stability_threshold(optimizer).preconditioner
    assert step_smoothness(*points["optimiser"], metric).directional > 0
    with pytest.raises(ValueError, match="order of the optimiser's groups"):
        step_smoothness(*points["model"], metric)
    with pytest.raises(ValueError, match="one order"):
        step_smoothness(points["model"][0], points["optimiser"][1])
