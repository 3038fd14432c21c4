"""torch.compile(optimizer.step) takes the same steps; with breaks in the graph, as for torch's own optimisers."""

from __future__ import annotations

import pytest
import torch

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadyNAdam,
    SteadySGD,
)
from nonsmooth.penalties import L1, MCP, SCAD, ElasticNet, GroupL1, SparseGroupL1, TransformedL1

CASES = [
    (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    (ProxAdam, {"lr": 0.02}),
    (ProxAdam, {"lr": 0.02, "fused": True}),
    (ProxNAdam, {"lr": 0.02}),
    (ProxRMSprop, {"lr": 0.02, "centered": True}),
    (ProxAdagrad, {"lr": 0.1}),
    (SteadySGD, {"lr": 0.1, "momentum": 0.9}),
    (SteadyAdam, {"lr": 0.02}),
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
    if options.get("fused") and isinstance(penalty, GroupL1):
        pytest.skip("torch's fused step is one operation, and groups in its metric take the eager path on a CPU")
    assert_compiles(kind, options, penalty, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), CASES[:2])
def test_a_step_compiled_to_native_code_is_the_same_step(kind, options):
    assert_compiles(kind, options, L1(0.1), "inductor")


def graphs(kind, options, penalties=None, steps=5):
    """How many graphs are compiled in a run with schedules of λ and of the step size."""
    torch._dynamo.reset()
    found = []

    def backend(module, inputs):
        del inputs
        found.append(module)
        return module.forward

    weights = [torch.nn.Parameter(torch.randn(4 + number % 3, 5)) for number in range(9)]
    groups = [{"params": weights}]
    if penalties is not None:
        groups = [{"params": weights[number::2], "penalty": penalty} for number, penalty in enumerate(penalties)]
    optimizer = kind(groups, **options)
    step = torch.compile(optimizer.step, backend=backend)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
            if penalties is not None:
                group["penalty"]["strength"] *= 1.1
        step()
    return len(found)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("kind", "options", "second"),
    [
        (ProxSGD, {"lr": 0.1}, GroupL1(0.1)),
        (ProxAdam, {"lr": 0.02}, ElasticNet(0.1)),
        pytest.param(ProxNAdam, {"lr": 0.02}, TransformedL1(0.1), marks=pytest.mark.slow),
        pytest.param(ProxRMSprop, {"lr": 0.02, "centered": True}, SparseGroupL1(0.1), marks=pytest.mark.slow),
        pytest.param(SteadyNAdam, {"lr": 0.02}, SCAD(0.1), marks=pytest.mark.slow),
        (SteadySGD, {"lr": 0.1}, MCP(0.1)),
    ],
)
def test_the_prox_of_all_groups_is_one_graph_that_schedules_do_not_compile_anew(kind, options, second, capfd, caplog):
    """Over torch's own graphs there is one for the prox, and the first change of a λ is torch's to see."""
    own = graphs(kind.parent, options)
    assert graphs(kind, options, [L1(0.1), second]) <= own + 1
    assert "recompile_limit" not in caplog.text + capfd.readouterr().err


def test_a_graph_that_is_compiled_anew_is_counted():
    """With a step size that is a number of Python's, torch compiles its own step twice: for that one, and for any."""
    assert graphs(torch.optim.Adam, {"lr": 0.02}, steps=1) < graphs(torch.optim.Adam, {"lr": 0.02})
