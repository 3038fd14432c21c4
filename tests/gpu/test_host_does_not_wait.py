"""No step makes the host wait for the GPU, as torch itself finds out; a nuclear norm's decomposition does."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from gpu_runs import CASES, GROUPS, JUMPING, SEPARABLE, combinations, give_gradients, groups_of, parameters

from nonsmooth.penalties import L1

pytestmark = pytest.mark.gpu


@contextmanager
def no_waiting():
    """Every synchronisation that torch knows of raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def build(case, fused, penalty, device, *, strength_on_device=False):
    weights = parameters(device, torch.float32)
    groups = groups_of(weights, penalty, device if strength_on_device else None)
    optimizer = case.kind(groups, **case.options, **({} if fused is None else {"fused": fused}))
    return optimizer, weights


def test_what_is_looked_for_would_be_found(device):
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        float(torch.ones(3, device=device).sum())


@pytest.mark.parametrize("strength_on_device", [False, True])
@pytest.mark.parametrize(("case", "fused", "penalty"), combinations([*SEPARABLE, *JUMPING, *GROUPS]))
def test_a_step_does_not_wait(case, fused, penalty, strength_on_device, device):
    """From the second one on, with schedules; the first brings what it needs to the device."""
    optimizer, weights = build(case, fused, penalty, device, strength_on_device=strength_on_device)
    give_gradients(weights, 0)
    optimizer.step()
    for _ in range(3):
        with no_waiting():
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
                if group["penalty"]:
                    group["penalty"]["strength"] *= 1.1
            optimizer.step()
    assert all(bool(weight.isfinite().all()) for weight in weights)


FUSED = [case for case in CASES if True in case.fused]


@pytest.mark.parametrize("penalty", [*SEPARABLE.values(), *GROUPS.values()], ids=[*SEPARABLE, *GROUPS])
@pytest.mark.parametrize("case", FUSED, ids=str)
def test_a_fused_step_under_a_scaler_does_not_wait_and_halts_on_an_overflow(case, penalty, device):
    if not case.takes(penalty):
        pytest.skip("a steady optimizer accepts sums over coordinates")
    optimizer, weights = build(case, True, penalty, device)
    twin, others = build(case, True, penalty, device)
    scaler = torch.amp.GradScaler("cuda", init_scale=8.0, growth_interval=1000)
    scaler.scale(torch.zeros((), device=device))  # makes its tensors
    for step, overflows in enumerate((False, True, False, True, False)):
        before = [weight.detach().clone() for weight in weights]
        give_gradients(weights, step, scale=scaler.get_scale())
        if overflows:
            weights[0].grad[0, 0] = torch.inf
        with no_waiting():
            scaler.step(optimizer)
            scaler.update()
        if overflows:
            assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
            continue
        give_gradients(others, step)
        twin.step()
        for weight, other in zip(weights, others, strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)
    assert scaler.get_scale() == 2.0


def test_a_lambda_on_the_host_may_change_to_zero_and_back(device):
    optimizer, weights = build(CASES[3], None, L1(0.1), device)
    give_gradients(weights, 0)
    optimizer.step()
    with no_waiting():
        for strength in (0.0, 0.2):
            optimizer.param_groups[0]["penalty"]["strength"] = strength
            optimizer.step()
