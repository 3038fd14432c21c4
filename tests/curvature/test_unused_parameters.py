"""Parameters that a loss does not use have no curvature to be measured: none of them is an error, some are named."""

import copy

import pytest
import torch
from torch import nn

from nonsmooth.curvature import evaluate_point, hessian_operator, kink_gap, optimizer_sharpness, sharpness

ROWS = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def operated(loss, parameters, **options):
    with hessian_operator(loss, parameters, **options) as operator:
        return operator


def differences(loss, parameters):
    return sharpness(loss, parameters, method="finite differences")


MEASUREMENTS = {
    "sharpness": sharpness,
    "differences": differences,
    "optimizer_sharpness": lambda loss, parameters: optimizer_sharpness(torch.optim.SGD(parameters, lr=0.1), loss),
    "decayed": lambda loss, parameters: optimizer_sharpness(
        torch.optim.SGD(parameters, lr=0.1, weight_decay=0.1), loss
    ),
    "evaluate_point": evaluate_point,
    "kink_gap": kink_gap,
    "hessian_operator": operated,
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_parameters_of_another_model_are_refused(name):
    model = network()
    other = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"parameters hold 4 .* uses none of them"):
        MEASUREMENTS[name](lambda: model(ROWS).square().mean(), list(other.parameters()))


@pytest.mark.parametrize("name", ["sharpness", "evaluate_point", "optimizer_sharpness"])
def test_a_closure_that_calls_backward_on_another_model_is_refused_too(name):
    model = network()
    other = copy.deepcopy(model)

    def loss():
        value = model(ROWS).square().mean()
        value.backward()
        return value

    with pytest.raises((ValueError, RuntimeError)):
        MEASUREMENTS[name](loss, list(other.parameters()))
    assert all(p.grad is None for p in (*model.parameters(), *other.parameters()))


@pytest.mark.parametrize("method", ["double backward", "finite differences"])
def test_unused_heads_are_named_and_change_nothing(method):
    model, head = network(), nn.Linear(4, 2)

    def loss():
        return model(ROWS).square().mean()

    used = sharpness(loss, list(model.parameters()), method=method)
    both = sharpness(loss, [head.weight, *model.parameters(), head.bias], method=method)
    assert both.value == pytest.approx(used.value, rel=1e-3)
    assert both.unused == (0, 5)
    assert "does not use 2 of the parameters" in str(both)
    assert used.unused == ()
    assert evaluate_point(loss, [head.weight, *model.parameters()]).unused == (0,)
    assert kink_gap(loss, [*model.parameters(), head.weight]).unused == (4,)


def test_a_parameter_with_a_gradient_of_zero_is_used():
    weight = torch.zeros(3, requires_grad=True)
    found = sharpness(lambda: weight.square().sum() * 0, [weight])
    assert (found.value, found.unused) == (0, ())
