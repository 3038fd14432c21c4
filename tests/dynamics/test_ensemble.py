"""The ensemble recursion against torch.optim.SGD with autograd, one run at a time."""

import math

import pytest
import torch

from nonsmooth.dynamics import Constant, Diminishing, Reducing, iterate
from nonsmooth.dynamics.recording import (
    Count,
    FirstStep,
    Largest,
    LastStep,
    Points,
    Smallest,
    Trace,
    active_units,
    evenly_spaced,
    log_spaced,
    loss,
    loss_rose,
    norm,
)
from nonsmooth.problems import l1_norm, relu_regression


@pytest.fixture
def ensemble():
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(5, 4, 7, generator=generator, dtype=torch.float64) * 2 - 1
    response = -torch.rand(5, 4, generator=generator, dtype=torch.float64)
    start = torch.rand(5, 3, 7, generator=generator, dtype=torch.float64) * 2 - 1
    return relu_regression(data, response, l1=0.02, l2=0.01), start


def reference(problem, start, i, v, alphas):
    """β by torch.optim.SGD and autograd, with the step size set by hand."""
    beta = start[i, v].clone().requires_grad_()
    optimiser = torch.optim.SGD([beta], lr=1.0)
    losses = []
    for alpha in alphas:
        optimiser.param_groups[0]["lr"] = alpha
        optimiser.zero_grad()
        residual = problem.response[i] - torch.relu(problem.data[i] @ beta)
        value = (residual**2).sum() + 0.02 * beta.abs().sum() + 0.01 * (beta**2).sum()
        losses.append(value.item())
        value.backward()
        optimiser.step()
    return beta.detach(), losses


@pytest.mark.parametrize("block", [None, 1, 2, 5])
@pytest.mark.parametrize(
    ("schedule", "alpha"),
    [
        (Constant, lambda a, t: a),
        (lambda a: Diminishing(a, 0.5), lambda a, t: a / math.sqrt(t + 1)),
        (lambda a: Reducing(a, 0.5, 7), lambda a, t: a * 0.5 ** (t // 7)),
    ],
)
def test_equal_to_torch_sgd(ensemble, schedule, alpha, block):
    problem, start = ensemble
    alphas = torch.tensor([[0.01, 0.03, 0.1]], dtype=torch.float64)
    run = iterate(problem, start, schedule(alphas), 30, {"loss": Trace(loss, range(30))}, block=block)
    for i in range(5):
        for v in range(3):
            a = float(alphas[0, v])
            beta, losses = reference(problem, start, i, v, [alpha(a, t) for t in range(30)])
            torch.testing.assert_close(run.point[i, v], beta)
            torch.testing.assert_close(run["loss"][:, i, v], torch.tensor(losses, dtype=torch.float64))


def test_reducing_is_steplr():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=4, gamma=0.1)
    schedule = Reducing(0.3, 0.1, 4)
    for step in range(20):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.3 * schedule.factor(step))
        optimiser.step()
        scheduler.step()


def test_the_sum_of_step_sizes_diverges_only_where_it_should():
    assert Constant(0.1).total == math.inf
    assert Diminishing(0.1, 1.0).total == math.inf
    assert Diminishing(0.1, 2.0).total == pytest.approx(math.pi**2 / 6)
    assert Reducing(0.1, 0.5, 10).total == pytest.approx(sum(Reducing(0.1, 0.5, 10).factor(t) for t in range(2000)))


def test_recordings_agree_with_the_whole_trajectory(ensemble):
    problem, start = ensemble
    steps = 40
    everything = range(steps + 1)
    run = iterate(
        problem,
        start,
        Constant(0.2),
        steps,
        {
            "points": Points(everything),
            "loss": Trace(loss, everything),
            "best": Smallest(loss),
            "worst": Largest(loss, since=10),
            "rises": Count(loss_rose),
            "first": FirstStep(lambda s: norm(math.inf)(s) > 1.0),
            "last": LastStep(lambda s: active_units(s) > 0),
        },
    )
    points = run["points"].movedim(1, -1)
    torch.testing.assert_close(points[0], start)
    torch.testing.assert_close(points[-1], run.point)
    losses = torch.stack([problem.value(p) for p in points])
    torch.testing.assert_close(run["loss"], losses)
    torch.testing.assert_close(run["best"], losses.min(0).values)
    torch.testing.assert_close(run["worst"], losses[10:].max(0).values)
    assert torch.equal(run["rises"], (run["loss"].diff(dim=0) > 0).sum(0))
    outside = points.abs().amax(-1) > 1.0
    assert torch.equal(run["first"], torch.where(outside.any(0), outside.int().argmax(0), -1))
    active = (torch.einsum("tivp,inp->tivn", points, problem.data) > 0).any(-1)
    assert torch.equal(run["last"], torch.where(active.any(0), steps - active.flip(0).int().argmax(0), -1))


def test_one_problem_serves_many_starts():
    run = iterate(l1_norm(2, 1.0), torch.full((4, 1, 2), 0.55, dtype=torch.float64), Constant(0.1), 3)
    torch.testing.assert_close(run.point, torch.full((4, 1, 2), 0.25, dtype=torch.float64))


def test_spacing():
    assert evenly_spaced(10, 3) == (0, 5, 10)
    assert log_spaced(1000, 4) == (0, 1, 10, 100, 1000)
    assert log_spaced(0, 5) == (0,)


def test_bad_arguments_are_named(ensemble):
    problem, start = ensemble
    with pytest.raises(ValueError, match="start has shape"):
        iterate(problem, start[:2], Constant(0.1), 1)
    with pytest.raises(ValueError, match="steps is -1"):
        iterate(problem, start, Constant(0.1), -1)
    with pytest.raises(ValueError, match="initial step size"):
        Constant(-0.1)
    with pytest.raises(ValueError, match="gamma is 1"):
        Reducing(0.1, 1, 5)
    with pytest.raises(ValueError, match="power is 0"):
        Diminishing(0.1, 0)
