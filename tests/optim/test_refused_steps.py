"""A step that raises has changed nothing: no weight, no state, no count, no random number."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.optim import (
    RDA,
    XRDA,
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadySGD,
    attach,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

KINDS = [ProxSGD, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad, RDA, XRDA, SteadySGD, SteadyAdam]
SMOOTH_AT_NOTHING = [L1(0.01), ElasticNet(0.01), TransformedL1(0.01), MCP(0.01), SCAD(0.01)]
OTHERS = [L0(0.01), GroupL1(0.01), SparseGroupL1(0.01), Nuclear(0.01)]
SHAPE = (4, 3)


class Subclass(torch.optim.Adam):
    """Which `attach` gives hooks."""


def hooked(parameters, penalty, **options):
    return attach(Subclass(parameters, **options), penalty)


def build(kind, penalty, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(SHAPE, generator=generator, dtype=dtype)) for _ in range(2)]
    groups = [{"params": [weight]} for weight in weights]
    optimizer = kind(groups, lr=0.01, penalty=penalty)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.randn(SHAPE, generator=generator, dtype=dtype)
        optimizer.step()
    for weight in weights:
        weight.grad = torch.randn(SHAPE, generator=generator, dtype=dtype)
    return optimizer, weights


def flattened(optimizer, weights):
    """Everything that a step may change, as numbers."""
    found = [weight.detach().clone() for weight in weights]
    for weight in weights:
        state = optimizer.state.get(weight, {})
        for name in sorted(state):
            value = state[name]
            found.append(value.clone() if isinstance(value, torch.Tensor) else torch.tensor(float(value or 0)))
    return found


def assert_refused_whole(optimizer, weights, closure=None):
    before, keys = flattened(optimizer, weights), {w: set(optimizer.state.get(w, {})) for w in weights}
    torch.manual_seed(5)
    random = torch.get_rng_state()
    calls = []

    def called():
        calls.append(torch.rand(1))  # as dropout does
        return torch.zeros(())

    with pytest.raises((ValueError, TypeError)) as error:
        optimizer.step(called) if closure else optimizer.step()
    for now, then in zip(flattened(optimizer, weights), before, strict=True):
        assert torch.equal(now, then), error.value
    assert keys == {w: set(optimizer.state.get(w, {})) for w in weights}
    assert torch.equal(torch.get_rng_state(), random), error.value
    assert not calls
    return error.value


def change(name, value):
    def edit(group):
        group["penalty"][name] = value

    return edit


def replaced(value):
    def edit(group):
        group["penalty"] = value

    return edit


def option(name, value):
    def edit(group):
        group[name] = value

    return edit


EDITS = {
    "λ negative": change("strength", -1.0),
    "λ is NaN": change("strength", math.nan),
    "λ infinite": change("strength", math.inf),
    "λ is text": change("strength", "0.1"),
    "λ is None": change("strength", None),
    "λ tensor is NaN": change("strength", torch.tensor(math.nan)),
    "λ tensor of another shape": change("strength", torch.ones(7)),
    "weights of another shape": change("weights", torch.ones(7)),
    "weights negative": change("weights", torch.tensor([-1.0])),
    "weights complex": change("weights", torch.ones(3, dtype=torch.complex64)),
    "another name": change("name", "L7"),
    "a name that is no text": change("name", 3),
    "no λ": lambda group: group["penalty"].pop("strength"),
    "something unknown": change("colour", 1.0),
    "a dimension that is not there": replaced(GroupL1(0.1, dim=5)),
    "a dimension in the specification": replaced({"name": "GroupL1", "strength": 0.1, "dim": 2}),
    "an index of another length": replaced(GroupL1(0.1, index=[0, 0, 1])),
    "a number": replaced(0.1),
    "text": replaced("L1"),
    "a class": replaced(L1),
    "lr negative": option("lr", -1.0),
    "lr is NaN": option("lr", math.nan),
}


@pytest.mark.parametrize("kind", [*KINDS, hooked], ids=lambda kind: kind.__name__)
@given(
    edit=st.sampled_from(sorted(EDITS)),
    penalty=st.integers(0, len(SMOOTH_AT_NOTHING) + len(OTHERS) - 1),
    second=st.booleans(),
    closure=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_step_that_raises_has_changed_nothing(kind, edit, penalty, second, closure):
    """Also where the first group is good and only the second is not."""
    penalties = SMOOTH_AT_NOTHING if kind in (SteadySGD, SteadyAdam) else [*SMOOTH_AT_NOTHING, *OTHERS]
    optimizer, weights = build(kind, penalties[penalty % len(penalties)])
    EDITS[edit](optimizer.param_groups[int(second)])
    assert_refused_whole(optimizer, weights, closure)


@pytest.mark.parametrize("kind", [*KINDS, hooked], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("by", ["in place", "data"])
@pytest.mark.parametrize("value", [math.nan, -1.0, math.inf])
def test_a_lambda_tensor_changed_to_something_invalid_moves_nothing(kind, by, value):
    strength = torch.tensor(0.01)
    optimizer, weights = build(kind, L1(strength))
    (strength if by == "in place" else strength.data).fill_(value)
    assert "strength is" in str(assert_refused_whole(optimizer, weights))
    strength.fill_(0.02)
    optimizer.step()


@pytest.mark.parametrize("kind", [*KINDS, hooked], ids=lambda kind: kind.__name__)
def test_weights_within_a_penalty_changed_in_place_to_something_invalid_move_nothing(kind):
    weights = torch.ones(SHAPE)
    optimizer, parameters = build(kind, L1(0.01, weights=weights))
    weights[1, 1] = -1
    assert "weights is" in str(assert_refused_whole(optimizer, parameters))


@pytest.mark.parametrize("kind", [SteadySGD, SteadyAdam])
@pytest.mark.parametrize("penalty", [GroupL1(0.1), Nuclear(0.1), L0(0.1)], ids=lambda p: type(p).__name__)
def test_a_penalty_that_a_steady_optimiser_does_not_accept_put_there_by_hand(kind, penalty):
    optimizer, weights = build(kind, L1(0.01))
    optimizer.param_groups[1]["penalty"] = penalty
    assert "a steady optimiser accepts" in str(assert_refused_whole(optimizer, weights))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ProxSGD, "momentum", 1.0),
        (ProxSGD, "dampening", 2.0),
        (ProxRMSprop, "momentum", 1.5),
        (SteadyAdam, "forgetting", -1.0),
        (SteadyAdam, "differentiable", True),
        (RDA, "centre", "middle"),
        (XRDA, "averaging", 2.0),
        (XRDA, "amplification_dim", 4),
    ],
)
def test_an_option_out_of_its_range_moves_nothing(kind, name, value):
    optimizer, weights = build(kind, L1(0.01))
    optimizer.param_groups[1][name] = value
    assert name in str(assert_refused_whole(optimizer, weights))


@pytest.mark.parametrize("kind", [RDA, XRDA])
def test_a_parameter_that_somebody_gave_another_shape_moves_nothing(kind):
    optimizer, weights = build(kind, L1(0.01))
    weights[1].data = torch.ones(7)
    assert "has shape" in str(assert_refused_whole(optimizer, weights))


ADAPTIVE = [ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxAdagrad, hooked]
WITHOUT_FORMULA = [ElasticNet(0.1), MCP(0.1), SCAD(0.1), TransformedL1(0.1), L0(0.1), GroupL1(0.1), SparseGroupL1(0.1)]


@pytest.mark.parametrize("kind", ADAPTIVE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("penalty", WITHOUT_FORMULA, ids=lambda penalty: type(penalty).__name__)
def test_complex_weights_without_a_prox_in_the_metric_are_refused_when_built_and_when_put_there(kind, penalty):
    weight = torch.nn.Parameter(torch.randn(SHAPE, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"does not fit parameter 0: .*(two|diagonal metric|different steps)"):
        kind([weight], penalty=penalty)
    optimizer, weights = build(kind, L1(0.01), torch.complex64)
    optimizer.param_groups[1]["penalty"] = penalty.specification()
    assert_refused_whole(optimizer, weights)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["penalty"] = penalty.specification()
    with pytest.raises(ValueError, match="does not fit"):
        build(kind, L1(0.01), torch.complex64)[0].load_state_dict(saved)


@pytest.mark.parametrize("penalty", [GroupL1(0.1), SparseGroupL1(0.1)], ids=lambda penalty: type(penalty).__name__)
def test_complex_groups_under_the_adaptive_weights_of_xrda_are_refused_when_built(penalty):
    weight = torch.nn.Parameter(torch.randn(SHAPE, dtype=torch.complex64))
    with pytest.raises(ValueError, match="diagonal metric"):
        XRDA([weight], amplification=5.0, penalty=penalty)
    XRDA([weight], penalty=penalty)


@pytest.mark.parametrize("kind", KINDS[:8], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "penalty", [L1(1e39), ElasticNet(1e39), GroupL1(1e39), MCP(1e39), L1(torch.tensor(1e39, dtype=torch.float64))]
)
def test_a_lambda_beyond_the_weights_type_sets_them_to_zero(kind, penalty):
    weight = torch.nn.Parameter(torch.randn(SHAPE))
    optimizer = kind([weight], lr=0.5, penalty=penalty)
    # An adaptive one gets there by steps of limited length.
    for _ in range(1 if kind in (ProxSGD, RDA, XRDA) else 600):
        weight.grad = torch.ones(SHAPE)
        optimizer.step()
    assert torch.equal(weight.detach(), torch.zeros(SHAPE))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex32])
def test_types_without_arithmetic_are_refused_when_built(kind, dtype):
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float32).to(dtype))
    with pytest.raises(ValueError, match="dtype"):
        kind([weight], penalty=L1(0.1))


def test_a_hook_looks_at_what_the_closure_leaves():
    """The gradients are not there before it: a sparse one is found before the base step all the same."""
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = hooked([weight], L1(0.1))

    def closure():
        weight.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=False)
        return torch.zeros(())

    with pytest.raises(ValueError, match="layout"):
        optimizer.step(closure)
    with pytest.raises(ValueError, match="layout"):
        optimizer.step(closure=closure)
    assert torch.equal(weight.detach(), torch.ones(4, 2))
    assert not optimizer.state.get(weight)


def test_a_hook_hands_back_what_the_closure_returned():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = hooked([weight], L1(0.1), lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 3.0
    assert bool((weight < 1).all())


@pytest.mark.parametrize("kind", [ProxSGD, ProxRMSprop])
def test_a_momentum_of_one_is_torchs_affair_where_lambda_is_zero(kind):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([weight], lr=0.1, momentum=1.0, penalty=L1(0.0))
    weight.grad = torch.ones(3)
    optimizer.step()
    optimizer.param_groups[0]["penalty"]["strength"] = 0.1
    before = weight.detach().clone()
    with pytest.raises(ValueError, match=r"momentum is 1\.0"):
        optimizer.step()
    assert torch.equal(weight.detach(), before)
