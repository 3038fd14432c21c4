"""Optimizers whose prox, or whole step, is taken by kernels take the steps of the eager path."""

from __future__ import annotations

import copy
import gc
import importlib
import weakref

import pytest
import torch

from nonsmooth import kernels
from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdagrad,
    SteadyAdam,
    SteadyAdamW,
    SteadyNAdam,
    SteadyRMSprop,
    SteadySGD,
    attach,
    launch_operands,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

SHAPES = [(7, 5), (4, 3, 2, 2), (6,), (), (0, 3)]
PENALTIES = [
    L1(0.3),
    L1(torch.tensor(0.3, dtype=torch.float64)),
    ElasticNet(0.3, 0.4),
    MCP(0.3),
    SCAD(0.3),
    TransformedL1(0.2),
    L0(0.05),
    GroupL1(0.2),
    SparseGroupL1(0.2),
]
WHOLE = [  # steps of which a kernel takes all
    (ProxSGD, {"lr": 0.1, "fused": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1, "fused": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True, "fused": True}),
    (ProxAdam, {"lr": 0.1, "weight_decay": 0.1, "fused": True}),
    (ProxAdamW, {"lr": 0.1, "amsgrad": True, "fused": True}),
    (SteadySGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    (SteadyAdam, {"lr": 0.1, "fused": True}),
    (SteadyAdamW, {"lr": 0.1, "maximize": True, "fused": True}),
]
CASES = [
    *WHOLE,
    (ProxSGD, {"lr": 0.1, "momentum": 0.5}),
    (ProxAdam, {"lr": 0.1}),
    (ProxAdam, {"lr": torch.tensor(0.1)}),
    (ProxAdam, {"lr": 0.1, "foreach": True, "amsgrad": True}),
    (ProxNAdam, {"lr": 0.1}),
    (ProxRMSprop, {"lr": 0.1, "centered": True, "momentum": 0.3}),
    (ProxAdagrad, {"lr": 0.1, "lr_decay": 0.1}),
    (SteadySGD, {"lr": 0.1}),
    (SteadyAdam, {"lr": 0.1, "forgetting": 2.0}),
    (SteadyNAdam, {"lr": 0.1}),
    (SteadyRMSprop, {"lr": 0.1, "centered": True}),
    (SteadyAdagrad, {"lr": 0.1}),
]


class Calls:
    """Launches of kernels, by name."""

    def __init__(self, monkeypatch):
        self.names = []
        programs = {"separable": ["separable_prox_"], "groups": ["group_prox_"], "steps": ["sgd_step_", "adam_step_"]}
        for module, name in [(module, name) for module, names in programs.items() for name in names]:
            owner = importlib.import_module(f"nonsmooth.kernels.{module}")
            monkeypatch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def _counted(self, name, function):
        def call(*arguments, **options):
            self.names.append(name)
            return function(*arguments, **options)

        return call


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


def parameters(device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype) for shape in SHAPES]
    made[0][:2] = 0
    return [torch.nn.Parameter(weight) for weight in made]


def give_gradients(weights, step):
    generator = torch.Generator().manual_seed(50 + step)
    for number, weight in enumerate(weights):
        gradient = 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        # One parameter takes fewer steps than the others, so that counts differ.
        weight.grad = None if number == 2 and step == 1 else gradient.to(weight)


def make(kind, weights, penalty, options):
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        return kind([{"params": weights[:3]}, {"params": weights[3:], "penalty": None}], penalty=penalty, **options)
    return kind(weights, penalty=penalty, **options)


def train(kind, options, penalty, device, monkeypatch, *, eager, dtype=torch.float64, steps=4):
    with monkeypatch.context() as patch:
        if eager:
            patch.setattr(kernels, "runs_on", lambda where: False)
        weights = parameters(device, dtype)
        optimizer = make(kind, weights, copy.deepcopy(penalty), copy.deepcopy(options))
        for step in range(steps):
            give_gradients(weights, step)
            optimizer.param_groups[0]["penalty"]["strength"] *= 1.05
            optimizer.param_groups[0]["lr"] *= 0.97
            optimizer.step()
    return optimizer, weights


