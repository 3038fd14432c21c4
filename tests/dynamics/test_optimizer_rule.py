"""An ensemble under an optimiser of torch against the same optimiser on one run at a time, with autograd."""

import math

import pytest
import torch

from nonsmooth.dynamics import Constant, Diminishing, iterate
from nonsmooth.dynamics.optimizer_rule import OptimizerRule
from nonsmooth.dynamics.recording import Points
from nonsmooth.optim import XRDA, ProxAdam, ProxSGD
from nonsmooth.penalties import L1
from nonsmooth.problems import lasso

STRENGTHS = torch.tensor([[0.05, 0.3]], dtype=torch.float64)


@pytest.fixture
def ensemble():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(3, 10, 6, generator=generator, dtype=torch.float64)
    response = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    start = torch.randn(3, 2, 6, generator=generator, dtype=torch.float64)
    return lasso(data, response, STRENGTHS), start


OPTIMISERS = {
    "momentum": (ProxSGD, {"momentum": 0.9}, {}),
    "ProxAdam": (ProxAdam, {}, {}),
    "plain Adam": (torch.optim.Adam, {}, {}),
    "xRDA": (XRDA, {"amplification": 20.0}, {"amplification_dim": -1}),
}


@pytest.mark.parametrize("block", [None, 1, 3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_each_run_is_as_if_it_were_alone(ensemble, name, block):
    """With a schedule, in blocks, and with a strength of its own."""
    problem, start = ensemble
    make, options, together = OPTIMISERS[name]

    def optimiser(parameters, lr, strength, **more):
        penalty = {} if make is torch.optim.Adam else {"penalty": L1(strength)}
        return make(parameters, lr=lr, **options, **penalty, **more)

    run = iterate(
        problem,
        start,
        Diminishing(0.05, 0.5),
        40,
        method=lambda: OptimizerRule(lambda given, lr: optimiser(given, lr, STRENGTHS.unsqueeze(-1), **together)),
        block=block,
    )
    for i in range(3):
        for j, strength in enumerate(STRENGTHS[0].tolist()):
            weight = start[i, j].clone().requires_grad_()
            alone = optimiser([weight], 0.05, strength)
            for t in range(40):
                alone.param_groups[0]["lr"] = 0.05 / math.sqrt(t + 1)
                alone.zero_grad()
                ((problem.response[i] - problem.data[i] @ weight) ** 2).mean().backward()
                alone.step()
            torch.testing.assert_close(run.point[i, j], weight.detach(), rtol=1e-10, atol=1e-12)


def test_states_that_were_recorded_are_not_overwritten(ensemble):
    problem, start = ensemble
    points = []

    class Keep:
        def __init__(self):
            self.rule = OptimizerRule(lambda given, lr: ProxSGD(given, lr=lr, penalty=L1(0.1)))

        def __call__(self, state, step_size):
            points.append(state.point)
            return self.rule(state, step_size)

    run = iterate(problem, start, Constant(0.05), 5, {"points": Points(range(5))}, method=Keep, block=3)
    assert torch.equal(torch.stack(points), run["points"].movedim(1, -1))
    assert len({float(point.sum()) for point in points}) == 5


def test_step_sizes_that_differ_are_refused(ensemble):
    problem, start = ensemble
    step_size = Constant(torch.tensor([[0.05, 0.1]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"step_size is from 0.05 to 0.1"):
        iterate(problem, start, step_size, 5,
                method=lambda: OptimizerRule(lambda given, lr: ProxSGD(given, lr=lr, penalty=L1(0.1))))  # fmt: skip
