"""Runs on the digits sit at the threshold of their optimiser, a control does not, and kinks look otherwise."""

import statistics

import pytest
import torch
from cases import digits
from torch import nn
from torch.nn import functional

from nonsmooth.claims.huber.huber_data import draw_regression, draw_start
from nonsmooth.claims.lasso.lasso_data import draw_lasso
from nonsmooth.curvature import evaluate_point, optimizer_sharpness, step_smoothness

OPTIMISERS = {
    "gd": lambda weights: torch.optim.SGD(weights, lr=0.15),
    "nesterov": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=5e-4),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
}


def network(activation):
    inputs, targets = digits(300)
    inputs, targets = inputs.float(), functional.one_hot(targets, 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), activation(), nn.Linear(20, 10))
    return lambda: (model(inputs) - targets).square().sum(1).mean() / 2, list(model.parameters())


def readings(closure, weights, optimizer, steps, late):
    """Medians over late measurements: sharpness and directional smoothness over the threshold."""
    ratios, along, last = [], [], None
    for step in range(1, steps + 1):
        measures = step > steps - late and step % 20 == 0
        before = evaluate_point(closure, weights) if measures else None
        optimizer.zero_grad()
        closure().backward()
        optimizer.step()
        if before is not None:
            read = optimizer_sharpness(optimizer, closure, start=last)
            last = read.sharpness.eigenvector
            ratios.append(read.ratio)
            taken = step_smoothness(before, evaluate_point(closure, weights), read.threshold.preconditioner)
            along.append(taken.directional / read.threshold.value)
    return statistics.median(ratios), statistics.median(along)


@pytest.mark.parametrize(
    ("activation", "name", "steps"),
    [
        (nn.Tanh, "gd", 600),
        (nn.ReLU, "gd", 600),
        (nn.Tanh, "nesterov", 500),
        (nn.ReLU, "nesterov", 700),
        (nn.Tanh, "rmsprop", 700),
        (nn.ReLU, "rmsprop", 700),
        (nn.Tanh, "adam", 1250),
        (nn.ReLU, "adam", 1250),
    ],
)
def test_full_batch_training_ends_at_the_threshold(activation, name, steps):
    closure, weights = network(activation)
    ratio, along = readings(closure, weights, OPTIMISERS[name](weights), steps, late=200)
    assert 0.95 <= ratio <= 1.1
    if name in ("gd", "rmsprop"):
        assert 0.9 <= along <= 1.1


def test_with_a_small_step_both_stay_below():
    closure, weights = network(nn.GELU)
    ratio, along = readings(closure, weights, torch.optim.SGD(weights, lr=0.02), 600, late=200)
    assert ratio < 0.6
    assert along < 0.6


def test_a_huber_regression_far_above_its_threshold_cycles_where_its_hessian_is_not():
    problem = draw_regression("uniform", 0, 1)
    data, response = problem.data[0], problem.response[0]
    weight = draw_start("uniform", 0, 1)[0, 0].clone().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=10.0)
    ratio, along = readings(lambda: functional.huber_loss(data @ weight, response), [weight], optimizer, 300, late=150)
    assert along == pytest.approx(1, abs=0.05)
    assert ratio < 0.5


def test_a_lasso_that_its_penalty_dominates_cycles_across_kinks():
    drawn = draw_lasso(0, 1)
    data, response, weight = drawn.data[0], drawn.response[0], drawn.start[0].clone().requires_grad_()

    def objective():
        return (response - data @ weight).square().mean() + 10 * weight.abs().sum()

    ratio, along = readings(objective, [weight], torch.optim.SGD([weight], lr=0.01), 300, late=150)
    assert along == pytest.approx(1, abs=0.05)
    curvature = 2 * float(torch.linalg.matrix_norm(data, 2)) ** 2 / len(data)
    assert ratio == pytest.approx(0.01 * curvature / 2, rel=0.01)
    assert ratio < 0.2