@pytest.mark.filterwarnings("ignore:the penalty is on")
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_steps_are_those_of_the_eager_path(kind, options, penalty, device, monkeypatch, calls):
    try:
        expected, eager = train(kind, options, penalty, device, monkeypatch, eager=True)
    except ValueError:
        assert kind.__name__.startswith("Steady")  # which accept sums over coordinates with a slope at zero only
        return
    assert calls.names == []
    optimizer, weights = train(kind, options, penalty, device, monkeypatch, eager=False)
    whole = (kind, options) in WHOLE and penalty.separable
    assert set(calls.names) == {
        ("adam_step_" if "Adam" in kind.__name__ else "sgd_step_")
        if whole
        else ("separable_prox_" if penalty.separable else "group_prox_")
    }
    assert len(calls.names) == 4  # one a step
    for weight, other in zip(weights, eager, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-7, atol=1e-9)
        assert torch.equal(weight == 0, other == 0)
    for weight, other in zip(weights, eager, strict=True):
        state, right = optimizer.state[weight], expected.state[other]
        assert set(state) == set(right)
        for name, value in right.items():
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-9, check_dtype=False)


@pytest.mark.parametrize("kind", [ProxAdam, ProxSGD, SteadyAdam])
def test_fused_false_is_the_eager_path(kind, device, calls):
    weight = torch.nn.Parameter(torch.randn(4, 3, device=device))
    optimizer = kind([weight], lr=0.1, penalty=L1(0.1), fused=False)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert calls.names == []


@pytest.mark.filterwarnings("ignore:the penalty is on")
@pytest.mark.parametrize(("kind", "options"), [WHOLE[0], WHOLE[3], WHOLE[6]])
def test_a_lambda_of_zero_is_torchs_own_bits(kind, options, device, calls):
    weights, others = parameters(device, torch.float32), parameters(device, torch.float32)
    optimizer, own = kind(weights, penalty=L1(0.0), **options), kind.parent(others, **options)
    for step in range(3):
        for each in (weights, others):
            give_gradients(each, step)
        optimizer.step()
        own.step()
    assert calls.names == []
    assert all(torch.equal(weight, other) for weight, other in zip(weights, others, strict=True))


@pytest.mark.parametrize("penalty", [Nuclear(0.1), L1(0.1, complex_rule="components")])
def test_what_kernels_do_not_know_takes_the_eager_path(penalty, device, calls):
    dtype = torch.complex64 if isinstance(penalty, L1) else torch.float32
    weight = torch.nn.Parameter(torch.randn(4, 3, dtype=dtype, device=device))
    optimizer = ProxAdam([weight], lr=0.1, penalty=penalty)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert calls.names == []


class OwnL1(L1):
    """A penalty of a user's, which may be anything."""

    def magnitude_prox(self, size, strength, step):
        return (size - 2 * strength * step).clamp(min=0)


def test_a_subclass_of_a_penalty_is_not_taken_for_it(device, calls):
    weight = torch.nn.Parameter(torch.ones(4, 3, device=device))
    optimizer = ProxSGD([weight], lr=0.1, penalty=OwnL1(0.1), fused=True)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert calls.names == []


def test_numbers_at_the_ends_of_the_range_take_the_eager_path(device, calls):
    weight = torch.nn.Parameter(torch.ones(4, 3, device=device))
    optimizer = ProxSGD([weight], lr=0.1, penalty=MCP(0.1, gamma=1e39), fused=True)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert calls.names == []


@pytest.mark.parametrize("penalty", [MCP(0.1), GroupL1(0.1)], ids=lambda penalty: type(penalty).__name__)
def test_a_lambda_that_leaves_the_range_takes_the_eager_path_until_it_is_back(penalty, device, calls):
    weights = [torch.nn.Parameter(torch.ones(4, 3, device=device)) for _ in range(2)]
    optimizer = ProxSGD(weights, lr=0.1, penalty=penalty)
    for strength, launched in ((0.1, 1), (1e39, 0), (0.1, 1)):
        optimizer.param_groups[0]["penalty"]["strength"] = strength
        calls.names.clear()
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        assert len(calls.names) == launched


@pytest.mark.parametrize("which", ["gradient", "square"])
def test_tensors_that_lie_in_memory_in_another_way_are_right_all_the_same(which, device):
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2, device=device, dtype=torch.float64))
    twin = torch.nn.Parameter(weight.detach().clone())
    optimizer, other = (ProxAdam([w], lr=0.1, penalty=L1(0.1)) for w in (weight, twin))
    for _ in range(3):
        for each in (weight, twin):
            each.grad = 0.3 * each.detach().sin()
        if which == "gradient":
            weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)
        elif optimizer.state[weight]:
            state = optimizer.state[weight]
            state["exp_avg_sq"] = state["exp_avg_sq"].contiguous(memory_format=torch.channels_last)
        optimizer.step()
        other.step()
    torch.testing.assert_close(weight, twin, rtol=1e-6, atol=1e-9)


