"""Without a penalty a proximal optimiser is torch's own: bit for bit, under every option set that torch tests."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.testing._internal.common_optimizers import _get_optim_inputs_including_global_cliquey_kwargs, optim_db

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1

KINDS = {kind.parent: kind for kind in (ProxSGD, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad)}
STEPS = 100


def option_sets():
    """What torch's database lists, with `foreach` as well, which it leaves to accelerators though it works here."""
    cases = []
    for information in optim_db:
        if information.optim_cls not in KINDS:
            continue
        sets = _get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, information)
        for number, given in enumerate(sets):
            name = f"{information.optim_cls.__name__}-{number}-{given.desc}".replace(" ", "_")
            cases.append(pytest.param(information.optim_cls, given.kwargs, id=name))
            plain = not (given.kwargs.get("fused") or given.kwargs.get("differentiable"))
            if plain:
                options = {**given.kwargs, "foreach": True}
                cases.append(pytest.param(information.optim_cls, options, id=f"{name}_&_foreach"))
    return cases


OPTION_SETS = option_sets()

# The database leaves a tensor as lr of these to accelerators, though torch accepts it here.
TENSOR_OPTIONS = [
    (torch.optim.Adam, {"lr": torch.tensor([0.01]), "betas": (torch.tensor([[0.8]]), torch.tensor(0.9))}),
    (torch.optim.AdamW, {"lr": torch.tensor(0.01)}),
    (torch.optim.NAdam, {"lr": torch.tensor([0.01])}),
    (torch.optim.RMSprop, {"lr": torch.tensor(0.01), "momentum": 0.5}),
]


def train(kind, options, dtype=torch.float32, steps=STEPS):
    """Weights after a run on a loss that is not quadratic, and the state that is left."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 3), (3,), (), (2, 3, 2)]
    starts = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    targets = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    if options.get("differentiable"):
        # As torch demands: not leaves, since these cannot be changed in place under autograd.
        parameters = [start.requires_grad_().clone() for start in starts]
    else:
        parameters = [torch.nn.Parameter(start) for start in starts]
    optimizer = kind(parameters, **deepcopy(options))
    for step in range(steps):
        with torch.no_grad():
            for parameter, target in zip(parameters, targets, strict=True):
                difference = parameter - target
                parameter.grad = difference * difference.abs() + 0.1 * (step % 3)
        optimizer.step()
        for parameter in parameters if options.get("differentiable") else ():
            parameter.detach_()
    return [parameter.detach() for parameter in parameters], [optimizer.state[parameter] for parameter in parameters]


def assert_same(ours, theirs):
    (weights, states), (expected, expected_states) = ours, theirs
    for weight, other in zip(weights, expected, strict=True):
        assert torch.equal(weight, other)
    for state, other in zip(states, expected_states, strict=True):
        assert state.keys() == other.keys()
        for name in state:
            assert torch.equal(torch.as_tensor(state[name]), torch.as_tensor(other[name])), name


@pytest.mark.parametrize(("parent", "options"), OPTION_SETS)
def test_without_a_penalty_the_bits_are_torchs(parent, options):
    expected = train(parent, options)
    assert_same(train(KINDS[parent], {**options, "penalty": None}), expected)
    assert_same(train(KINDS[parent], {**options, "penalty": L1(0.0)}), expected)


@pytest.mark.parametrize(("parent", "options"), TENSOR_OPTIONS)
def test_tensors_as_options_are_torchs_too(parent, options):
    assert_same(train(KINDS[parent], options), train(parent, options))


@pytest.mark.parametrize(("parent", "options"), [case for case in OPTION_SETS if not case.values[1].get("fused")])
def test_complex_parameters_are_torchs_too(parent, options):
    expected = train(parent, options, torch.complex64, steps=10)
    assert_same(train(KINDS[parent], {**options, "penalty": L1(0.0)}, torch.complex64, steps=10), expected)


def test_every_implementation_was_asked_for():
    for parent in KINDS:
        asked = [options for case in OPTION_SETS for kind, options in [case.values] if kind is parent]
        with_fused = parent not in (torch.optim.NAdam, torch.optim.RMSprop)  # torch has none
        assert len(asked) >= 15
        for name in ("foreach", "differentiable", *(("fused",) if with_fused else ())):
            assert any(options.get(name) for options in asked), (parent, name)


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_penalty_is_not_ignored(kind):
    """What the comparisons above would not notice."""
    plain, _ = train(kind, {})
    sparse, _ = train(kind, {"penalty": L1(3.0)})
    assert not torch.equal(plain[0], sparse[0])
