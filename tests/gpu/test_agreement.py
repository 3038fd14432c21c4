"""On a GPU every optimizer takes the steps that it takes on the CPU in double precision, as far as torch's own does."""

from __future__ import annotations

import pytest
import torch
from gpu_runs import (
    CASES,
    DECOMPOSED,
    GROUPS,
    JUMPING,
    MAIN,
    PENALTIES,
    SEPARABLE,
    Case,
    combinations,
    distance,
    follow_schedules,
    give_gradients,
    groups_of,
    parameters,
    train,
)

from nonsmooth.penalties import L1

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
BEYOND = 30
"""What a prox may add to the rounding of torch's own steps: thresholds are rounded too, penalties that are not convex
enlarge differences, and a decomposition rounds more often."""


def with_a_larger_epsilon(case):
    """Where float16 holds ε: torch's own steps divide by it, and 1e-8 is 0 there."""
    return case if case.kind.parent is torch.optim.SGD else Case(case.kind, {**case.options, "eps": 1e-3}, case.fused)


def torchs_own(case, fused, device, dtype, steps=6):
    """Weights after torch's own steps with the same options, on the gradients of `train`."""
    weights = parameters(device, dtype)
    given = {name: value for name, value in case.options.items() if name != "forgetting"}
    optimizer = case.kind.parent(weights, **given, **({} if fused is None else {"fused": fused}))
    for step in range(steps):
        give_gradients(weights, step)
        optimizer.param_groups[0]["lr"] *= 0.97
        optimizer.step()
    return weights


def tolerance(case, fused, device, dtype):
    """How far torch's own steps are from those of the CPU in double precision, and a rounding."""
    own = distance(torchs_own(case, fused, device, dtype), torchs_own(case, case.eager, CPU, torch.float64))
    return BEYOND * (own + 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("case", "fused", "penalty"), combinations([*SEPARABLE, *GROUPS, *DECOMPOSED]))
def test_steps_are_those_of_the_cpu_in_double_precision(case, fused, penalty, dtype, device):
    optimizer, weights = train(case, penalty, device, dtype, fused=fused)
    _, expected = train(case, penalty, CPU, torch.float64, fused=case.eager)
    assert distance(weights, expected) <= tolerance(case, fused, device, dtype)
    assert all(weight.device.type == device.type and weight.dtype == dtype for weight in weights)
    assert optimizer.param_groups[0]["penalty"]["strength"] > penalty.strength  # the schedule was there


@pytest.mark.parametrize(("case", "fused", "penalty"), combinations(JUMPING))
def test_steps_are_those_of_the_cpu_where_the_prox_jumps(case, fused, penalty, device):
    """In double precision, in which no weight is so near to the jump that rounding decides."""
    _, weights = train(case, penalty, device, torch.float64, fused=fused)
    _, expected = train(case, penalty, CPU, torch.float64, fused=case.eager)
    assert distance(weights, expected) <= tolerance(case, fused, device, torch.float64)
    assert any(bool((weight == 0).any()) for weight in weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("case", "fused", "penalty"), combinations(["L1", "ElasticNet", "GroupL1"]))
def test_half_types_are_off_by_some_roundings_of_theirs(case, fused, penalty, dtype, device):
    case = with_a_larger_epsilon(case)
    beyond = 8 if case.options.get("centered") else 3  # v - m² loses more digits than torch's step shows
    _, weights = train(case, penalty, device, dtype, fused=fused, steps=3)
    _, expected = train(case, penalty, CPU, torch.float64, fused=case.eager, steps=3)
    own = distance(
        torchs_own(case, fused, device, dtype, steps=3), torchs_own(case, case.eager, CPU, torch.float64, steps=3)
    )
    assert distance(weights, expected) <= beyond * own + 8 * torch.finfo(dtype).eps
    assert all(weight.dtype == dtype and bool(weight.isfinite().all()) for weight in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("case", "fused"), [(case, fused) for case in CASES for fused in case.fused], ids=str)
def test_a_lambda_of_zero_is_torchs_own_bits(case, fused, dtype, device):
    weights = parameters(device, dtype)
    optimizer = case.kind(groups_of(weights, L1(0.0)), **case.options, **({} if fused is None else {"fused": fused}))
    for step in range(6):
        give_gradients(weights, step)
        follow_schedules(optimizer)
        optimizer.step()
    for weight, other in zip(weights, torchs_own(case, fused, device, dtype), strict=True):
        assert torch.equal(weight, other)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def transposed(tensor):
    return tensor.t().contiguous().t() if tensor.ndim == 2 else tensor


def strided(tensor):
    """Every second element of a tensor."""
    wide = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype, device=tensor.device)
    wide[..., 0] = tensor
    return wide[..., 0]


@pytest.mark.parametrize("layout", [channels_last, transposed, strided])
@pytest.mark.parametrize(("case", "fused", "penalty"), combinations(["L1", "GroupL1"], MAIN))
def test_the_layout_in_memory_changes_nothing(case, fused, penalty, layout, device):
    if layout is strided and fused is True:
        pytest.skip("torch's fused steps take tensors with gaps in memory for dense ones")
    _, weights = train(case, penalty, device, torch.float32, fused=fused, layout=layout)
    _, others = train(case, penalty, device, torch.float32, fused=fused)
    assert distance(weights, others) <= tolerance(case, fused, device, torch.float32)
    assert [weight.stride() for weight in weights] != [weight.stride() for weight in others]


def test_what_is_looked_for_would_be_found(device):
    """Another λ is further away than the tolerance."""
    case = MAIN[1]
    _, weights = train(case, PENALTIES["L1"], device, torch.float32)
    _, expected = train(case, L1(0.11), CPU, torch.float64)
    assert distance(weights, expected) > tolerance(case, None, device, torch.float32)
