"""torch.compile(optimizer.step) takes the same steps; with breaks in the graph, as for torch's own optimisers."""

from __future__ import annotations

import pytest
import torch

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, ElasticNet, GroupL1

CASES = [
    (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    (ProxAdam, {"lr": 0.02}),
    (ProxAdam, {"lr": 0.02, "fused": True}),
    (ProxNAdam, {"lr": 0.02}),
    (ProxRMSprop, {"lr": 0.02, "centered": True}),
    (ProxAdagrad, {"lr": 0.1}),
]


def train(kind, options, penalty, backend=None, steps=6):
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(6, 5), (5, 2)]]
    targets = [torch.randn(weight.shape, generator=generator) for weight in weights]
    optimizer = kind(weights, penalty=penalty, **options)
    step = optimizer.step if backend is None else torch.compile(optimizer.step, backend=backend)
    for number in range(steps):
        for weight, target in zip(weights, targets, strict=True):
            weight.grad = weight.detach() - target
        if number == steps - 1:
            optimizer.param_groups[0]["penalty"]["strength"] *= 3
        step()
    return [weight.detach() for weight in weights]


def assert_compiles(kind, options, penalty, backend):
    calls = torch._dynamo.utils.counters["stats"]
    before = calls["calls_captured"]
    compiled = train(kind, options, penalty, backend)
    assert calls["calls_captured"] > before
    for weight, expected in zip(compiled, train(kind, options, penalty), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=5e-6)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("kind", "options"), [CASES[0], CASES[1], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[2:])]
)
def test_a_compiled_step_is_the_same_step(kind, options):
    """Torch's compiler keeps the step count a float32 tensor, hence the rounding."""
    assert_compiles(kind, options, L1(0.1), "eager")


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [ElasticNet(0.1), GroupL1(0.05)], ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), CASES[:3])
def test_a_compiled_step_is_the_same_step_for_other_penalties(kind, options, penalty):
    assert_compiles(kind, options, penalty, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), CASES[:2])
def test_a_step_compiled_to_native_code_is_the_same_step(kind, options):
    assert_compiles(kind, options, L1(0.1), "inductor")
