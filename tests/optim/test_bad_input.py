"""Input that makes no sense is named with its value, before anything has changed."""

from __future__ import annotations

import inspect

import pytest
import torch

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, MCP, SCAD, GroupL1

KINDS = [ProxSGD, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad]


def one_weight():
    return torch.nn.Parameter(torch.ones(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_step_size(kind):
    with pytest.raises(ValueError, match=r"Invalid learning rate: -0\.1"):
        kind([one_weight()], lr=-0.1, penalty=L1(0.1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), torch.tensor(-0.1), "0.1", None])
def test_a_step_size_that_somebody_makes_negative_later(kind, rate):
    weight = one_weight()
    optimizer = kind([weight], penalty=L1(0.1))
    optimizer.param_groups[0]["lr"] = rate
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match="lr is"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3))
    assert "exp_avg" not in optimizer.state[weight]


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, -1.0, 0.0])])
def test_a_negative_lambda(strength):
    with pytest.raises(ValueError, match="strength is"):
        ProxSGD([one_weight()], lr=0.1, penalty=L1(strength))
    weight = one_weight()
    optimizer = ProxSGD([weight], lr=0.1, penalty=L1(0.1))
    optimizer.param_groups[0]["penalty"]["strength"] = strength
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match="strength is"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3))


@pytest.mark.parametrize("penalty", [0.1, "L1", L1, torch.tensor(0.1), lambda weight: weight.abs().sum()])
@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
def test_a_penalty_that_is_none(kind, penalty):
    with pytest.raises(TypeError, match=r"penalty is .*; accepted is a nonsmooth\.penalties\.Penalty"):
        kind([one_weight()], penalty=penalty)
    with pytest.raises(TypeError, match="penalty is"):
        kind([{"params": [one_weight()], "penalty": penalty}])


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_keyword(kind):
    with pytest.raises(TypeError, match="strenght"):
        kind([one_weight()], strenght=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_integers(kind):
    numbers = torch.arange(3)
    with pytest.raises(ValueError, match=r"parameter 0 has dtype torch\.int64; a penalty accepts floating-point"):
        kind([numbers], penalty=L1(0.1))
    named = [("scale", one_weight()), ("counts", numbers)]
    with pytest.raises(ValueError, match="parameter counts has dtype"):
        kind(named, penalty=L1(0.1))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (ProxSGD, ProxAdagrad)])
def test_sparse_gradients(kind):
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = kind([weight], penalty=L1(0.1))
    weight.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=False)
    with pytest.raises(ValueError, match=r"grad of a parameter of shape \(4, 2\) has layout torch.sparse_coo"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(4, 2))


@pytest.mark.parametrize("kind", [ProxSGD, ProxAdagrad])
def test_sparse_gradients_are_torchs_without_a_penalty(kind):
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = kind([weight])
    weight.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=False)
    optimizer.step()
    assert torch.equal(weight.detach()[0], torch.ones(2))
    assert bool((weight.detach()[1] < 1).all())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ProxSGD, {"lr": 0.1, "momentum": 1.0}),
        (ProxSGD, {"lr": 0.1, "momentum": 1.5}),
        (ProxRMSprop, {"momentum": 1.0}),
    ],
)
def test_a_momentum_for_which_a_constant_gradient_has_no_steady_step(kind, options):
    with pytest.raises(ValueError, match=r"momentum is 1\.\d; accepted with a penalty are numbers below 1"):
        kind([one_weight()], penalty=L1(0.1), **options)
    kind([one_weight()], **options)  # torch's own affair


def test_a_dampening_that_turns_the_loss_around():
    with pytest.raises(ValueError, match=r"dampening is 1\.5"):
        ProxSGD([one_weight()], lr=0.1, momentum=0.5, dampening=1.5, penalty=L1(0.1))


@pytest.mark.parametrize(("penalty", "limit"), [(MCP(0.1, gamma=2.0), "2"), (SCAD(0.1, gamma=3.0), "2")])
def test_a_step_too_large_for_a_penalty_that_is_not_convex(penalty, limit):
    """With momentum the step of the prox is α/(1-μ), here 2, and that is what counts."""
    weight = one_weight()
    optimizer = ProxSGD([weight], lr=0.2, momentum=0.9, penalty=penalty)
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match=rf"step is 2; .* steps below {limit}"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3))
    assert optimizer.state[weight] == {}


def test_a_group_penalty_on_a_parameter_without_that_dimension():
    with pytest.raises(ValueError, match="penalty GroupL1 does not fit parameter bias: dim is 1"):
        ProxSGD(torch.nn.Linear(2, 3).named_parameters(), penalty=GroupL1(0.1, dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_shows_torchs_options_and_the_penalty(kind):
    """So that editors and help() show more than *arguments."""
    own, theirs = inspect.signature(kind).parameters, inspect.signature(kind.parent).parameters
    assert list(own) == [*theirs, "penalty"]
    assert own["penalty"].kind is inspect.Parameter.KEYWORD_ONLY
    assert all(own[name].default == theirs[name].default for name in theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_refusals_stay(kind):
    with pytest.raises(ValueError, match="empty parameter list"):
        kind([], penalty=L1(0.1))
    with pytest.raises(TypeError, match="iterable of Tensors"):
        kind(one_weight(), penalty=L1(0.1))
    optimizer = kind([one_weight()], penalty=L1(0.1))
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": optimizer.param_groups[0]["params"]})
    with pytest.raises(TypeError):
        optimizer.add_param_group([one_weight()])
    assert len(optimizer.param_groups) == 1