def test_parameters_whose_memory_moves_are_followed(device):
    """As `module.to(memory_format=...)` and load_state_dict do, between two steps."""
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2, device=device, dtype=torch.float64))
    twin = torch.nn.Parameter(weight.detach().clone())
    optimizer, other = (ProxAdam([w], lr=0.1, penalty=L1(0.1)) for w in (weight, twin))
    for step in range(4):
        if step == 2:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last).clone()
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for each in (weight, twin):
            each.grad = 0.3 * each.detach().sin()
        optimizer.step()
        other.step()
    torch.testing.assert_close(weight, twin)


@pytest.mark.parametrize(("kind", "options"), [*WHOLE[:2], *WHOLE[3:7], (ProxAdam, {"lr": 0.1})])
def test_a_step_with_an_overflow_changes_nothing(kind, options, device, calls):
    """What GradScaler hands over to a fused optimizer; a plain one it does not call at all."""
    weight = torch.nn.Parameter(torch.randn(4, 3, device=device))
    twin = torch.nn.Parameter(weight.detach().clone())
    options = {**options, "fused": True}
    optimizer, other = (kind([w], penalty=L1(0.1), **options) for w in (weight, twin))
    scale = torch.tensor(4.0, device=device)
    for halted in (1.0, 0.0, 1.0, 0.0):
        found = torch.tensor(halted, device=device)
        before = weight.detach().clone()
        weight.grad = torch.full_like(weight, torch.inf if halted else 0.4)
        optimizer.grad_scale, optimizer.found_inf = scale, found
        optimizer.step()
        if halted:
            assert torch.equal(weight, before)
        else:
            twin.grad = torch.full_like(twin, 0.1)
            other.step()
            torch.testing.assert_close(weight.grad, twin.grad)
    del optimizer.grad_scale, optimizer.found_inf
    assert calls.names
    torch.testing.assert_close(weight, twin)
    for name, value in other.state[twin].items():
        torch.testing.assert_close(optimizer.state[weight][name], value)


class OwnAdam(torch.optim.Adam):
    """A subclass, which `attach` gives hooks."""


@pytest.mark.parametrize("kind", [torch.optim.Adam, OwnAdam])
def test_attached_penalties_take_kernels_as_well(kind, device, calls):
    weights = [torch.nn.Parameter(torch.ones(4, 3, device=device, dtype=torch.float64)) for _ in range(2)]
    optimizer = attach(kind(weights[:1], lr=0.1), L1(0.1))
    other = ProxAdam(weights[1:], lr=0.1, penalty=L1(0.1), fused=False)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.full_like(weight, 0.2)
        optimizer.step()
        other.step()
    assert set(calls.names) == {"separable_prox_"}
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-7, atol=1e-9)


def test_numbers_of_states_on_the_host_and_on_the_device_are_the_same(device):
    """A capturable optimizer has its counts on the device: their formulas are the same."""
    weights = parameters(device)[:3]
    for kind in (ProxAdam, ProxNAdam, ProxRMSprop, ProxAdagrad):
        optimizer = kind(weights, lr=0.1, penalty=L1(0.1))
        for step in range(3):
            give_gradients(weights, step)
            optimizer.step()
        group, states = optimizer.param_groups[0], [optimizer.state[weight] for weight in weights]
        rule = optimizer._prox._rule
        each = [rule.numbers(group, state) for state in states]
        counts = [name for name in ("step", "mu_product") if name in states[0]]
        together = rule.numbers(group, {n: torch.stack([state[n].double() for state in states]) for n in counts})
        for name in launch_operands.NUMBERS:
            found = torch.as_tensor(together[name], dtype=torch.float64).expand(3)
            assert found.tolist() == pytest.approx([float(numbers[name]) for numbers in each], rel=1e-12)


def test_an_optimizer_is_freed_without_the_garbage_collector(device):
    weight = torch.nn.Parameter(torch.ones(4, 3, device=device))
    optimizer = ProxAdam([weight], lr=0.1, penalty=L1(0.1), fused=True)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    gone = weakref.ref(optimizer.state[weight]["exp_avg"])
    gc.disable()
    try:
        del optimizer
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("kind", "options"), [WHOLE[0], WHOLE[3], (ProxAdam, {"lr": 0.1})])
@pytest.mark.parametrize("penalty", [L1(0.1), GroupL1(0.1)], ids=["L1", "GroupL1"])
def test_a_graph_of_gradients_from_before_a_step_is_refused_after_it(kind, options, penalty, device):
    """As after any step of torch's: the weights that it was built with are gone."""
    weight = torch.nn.Parameter(torch.ones(4, 3, device=device))
    optimizer = kind([weight], penalty=penalty, **options)
    loss = weight.square().sum()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
