"""torch.compile(optimizer.step) on a GPU: the same steps, compiled once, and nothing printed."""

from __future__ import annotations

import pytest
import torch
from gpu_runs import MAIN, PENALTIES, distance, give_gradients, groups_of, parameters

from nonsmooth.penalties import L1

pytestmark = pytest.mark.gpu
STEPS, SETTLED = 8, 4
PAIRS = [(case, name) for case in MAIN for name in ("L1", "GroupL1", "MCP") if case.takes(PENALTIES[name])]


def run(case, penalty, device, *, compiled, steps=STEPS):
    """Weights after some steps with schedules; from the fifth on nothing may be compiled."""
    weights = parameters(device, torch.float32)
    # A step size that is a number of Python's is compiled anew by torch itself, whenever it changes.
    rate = torch.tensor(case.options["lr"], device=device)
    optimizer = case.kind(groups_of(weights, penalty), **{**case.options, "lr": rate}, fused=True)
    step = torch.compile(optimizer.step) if compiled else optimizer.step
    for number in range(steps):
        give_gradients(weights, number)
        optimizer.param_groups[0]["penalty"]["strength"] *= 1.1
        rate.mul_(0.95)
        with torch._dynamo.config.patch(error_on_recompile=number >= SETTLED):
            step()
    return weights


@pytest.mark.parametrize(("case", "name"), PAIRS, ids=str)
def test_a_compiled_step_is_the_step_and_is_compiled_once(case, name, device, capfd, caplog):
    torch._dynamo.reset()
    expected = run(case, PENALTIES[name], device, compiled=False)
    capfd.readouterr()
    found = run(case, PENALTIES[name], device, compiled=True)
    assert distance(found, expected) <= 1e-4
    printed = capfd.readouterr()
    assert "recompile" not in printed.err + caplog.text
    assert "tensor(" not in printed.out + printed.err + caplog.text


def test_a_recompilation_would_be_found(device):
    torch._dynamo.reset()
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    with pytest.raises(torch._dynamo.exc.RecompileError), torch._dynamo.config.patch(error_on_recompile=True):
        for rate in (0.1, 0.2):
            torch.compile(lambda rate=rate: weight.mul(rate).sum(), dynamic=False)()
            compiled = torch.compile(_scaled, dynamic=False)
            compiled(weight, rate)


def _scaled(weight, rate):
    return weight * rate


def test_another_penalty_gives_other_steps(device):
    case = MAIN[1]
    some, others = (run(case, L1(strength), device, compiled=False) for strength in (0.1, 0.2))
    assert distance(some, others) > 1e-3
