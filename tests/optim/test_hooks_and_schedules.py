"""Hooks fire once and see the final weights; schedules of the step size and of λ reach the prox."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1

KINDS = [ProxSGD, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad]


def one_weight(kind, **options):
    weight = torch.nn.Parameter(torch.tensor([1e-4, 1.0]))
    optimizer = kind([weight], penalty=L1(1.0), lr=0.1, **options)
    weight.grad = torch.zeros(2)
    return weight, optimizer


class Watch:
    """What hooks saw."""

    def __init__(self, weight):
        self.weight, self.before, self.after = weight, [], []

    def pre(self, *_):
        self.before.append(self.weight.detach().clone())

    def post(self, *_):
        self.after.append(self.weight.detach().clone())


@pytest.mark.parametrize("plain_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_fire_once_and_see_the_weights_before_and_after_the_whole_step(kind, plain_first):
    if plain_first:  # then torch has put a call of the hooks into the class whose step ours calls
        kind.parent([torch.nn.Parameter(torch.zeros(1))])
        assert kind.parent.step.hooked
    weight, optimizer = one_weight(kind)
    own, everywhere = Watch(weight), Watch(weight)
    optimizer.register_step_pre_hook(own.pre)
    optimizer.register_step_post_hook(own.post)
    handles = [register_optimizer_step_pre_hook(everywhere.pre), register_optimizer_step_post_hook(everywhere.post)]
    try:
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    for watch in (own, everywhere):
        assert len(watch.before) == len(watch.after) == 1
        assert torch.equal(watch.before[0], torch.tensor([1e-4, 1.0]))
        assert torch.equal(watch.after[0], weight.detach())
    assert weight[0] == 0  # by the prox


FRESH = """
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from nonsmooth.optim import {kind}
from nonsmooth.penalties import L1
fired = []
register_optimizer_step_post_hook(lambda *_: fired.append(float(weight[0])))
def step():
    optimizer = {kind}([weight], lr=0.1, penalty=L1(1.0))
    weight.grad = torch.zeros(1)
    optimizer.step()
weight = torch.nn.Parameter(torch.tensor([1e-4]))
step()
plain = {kind}.parent([torch.nn.Parameter(torch.zeros(1))])
weight.data.fill_(1e-4)
step()
plain.step()
print(fired)
"""


@pytest.mark.parametrize("kind", [ProxAdamW])
def test_hooks_fire_once_in_whichever_order_ours_and_torchs_are_built_first(kind):
    """In a process of its own, since torch patches its classes for good."""
    script = FRESH.format(kind=kind.__name__)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0.0, 0.0, 0.0]"


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_optimisers_are_as_they_were(kind):
    weight = torch.nn.Parameter(torch.tensor([1e-4, 1.0]))
    plain = kind.parent([weight], lr=0.1, weight_decay=0.0)
    one_weight(kind)[1].step()
    weight.grad = torch.zeros(2)
    plain.step()
    assert torch.equal(weight.detach(), torch.tensor([1e-4, 1.0]))


def test_a_subclass_of_ours_is_one_of_ours():
    class Mine(ProxAdam):
        """Somebody's."""

    weight, optimizer = one_weight(Mine)
    watch = Watch(weight)
    optimizer.register_step_post_hook(watch.post)
    optimizer.step()
    assert Mine.parent is torch.optim.Adam
    assert len(watch.after) == 1
    assert weight[0] == 0


def test_the_closure_is_called_once_with_gradients_on_and_its_loss_returned():
    weight, optimizer = one_weight(ProxSGD)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        calls.append(torch.is_grad_enabled())
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [True]
    assert float(loss.detach()) == pytest.approx(1.0)
    assert optimizer.step() is None


# Schedules


def lasso_of_one(kind, schedule, steps, **options):
    """Minimise (w - 1)²/2 + λ|w| with λ = 0.25, whose solution is 0.75, and (w - 0.2)²/2, whose solution is 0."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 0.2], dtype=torch.float64))
    target = weight.detach().clone()
    optimizer = kind([weight], penalty=L1(0.25), **options)
    scheduler = schedule(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((weight - target) ** 2).sum() / 2
        loss.backward()
        optimizer.step()
        scheduler.step(*([loss.item()] if isinstance(scheduler, ReduceLROnPlateau) else []))
    return weight.detach(), optimizer


SCHEDULES = {
    "warm-up": lambda optimizer: LambdaLR(optimizer, lambda step: min(step / 50, 1.0)),
    "one-cycle": lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=801, cycle_momentum=False),
    "one-cycle-betas": lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=801),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 800),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=100, min_lr=1e-2),
}


@pytest.mark.parametrize(
    ("kind", "options", "schedule"),
    [
        (kind, options, schedule)
        for kind, options in [
            (ProxSGD, {"lr": 0.1}),
            (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
            (ProxAdam, {"lr": 0.02}),
            (ProxNAdam, {"lr": 0.02}),
            (ProxRMSprop, {"lr": 0.02}),
        ]
        for schedule in SCHEDULES
        if schedule != "one-cycle-betas" or kind in (ProxAdam, ProxNAdam)
    ]
    + [(ProxAdagrad, {"lr": 0.3}, schedule) for schedule in ("warm-up", "cosine", "plateau")],
)
def test_lambda_is_the_same_number_under_every_schedule(kind, options, schedule):
    weight, _ = lasso_of_one(kind, SCHEDULES[schedule], 800, **options)
    torch.testing.assert_close(weight, torch.tensor([0.75, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)
    assert weight[1] == 0


def test_a_schedule_of_the_momentum_is_followed_with_the_delay_of_the_buffer():
    """OneCycleLR moves SGD's momentum too: the buffer still holds gradients weighed by the old one."""
    weight, _ = lasso_of_one(
        ProxSGD, lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=801), 800, lr=0.1, momentum=0.9
    )
    effective = 1 - float(weight[0])
    assert 0.001 < abs(effective / 0.25 - 1) < 0.05
    assert weight[1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_size_zero_moves_nothing(kind):
    """As in the first step of a warm-up."""
    weight, optimizer = one_weight(kind, weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 0.0
    weight.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.tensor([1e-4, 1.0]))
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert not torch.equal(weight.detach(), torch.tensor([1e-4, 1.0]))


def test_the_metric_follows_a_momentum_that_changes():
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = ProxSGD([parameter], lr=0.01, momentum=0.9, penalty=L1(0.25))
    parameter.grad = torch.zeros(2, dtype=torch.float64)
    for momentum in (0.95, 0.5):
        before = float(parameter.detach()[0])
        optimizer.param_groups[0]["momentum"] = momentum
        optimizer.step()
        assert before - float(parameter.detach()[0]) == pytest.approx(0.01 / (1 - momentum) * 0.25, rel=1e-12)
