"""Where double backward would be silently wrong, it is not used; and differences say how far they are off."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nonsmooth.curvature import evaluate_point, kink_gap, sharpness

MODES = "computes? different things in training and in evaluation"


def two_layers():
    torch.manual_seed(0)
    first, last = nn.Linear(6, 20, bias=False).double(), nn.Linear(20, 3).double()
    return first, last, torch.randn(30, 6, dtype=torch.float64), torch.randint(3, (30,))


def plain_sharpness(first, last, inputs, targets, middle=torch.tanh):
    """By double backward through functions of PyTorch alone."""
    parameters = [*first.parameters(), *last.parameters()]
    found = sharpness(
        lambda: functional.cross_entropy(last(middle(first(inputs))), targets),
        parameters,
        tolerance=1e-6,
        max_products=150,
    )
    assert found.method == "double backward"
    return found.value


def test_a_reentrant_checkpoint_hides_its_parameters_and_gets_differences():
    first, last, inputs, targets = two_layers()

    def loss():
        rows = inputs.clone().requires_grad_()
        hidden = checkpoint(lambda part: torch.tanh(first(part)), rows, use_reentrant=True)
        return functional.cross_entropy(last(hidden), targets)

    parameters = [*first.parameters(), *last.parameters()]
    found = sharpness(loss, parameters)
    assert found.method == "finite differences"
    assert "reentrant" in found.reason
    assert found.converged
    assert found.value == pytest.approx(plain_sharpness(first, last, inputs, targets), rel=1e-2)
    point = evaluate_point(loss, parameters)
    loss().backward()
    torch.testing.assert_close(point.gradient, torch.cat([p.grad.flatten() for p in parameters]))


class Opaque(torch.autograd.Function):
    """Tanh whose backward pass autograd cannot see through, and which does not say so."""

    @staticmethod
    def forward(context, rows):
        result = torch.from_numpy(np.tanh(rows.detach().numpy()))
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context, slope):
        (result,) = context.saved_tensors
        out = torch.empty_like(slope)
        out.copy_(torch.from_numpy(slope.detach().numpy() * (1 - result.detach().numpy() ** 2)))
        return out


def test_products_that_are_not_symmetric_give_way_to_differences():
    """A linear layer more, so that every gradient has some way back to the weights."""
    second, last, inputs, targets = two_layers()
    first = nn.Sequential(nn.Linear(6, 6, bias=False).double(), second)
    parameters = [*first.parameters(), *last.parameters()]

    def loss():
        return functional.cross_entropy(last(Opaque.apply(first(inputs))), targets)

    found = sharpness(loss, parameters)
    assert found.method == "finite differences"
    assert "not symmetric" in found.reason
    assert found.value == pytest.approx(plain_sharpness(first, last, inputs, targets), rel=1e-2)
    with pytest.raises(RuntimeError, match="autograd refuses"):
        sharpness(loss, parameters, method="double backward")


@pytest.mark.parametrize("width", [50, 400])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU])
def test_differences_in_single_precision_are_right_at_any_width(activation, width):
    torch.manual_seed(0)
    inputs, targets = torch.randn(100, 80), torch.randint(10, (100,))
    model = nn.Sequential(
        nn.Linear(80, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 10)
    )
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight)

    def loss():
        return functional.cross_entropy(model(inputs), targets)

    exact = sharpness(loss, model.parameters(), tolerance=1e-4, max_products=60)
    found = sharpness(loss, model.parameters(), method="finite differences", start=exact.eigenvector)
    assert found.value == pytest.approx(exact.value, rel=1e-3)
    assert found.converged
    assert found.products <= 15


def test_differences_over_too_long_a_step_do_not_converge():
    """Inputs in the thousands: the loss changes over distances far below the ε of single precision."""
    torch.manual_seed(0)
    inputs, weight = 2000 * torch.randn(50, 5), torch.zeros(5, requires_grad=True)

    def loss():
        return torch.cos(inputs @ weight).mean()

    found = sharpness(loss, [weight], method="finite differences")
    assert not found.converged
    assert found.error > 0.1 * abs(found.value)


class Functional(nn.Module):
    """Drops entries by a function, as it is in training or not."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))

    def forward(self, rows):
        out = self.layer(rows)
        if self.how == "dropout":
            return functional.dropout(out, 0.5, self.training)
        if self.how == "batch_norm":
            return functional.batch_norm(out, self.mean, self.variance, training=self.training)
        part = out.view(1, 1, -1, 3)
        dropped = 0.5 if self.training else 0.0
        return functional.scaled_dot_product_attention(part, part, part, dropout_p=dropped).view(-1, 3)


