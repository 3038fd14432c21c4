"""What a training loop does beside stepping, and what becomes of λ, as docs/concepts/training-traps.md says."""

from __future__ import annotations

import pytest
import torch

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, MCP, SCAD, ElasticNet, TransformedL1
from nonsmooth.torch_optimizers import rule_of

KINDS = [ProxSGD, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad]
LAM = 0.25


def effective_lambda(optimizer, weight, clip=None, noise=0.0, steps=1500):
    """By how much the mean of w misses 2, the minimum of the loss (w - 2)²/2 alone: the λ that results."""
    generator = torch.Generator().manual_seed(0)
    target, seen = torch.tensor([2.0, 1.0], dtype=torch.float64), []
    for step in range(steps):
        weight.grad = weight.detach() - target
        weight.grad += noise * torch.randn(2, generator=generator, dtype=torch.float64)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([weight], clip)
        optimizer.step()
        if step >= steps // 2:
            seen.append(float(weight.detach()[0]))
    return 2 - sum(seen) / len(seen)


def two_weights(kind, **options):
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    return kind([weight], penalty=L1(LAM), **options), weight


@pytest.mark.parametrize("clip", [None, 5.0, 0.5])
def test_clipping_that_has_stopped_changes_nothing(clip):
    """At the solution the gradient is as long as λ√2 here, so that a longer one may be clipped on the way."""
    assert effective_lambda(*two_weights(ProxSGD, lr=0.1), clip=clip) == pytest.approx(LAM, rel=1e-6)


def test_clipping_below_lambda_leaves_nothing():
    """The loss may then pull with less than λ, whatever the data say."""
    optimizer, weight = two_weights(ProxSGD, lr=0.1)
    effective_lambda(optimizer, weight, clip=0.9 * LAM)
    assert torch.equal(weight.detach(), torch.zeros(2, dtype=torch.float64))


def test_clipping_noisy_gradients_raises_lambda():
    """It scales the loss down by the mean of the clipping factor and leaves the penalty as it is."""
    found = {
        clip: effective_lambda(*two_weights(ProxSGD, lr=0.05), clip=clip, noise=2.0, steps=4000)
        for clip in (None, 5.0, 2.0, 1.0)
    }
    assert found[None] == pytest.approx(LAM, abs=0.06)
    assert found[5.0] == pytest.approx(LAM, abs=0.08)
    assert 1.6 * LAM < found[2.0] < 2.4 * LAM
    assert 3 * LAM < found[1.0] < 4.5 * LAM


