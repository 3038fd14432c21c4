"""After an overflow that GradScaler finds, weights, state and penalty are as if the step had not been asked for."""

from __future__ import annotations

import copy

import pytest
import torch

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadySGD,
    attach,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

PENALTIES = [
    L1(0.05),
    ElasticNet(0.05),
    GroupL1(0.05),
    SparseGroupL1(0.05),
    Nuclear(0.05),
    MCP(0.05),
    SCAD(0.05),
    TransformedL1(0.05),
    L0(0.05),
]
FUSED = [
    (ProxSGD, {"lr": 0.1, "fused": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    (ProxAdam, {"fused": True}),
    (ProxAdam, {"fused": True, "amsgrad": True, "eps": 0.0}),
    (ProxAdamW, {"fused": True, "weight_decay": 0.1}),
    (ProxAdagrad, {"fused": True}),
]
PLAIN = [
    (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    (ProxAdam, {}),
    (ProxNAdam, {}),
    (ProxRMSprop, {"centered": True}),
    (ProxAdagrad, {}),
]


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan():
    """What is left uninitialised is found always, not only where the memory happens to hold large numbers."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def scaled_step(weight, optimizer, scaler, gradient):
    optimizer.zero_grad()
    scaler.scale((weight * gradient).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


def start():
    return torch.nn.Parameter(torch.randn(5, 4, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), FUSED + PLAIN)
def test_an_overflow_leaves_the_weights_untouched(kind, options, penalty):
    """In the very first step, when an optimiser has no averages yet, and later."""
    weight = start()
    optimizer = kind([weight], penalty=penalty, **options)
    assert getattr(optimizer, "_step_supports_amp_scaling", False) == options.get("fused", False)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    finite = torch.linspace(-1, 1, 20).reshape(5, 4)
    for step in range(4):
        before = weight.detach().clone()
        overflowing = step in (0, 2)
        gradient = finite.clone()
        if overflowing:
            gradient[1, 2] = torch.inf
        scaled_step(weight, optimizer, scaler, gradient)
        assert not weight.isnan().any()
        assert torch.equal(weight.detach(), before) == overflowing
    assert scaler.get_scale() == 2.0


class OwnSGD(torch.optim.SGD):
    """A subclass, which a penalty is attached to by hooks."""


@pytest.mark.parametrize("options", [{}, {"dampening": 0.5}, {"nesterov": True}], ids=str)
@pytest.mark.parametrize("kind", [ProxSGD, SteadySGD, OwnSGD])
def test_momentum_begins_after_an_overflow_as_if_that_had_not_been(kind, options):
    """Torch's fused SGD averages memory that nothing has written."""

    def build(weight):
        options_ = {"lr": 0.1, "momentum": 0.9, "fused": True, **options}
        if kind is OwnSGD:
            return attach(OwnSGD([weight], **options_), L1(0.05))
        return kind([weight], penalty=L1(0.05), **options_)

    weight, other = start(), start()
    overflowing, calm = build(weight), build(other)
    scaled_step(weight, overflowing, torch.amp.GradScaler("cpu", init_scale=8.0), torch.full((5, 4), torch.inf))
    assert torch.equal(weight, other)
    for _ in range(3):
        for each, optimizer in ((weight, overflowing), (other, calm)):
            scaled_step(each, optimizer, torch.amp.GradScaler("cpu", init_scale=8.0), torch.ones(5, 4))
    assert torch.equal(weight, other)
    assert torch.equal(overflowing.state[weight]["momentum_buffer"], calm.state[other]["momentum_buffer"])


@pytest.mark.parametrize("forgetting", [0.0, 2.0])
@pytest.mark.parametrize("kind", [SteadySGD, SteadyAdam])
def test_a_mean_pull_begins_after_an_overflow_as_if_that_had_not_been(kind, forgetting):
    weight, other = start(), start()
    options = {"lr": 0.1, "fused": True, "penalty": L1(0.05), "forgetting": forgetting}
    overflowing, calm = kind([weight], **options), kind([other], **options)
    scaled_step(weight, overflowing, torch.amp.GradScaler("cpu", init_scale=8.0), torch.full((5, 4), torch.inf))
    for _ in range(3):
        for each, optimizer in ((weight, overflowing), (other, calm)):
            scaled_step(each, optimizer, torch.amp.GradScaler("cpu", init_scale=8.0), torch.ones(5, 4))
    assert torch.equal(weight, other)
    assert torch.equal(overflowing.state[weight]["pull"], calm.state[other]["pull"])


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), FUSED + PLAIN)
def test_a_step_through_the_scaler_is_the_step_without_it(kind, options, penalty):
    """The scale is a power of two, so that scaling rounds nothing."""
    weight, other = start(), start()
    scaled, bare = (kind([each], penalty=penalty, **options) for each in (weight, other))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(5):
        gradient = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        scaled_step(weight, scaled, scaler, gradient)
        other.grad = gradient.clone()
        bare.step()
    # The prox of an overflow that did not happen has its step as a float32 tensor, not as a number.
    torch.testing.assert_close(weight, other, rtol=2e-6, atol=1e-7)


def test_a_double_precision_step_stays_one_under_the_scaler():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = ProxSGD([weight], lr=0.1, fused=True, penalty=L1(0.3))
    scaled_step(weight, optimizer, torch.amp.GradScaler("cpu", init_scale=8.0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.97, dtype=torch.float64), rtol=1e-15, atol=0)


def test_a_copy_of_a_fused_optimiser_is_stepped_by_the_scaler_too():
    """Copies lose torch's mark of a fused step, and the scaler then leaves the step out instead."""
    weight = start()
    optimizer = ProxAdam([weight], fused=True, penalty=L1(0.05))
    weight, optimizer = copy.deepcopy((weight, optimizer))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = weight.detach().clone()
    scaled_step(weight, optimizer, scaler, torch.full((5, 4), torch.inf))
    assert torch.equal(weight.detach(), before)
    scaled_step(weight, optimizer, scaler, torch.ones(5, 4))
    assert not torch.equal(weight.detach(), before)
