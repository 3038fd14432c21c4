"""A step that was captured in a CUDA graph takes, at each replay, the step that the optimizer itself would take."""

from __future__ import annotations

import pytest
import torch
from gpu_runs import (
    CASES,
    GROUPS,
    JUMPING,
    SEPARABLE,
    Case,
    combinations,
    distance,
    give_gradients,
    groups_of,
    parameters,
)

from nonsmooth.optim import ProxNAdam, ProxRMSprop, SteadyNAdam, SteadyRMSprop

pytestmark = pytest.mark.gpu

WARM_UP, REPLAYS = 3, 4
CAPTURABLE = [
    *(case for case in CASES if case.kind.parent is torch.optim.SGD),
    *(
        Case(case.kind, {**case.options, "capturable": True}, tuple(f for f in case.fused if f is not False))
        for case in CASES
        if issubclass(case.kind, torch.optim.Adam)
    ),
    *(
        Case(case.kind, {**case.options, "capturable": True}, case.fused)
        for case in CASES
        if case.kind in (ProxNAdam, ProxRMSprop, SteadyNAdam, SteadyRMSprop)
    ),
]
"""All but Adagrad, which torch does not capture."""


def build(case, fused, penalty, device):
    weights = parameters(device, torch.float32)
    groups = groups_of(weights, penalty, device)
    return case.kind(groups, **case.options, **({} if fused is None else {"fused": fused})), weights


def raise_strength(optimizer):
    """λ is a tensor on the device, and changes in place."""
    optimizer.param_groups[0]["penalty"]["strength"].mul_(1.2)


@pytest.mark.parametrize(("case", "fused", "penalty"), combinations([*SEPARABLE, *JUMPING, *GROUPS], CAPTURABLE))
def test_replays_are_steps(case, fused, penalty, device):
    optimizer, weights = build(case, fused, penalty, device)
    eager, others = build(case, fused, penalty, device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for step in range(WARM_UP):
            give_gradients(weights, step)
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for step in range(WARM_UP):
        give_gradients(others, step)
        eager.step()
    assert distance(weights, others) == 0  # to capture takes no step
    for step in range(WARM_UP, WARM_UP + REPLAYS):
        for each, made in ((weights, optimizer), (others, eager)):
            give_gradients(each, step)
            raise_strength(made)
        graph.replay()
        eager.step()
        assert distance(weights, others) <= 1e-6
    assert distance(weights, parameters(device, torch.float32)) > 0.01


def test_steps_between_capture_and_replay_leave_the_graph_alone(device):
    """The arrays that a graph reads are its own, whatever the optimizer needs for other parameters later."""
    case = next(case for case in CAPTURABLE if issubclass(case.kind, torch.optim.Adam))
    optimizer, weights = build(case, True, SEPARABLE["L1"], device)
    for step in range(WARM_UP):
        give_gradients(weights, step)
        optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    gradients = [weight.grad for weight in weights]
    weights[1].grad = None
    optimizer.step()
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    twin, others = build(case, True, SEPARABLE["L1"], device)
    for step in range(WARM_UP):
        give_gradients(others, step)
        twin.step()
    kept, others[1].grad = others[1].grad, None
    twin.step()
    others[1].grad = kept
    graph.replay()
    twin.step()
    assert distance(weights, others) <= 1e-6
