"""How far an adaptive prox moves a weight in one step: networks that start at zero live, and fixed points stay."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    SteadyAdagrad,
    SteadyAdam,
    SteadyNAdam,
    SteadyRMSprop,
    SteadySGD,
    attach,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1
from nonsmooth.torch_optimizers import AdaptiveStep

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
benchmark = importlib.import_module("zero_initialised")

ADAPTIVE = {
    "ProxAdam": (ProxAdam, {}),
    "ProxAdam, AMSGrad": (ProxAdam, {"amsgrad": True}),
    "ProxAdamW": (ProxAdamW, {"weight_decay": 0.0}),
    "ProxNAdam": (ProxNAdam, {}),
    "ProxRMSprop": (ProxRMSprop, {}),
    "ProxRMSprop, centred, momentum": (ProxRMSprop, {"centered": True, "momentum": 0.5}),
    "ProxAdagrad": (ProxAdagrad, {}),
}
STEADY = {
    "SteadyAdam": (SteadyAdam, {}),
    "SteadyNAdam": (SteadyNAdam, {}),
    "SteadyRMSprop": (SteadyRMSprop, {}),
    "SteadyAdagrad": (SteadyAdagrad, {}),
}
PENALTIES = [
    L1(1.0),
    L1(1.0, weights=torch.tensor([[1.0], [3.0], [0.5], [2.0]])),
    ElasticNet(1.0, 0.5),
    MCP(1.0),
    SCAD(1.0),
    TransformedL1(1.0),
    L0(1.0),
    GroupL1(1.0),
    SparseGroupL1(1.0, 0.5),
    Nuclear(1.0),
]
by_penalty = pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)


def start(dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64).to(dtype))


def more_zeros_than_sgd(network, way, lam):
    """Zeros after 20 steps, and what is accepted: those of ProxSGD and five points."""
    make, build = benchmark.ways()[way]
    found = benchmark.train(network, make, build, lam, benchmark.FIRST)["first"]
    return found, benchmark.train(network, benchmark.SGD, build, lam, benchmark.FIRST)["first"] + benchmark.MORE_ZEROS


@pytest.mark.parametrize("network", benchmark.NETWORKS)
@pytest.mark.parametrize("way", ["ProxAdam", "ProxRMSprop", "SteadyAdam", "ProxAdam, GroupL1"])
def test_a_network_with_parts_that_start_at_zero_lives(network, way):
    found, accepted = more_zeros_than_sgd(network, way, 1e-5)
    assert found <= accepted


@pytest.mark.slow
@pytest.mark.parametrize("network", benchmark.NETWORKS)
@pytest.mark.parametrize("lam", benchmark.PENALTIES)
def test_every_adaptive_optimiser_and_strength(network, lam):
    for way in benchmark.ways():
        found, accepted = more_zeros_than_sgd(network, way, lam)
        assert found <= accepted, way


@pytest.mark.slow
@pytest.mark.parametrize("network", benchmark.NETWORKS)
def test_it_learns_as_much_as_without_a_penalty_or_as_prox_sgd(network):
    """Where ProxSGD does not learn either, as on the embedding, the penalty itself holds the weights."""
    for way in ("ProxAdam", "SteadyAdam"):
        make, build = benchmark.ways()[way]
        with_penalty, without = (benchmark.train(network, make, build, lam, 400)["accuracy"] for lam in (1e-5, 0.0))
        if with_penalty < without - benchmark.LOST:
            assert with_penalty >= benchmark.train(network, benchmark.SGD, build, 1e-5, 400)["accuracy"], way


def test_the_count_of_zeros_sees_a_layer_that_is_wiped_out(monkeypatch):
    """Without the limit the head's hidden layers are gone after one step: the comparison above can fail."""
    monkeypatch.setattr(AdaptiveStep, "limit", lambda self, step, block=None: None)
    found, accepted = more_zeros_than_sgd("MLP, zero head", "ProxAdam", 1e-5)
    assert found > 0.9 > accepted


@by_penalty
@pytest.mark.parametrize("name", [*ADAPTIVE, *STEADY])
def test_without_a_gradient_a_weight_moves_by_a_small_part_of_the_step_size(name, penalty):
    """t steps in which the loss pulls at nothing: at most Σ 2t/(t + 1000) step sizes, whatever λ is.

    Adagrad's is divided by √t; NAdam's is multiplied by its answer to a constant gradient, at first between 1 and 2.
    """
    kind, options = {**ADAPTIVE, **STEADY}[name]
    most = 2 if "NAdam" in name else 1
    weight = start()
    try:
        optimizer = kind([weight], lr=1e-3, penalty=penalty, **options)
    except ValueError:
        assert name in STEADY  # which accept sums over coordinates with a slope at zero only
        return
    begin, allowed = weight.detach().clone(), 0.0
    for step in range(1, 31):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        allowed += 1e-3 / (1 - options.get("momentum", 0.0)) * 2 * step / (step + 1000)
        allowed -= 0 if "Adagrad" not in name else 1e-3 * 2 * step / (step + 1000) * (1 - step**-0.5)
        moved = (weight.detach() - begin).abs()
        assert float(moved.max()) <= most * allowed * (1 + 1e-9)
    assert (weight != 0).all()
    assert float(moved.max()) > 0.5 * allowed or isinstance(penalty, Nuclear)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(ADAPTIVE)),
    lam=st.floats(1e-9, 1e6),
    lr=st.floats(1e-6, 0.5),
    eps=st.sampled_from([1e-30, 1e-10, 1e-8, 1e-3]),
    sizes=st.lists(st.sampled_from([0.0, 1e-30, 1e-12, 1e-6, 1e-3, 1.0, 1e6]), min_size=1, max_size=4),
)
def test_the_prox_moves_no_weight_further_than_its_limit(name, lam, lr, eps, sizes):
    """Against torch's own optimiser, whose weights are put where ours are before each step."""
    kind, options = ADAPTIVE[name]
    weight, twin = start(), start()
    ours = kind([weight], lr=lr, eps=eps, penalty=L1(lam), **options)
    base = kind.parent([twin], lr=lr, eps=eps, **options)
    generator = torch.Generator().manual_seed(0)
    for step, size in enumerate(sizes, 1):
        gradient = size * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            twin.copy_(weight)
        before = weight.detach().clone()
        weight.grad, twin.grad = gradient.clone(), gradient.clone()
        ours.step()
        base.step()
        if twin.isnan().any():  # 0/0 in torch's own step
            return
        moved = (weight - twin).detach().abs()[before != 0]
        # D√v̂ is at most the step size, times 1/(1-μ); under NAdam times its answer to a constant gradient.
        allowed = lr * max(step / 50, 2 * step / (step + 1000)) * (2 if kind is ProxNAdam else 1)
        allowed /= 1 - options.get("momentum", 0.0)
        if not options.get("centered"):
            assert float(moved.max() if moved.numel() else 0) <= allowed * (1 + 1e-6) + 1e-15 * float(
                twin.detach().abs().max()
            )


