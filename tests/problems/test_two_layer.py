"""Networks all at once against plain modules, one at a time."""

import pytest
import torch
from torch import nn

from nonsmooth.problems.two_layer import TwoLayer


def squared(outputs, targets):
    return (outputs[..., 0] - targets).square()


def network(activation=torch.tanh, decay=0.1):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    return TwoLayer(inputs, inputs.sum(-1), 4, 1, activation, squared, decay)


def plain(networks, weights, seed):
    first, second = nn.Linear(3, 4).double(), nn.Linear(4, 1).double()
    parts = torch.split(weights[seed], networks.sizes)
    for parameter, part in zip([*first.parameters(), *second.parameters()], parts, strict=True):
        parameter.data = part.view_as(parameter).clone()
    output = second(torch.tanh(first(networks.inputs[seed])))[:, 0]
    parameters = [*first.parameters(), *second.parameters()]
    loss = (output - networks.targets[seed]).square().mean() + 0.05 * sum(p.square().sum() for p in parameters)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    return loss.item(), gradient


def test_value_and_gradient_are_those_of_modules():
    networks = network()
    weights = networks.start(range(2)) + 0.1
    for seed in range(2):
        loss, gradient = plain(networks, weights, seed)
        assert networks.value(weights)[seed].item() == pytest.approx(loss)
        assert torch.allclose(networks.gradient(weights)[seed], gradient)


def test_the_hessian_is_the_derivative_of_the_gradient():
    networks = network()
    weights = networks.start(range(2)) + 0.1
    vector = torch.ones_like(weights)
    change = networks.gradient(weights + 1e-5 * vector) - networks.gradient(weights - 1e-5 * vector)
    assert torch.allclose(networks.hessian_product(weights, vector), change / 2e-5, atol=1e-8)


def test_a_seed_starts_alike_in_any_company():
    networks = network()
    assert torch.equal(networks.start(range(3, 5))[1], networks.start(range(4, 5))[0])


def test_a_smooth_slope_does_not_jump_and_a_kinked_one_does():
    smooth, kinked = network(), network(torch.relu)
    weights = smooth.start(range(2)) + 0.1
    assert smooth.slope_jump(weights).max() < 1e-4
    weights[:, : smooth.sizes[0]] = 0
    weights[:, smooth.sizes[0] : sum(smooth.sizes[:2])] = 0
    assert kinked.slope_jump(weights).min() > 1e-3
    assert kinked.preactivation(weights).abs().max() == 0


def test_scaled_like():
    networks = network()
    one, other = networks.start(range(2)) + 0.1, networks.start(range(5, 7)) * 3 + 0.2
    scaled = torch.split(networks.scaled_like(one, other), networks.sizes, dim=1)
    for part, wanted in zip(scaled, torch.split(other, networks.sizes, dim=1), strict=True):
        assert torch.allclose(part.norm(dim=1), wanted.norm(dim=1))


def test_a_minimum_is_reached():
    networks = network()
    start = networks.start(range(2))
    end, rest = networks.minimize(start, 2000, 0.05)
    assert rest.max() < 1e-4
    assert (networks.value(end) < networks.value(start)).all()
    assert networks.gradient(end).abs().max() < 1e-4