@pytest.mark.parametrize("how", ["dropout", "batch_norm", "scaled_dot_product_attention"])
def test_functions_that_go_by_a_mode_need_one_too(how):
    torch.manual_seed(0)
    model, inputs = Functional(how), torch.randn(20, 6)

    def loss():
        return model(inputs).square().mean()

    with pytest.raises(ValueError, match=f"mode is None, but {how}"):
        sharpness(loss, model.parameters())
    values = {mode: sharpness(loss, model.parameters(), mode=mode).value for mode in ("train", "eval")}
    assert values["train"] != pytest.approx(values["eval"], rel=1e-2)


@pytest.mark.parametrize("method", ["double backward", "finite differences"])
@pytest.mark.parametrize("mode", ["train", "eval", "current"])
def test_a_closure_that_switches_modes_does_not_choose_for_the_caller(mode, method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,))

    def plain():
        return functional.cross_entropy(model(inputs), targets)

    def switching():
        model.eval()
        return plain()

    expected = sharpness(plain, model.parameters(), mode="eval" if mode == "current" else mode, tolerance=1e-5).value
    found = sharpness(switching, model.parameters(), mode=mode, method=method, tolerance=1e-5)
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert all(module.training for module in model.modules())


def test_bad_arguments_are_named():
    weight = torch.ones(3, requires_grad=True)

    def loss():
        return weight.square().sum()

    with pytest.raises(TypeError, match="start is a list"):
        sharpness(loss, [weight], start=[1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"max_products is 2\.5"):
        sharpness(loss, [weight], max_products=2.5)
    with pytest.raises(ValueError, match="hold no entry"):
        sharpness(loss, [torch.ones(0, requires_grad=True)])
    with pytest.raises(TypeError, match="hold a tuple"):
        sharpness(loss, [("weight", weight)])


def test_messages_name_what_came_and_not_all_of_its_numbers():
    model, rows = nn.Linear(3, 1), torch.randn(100, 3)
    with pytest.raises(ValueError, match=r"closure returned a tensor of shape \(100, 1\)"):
        sharpness(lambda: model(rows).square(), model.parameters())
    with pytest.raises(TypeError, match="parameters is a Linear"):
        sharpness(lambda: model(rows).square().mean(), model)


@pytest.mark.parametrize("later", [torch.nan, torch.inf, -torch.inf, 2.0])
@pytest.mark.parametrize(
    ("measure", "other_way_round"),
    [
        (evaluate_point, False),
        (evaluate_point, True),
        (kink_gap, False),
        (kink_gap, True),
        (functools.partial(sharpness, method="finite differences"), False),
    ],
)
def test_a_loss_that_is_another_one_when_it_is_computed_again_is_refused(measure, other_way_round, later):
    """Differences would be those of the data."""
    weight, calls = torch.ones(3, requires_grad=True), []

    def loss():
        calls.append(None)
        other = (len(calls) == 1) is other_way_round
        return weight.square().sum() + (later if other else 0.0)

    with pytest.raises(ValueError, match="closure returned"):
        measure(loss, [weight])


@pytest.mark.parametrize("added", [torch.inf, torch.nan])
def test_there_is_no_sharpness_where_the_loss_is_no_number(added):
    """Even if its gradient is one."""
    weight = torch.ones(3, requires_grad=True)
    found = sharpness(lambda: weight.square().sum() + added, [weight])
    assert np.isnan(found.value)
    assert not found.converged