@by_penalty
def test_it_is_the_prox_clipped_written_out(penalty):
    """Adam and its limit from the formulas, against the optimiser, at a λ at which the limit is at work."""
    weight, lr, (first, second), eps = start(), 0.01, (0.9, 0.999), 1e-8
    optimizer = ProxAdam([weight], lr=lr, penalty=penalty)
    point = weight.detach().clone()
    mean, square = torch.zeros_like(point), torch.zeros_like(point)
    generator, clipped = torch.Generator().manual_seed(1), 0
    for step in range(1, 120):
        gradient = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 10.0 ** (-(step % 5))
        mean, square = first * mean + (1 - first) * gradient, second * square + (1 - second) * gradient**2
        root = (square / (1 - second**step)).sqrt()
        metric = lr / (root + eps)
        arrived = point - metric * mean / (1 - first**step)
        limit = metric * (min(step / 50, 8) * root + 2 * step / (step + 1000) * eps)
        limit[point == 0] = math.inf
        found = penalty.proximal_map(arrived, metric)
        point = torch.minimum(torch.maximum(found, arrived - limit), arrived + limit)
        clipped += int((point != found).sum())
        weight.grad = gradient
        optimizer.step()
        torch.testing.assert_close(weight.detach(), point, rtol=1e-8, atol=1e-10)
    assert clipped > 10


def test_a_complex_weight_has_a_limit_for_each_of_its_parts():
    for penalty in (L1(1.0), L1(1.0, complex_rule="components")):
        weight = torch.nn.Parameter(torch.complex(start().data, start().data.flip(0)))
        optimizer, begin = ProxAdam([weight], lr=0.01, penalty=penalty), weight.detach().clone()
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        moved = torch.view_as_real(weight.detach() - begin).abs()
        assert 0 < float(moved.max()) <= 0.01 * 2 / 1001 * (1 + 1e-9)


@pytest.mark.parametrize("name", [*ADAPTIVE, *STEADY])
def test_a_weight_at_zero_is_held_whatever_the_limit_is(name):
    """A rare large gradient moves a weight by several step sizes, and the penalty takes all of that back."""
    kind, options = {**ADAPTIVE, **STEADY}[name]
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = kind([weight], lr=0.1, penalty=L1(1e4), **options)
    for step in range(200):
        weight.grad = torch.full_like(weight, 10.0 if step % 40 == 39 else 1e-3)
        optimizer.step()
        assert (weight == 0).all()


def test_the_hook_form_has_the_limit_too():
    class Own(torch.optim.Adam):
        """A subclass, which `attach` gives hooks."""

    weight = start()
    optimizer = attach(Own([weight], lr=1e-3), L1(1e-2))
    begin = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert 0 < float((weight.detach() - begin).abs().max()) <= 1e-3 * 2 / 1001 * (1 + 1e-9)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_weight_that_starts_at_the_minimum_of_the_loss_gets_to_that_with_the_penalty(name):
    """Its gradient is 0 at first and grows while the penalty pulls, ahead of its own root mean square."""
    kind, options = ADAPTIVE[name]
    if options.get("centered"):
        options = {**options, "eps": 0.1}  # else it does not settle without a penalty either
    weight = torch.nn.Parameter(torch.tensor([1.0, 0.2], dtype=torch.float64))
    optimizer = kind([weight], lr=0.2 if kind is ProxAdagrad else 0.02, penalty=L1(0.25), **options)
    for _ in range(2500):
        weight.grad = weight.detach() - torch.tensor([1.0, 0.2], dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.75, 0.0], dtype=torch.float64), rtol=0, atol=1e-5)
    assert weight[1] == 0


@pytest.mark.parametrize(("kind", "lr"), [(SteadyAdam, 1e-3), (SteadySGD, 0.01), (ProxAdam, 1e-3)])
def test_a_strength_that_rises_takes_small_steps_towards_zero(kind, lr):
    """A memory of the old λ would call every weight that is not zero one to be set to zero."""
    weight = start()
    optimizer, generator = kind([weight], lr=lr, penalty=L1(1e-3)), torch.Generator().manual_seed(0)
    for step in range(300):
        if step >= 200:
            optimizer.param_groups[0]["penalty"]["strength"] *= 1.02
        before = weight.detach().clone()
        weight.grad = 0.1 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        optimizer.step()
        assert float((weight.detach() - before).abs().max()) <= 12 * lr
    assert float(before.abs().max()) > 0.5