def test_bfloat16_keeps_large_weights_from_shrinking():
    """1.0 - 1e-3 is 1.0 there; small weights still go."""
    ends = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(torch.tensor([1.0, 0.1, 0.004], dtype=dtype))
        optimizer = ProxSGD([weight], lr=0.01, penalty=L1(0.1))
        weight.grad = torch.zeros_like(weight)
        for _ in range(900):
            optimizer.step()
        ends[dtype] = weight.detach().float()
    assert ends[torch.bfloat16].tolist() == [1.0, 0.0, 0.0]
    torch.testing.assert_close(ends[torch.float32], torch.tensor([0.1, 0.0, 0.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_and_those_without_a_gradient_stay(kind):
    used, frozen, unused = (torch.nn.Parameter(torch.full((3,), 0.5)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = kind([used, frozen, unused], penalty=L1(0.1))
    for _ in range(3):
        optimizer.zero_grad()
        (used * frozen).sum().backward()
        optimizer.step()
    assert not torch.equal(used.detach(), torch.full((3,), 0.5))
    assert torch.equal(frozen, torch.full((3,), 0.5))
    assert torch.equal(unused.detach(), torch.full((3,), 0.5))


def test_a_gradient_of_zeros_is_a_gradient():
    """`zero_grad(set_to_none=False)` makes a parameter that the loss does not use shrink."""
    weight = torch.nn.Parameter(torch.full((3,), 0.5))
    optimizer = ProxSGD([weight], lr=1.0, penalty=L1(0.1))
    weight.grad = torch.ones(3)
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.4))


def test_adam_moves_a_weight_that_no_batch_uses_slowly_at_first_and_to_zero_in_the_end():
    """D is α/ε where no gradient has been; the limit of the prox is 2t/(t + 1000) step sizes there."""
    rows = torch.nn.Embedding(4, 2)
    torch.nn.init.constant_(rows.weight, 0.5)
    optimizer = ProxAdam(rows.parameters(), lr=1e-3, penalty=L1(0.1))
    unused = []
    for _ in range(900):
        optimizer.zero_grad()
        rows(torch.tensor([0, 1])).sum().backward()
        optimizer.step()
        unused.append(float(rows.weight.detach()[2:].max()))
    assert unused[0] > 0.499
    assert unused[99] > 0.49
    assert unused[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_tied_parameters_are_thresholded_once(kind):
    tied = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    alone = torch.nn.Parameter(tied[0].weight.detach().clone())
    ours, single = kind(tied.parameters(), penalty=L1(0.1)), kind([alone], penalty=L1(0.1))
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        ours.zero_grad()
        tied(inputs).square().sum().backward()
        alone.grad = tied[0].weight.grad.clone()
        ours.step()
        single.step()
    assert torch.equal(tied[0].weight, alone)
    assert tied[0].weight is tied[1].weight


def test_accumulated_gradients_are_one_step_with_one_threshold():
    """Sums of k losses that are not divided by k make the loss k times as large, and λ a k-th."""
    solutions = []
    for divisor in (4, 1):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = ProxSGD([weight], lr=0.05, penalty=L1(LAM))
        for _ in range(600):
            optimizer.zero_grad()
            for target in (0.5, 1.5, 2.5, 3.5):
                (((weight - target) ** 2 / 2).sum() / divisor).backward()
            optimizer.step()
        solutions.append(2 - float(weight.detach()))
    assert solutions == pytest.approx([LAM, LAM / 4], rel=1e-9)


@pytest.mark.parametrize(("kind", "options"), [(ProxSGD, {"lr": 0.1, "momentum": 0.9}), (ProxAdam, {"lr": 0.02})])
def test_coupled_weight_decay_is_the_ridge_of_an_elastic_net(kind, options):
    optimizer, weight = two_weights(kind, weight_decay=0.5, **options)
    coupled = effective_lambda(optimizer, weight)
    other = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    net = ElasticNet(LAM + 0.5, l1_ratio=LAM / (LAM + 0.5))
    in_penalty = effective_lambda(kind([other], penalty=net, **options), other)
    closed_form = 2 - (2 - LAM) / 1.5
    assert coupled == pytest.approx(closed_form, rel=1e-6)
    assert in_penalty == pytest.approx(closed_form, rel=1e-6)


def swing(penalty, steps=1500, **options):
    """By how much ‖w‖ still changes at the end of a regression with twelve weights."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 12, generator=generator, dtype=torch.float64)
    noise = torch.randn(60, generator=generator, dtype=torch.float64)
    outputs = inputs[:, :4] @ torch.tensor([2.0, -1.5, 1.0, -0.7], dtype=torch.float64) + 0.5 * noise
    hessian, linear = inputs.T @ inputs / 60, inputs.T @ outputs / 60
    weight = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
    optimizer = ProxSGD([weight], penalty=penalty, **options)
    norms = []
    for step in range(steps):
        weight.grad = hessian @ weight.detach() - linear
        optimizer.step()
        if step >= steps - 300:
            norms.append(float(weight.detach().norm()))
    return max(norms) - min(norms)


@pytest.mark.parametrize(
    "penalty", [MCP(0.2), SCAD(0.2), TransformedL1(0.1, shape=0.5)], ids=lambda p: type(p).__name__
)
def test_heavy_ball_with_a_penalty_that_is_not_convex_can_swing_for_ever(penalty):
    """The prox answers at once, with the step α/(1-μ); the loss answers over 1/(1-μ) steps."""
    assert swing(penalty, lr=0.1, momentum=0.9) > 0.1
    assert swing(L1(0.2), lr=0.1, momentum=0.9) < 1e-9  # a convex one settles
    assert swing(penalty, lr=0.1) < 1e-9  # without momentum
    assert swing(penalty, lr=0.01, momentum=0.9, steps=3000) < 1e-9  # with a shorter step


@pytest.mark.parametrize("penalty", [MCP(0.2), TransformedL1(0.1, shape=0.5)], ids=lambda p: type(p).__name__)
def test_nesterov_settles_where_heavy_ball_swings(penalty):
    assert swing(penalty, lr=0.1, momentum=0.9, nesterov=True) < 1e-9


@pytest.mark.parametrize(("kind", "options"), [(ProxSGD, {"lr": 0.1}), (ProxAdam, {"lr": 0.02})])
def test_maximize_turns_the_loss_around_and_not_the_penalty(kind, options):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([weight], penalty=L1(LAM), maximize=True, **options)
    for _ in range(1000):
        optimizer.zero_grad()
        (-((weight - 2) ** 2) / 2).sum().backward()
        optimizer.step()
    assert 2 - float(weight.detach()) == pytest.approx(LAM, rel=1e-6)


def test_lbfgs_has_no_step_to_measure():
    with pytest.raises(ValueError, match="optimizer is a LBFGS"):
        rule_of(torch.optim.LBFGS)
