"""Penalties that nobody acts upon, and zeros that somebody writes over, are said in the certificate."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from nonsmooth.optim import RDA, ProxAdam, ProxSGD, SteadyAdam, attach, averaged, certify, penalize, takes_prox
from nonsmooth.optim.prox_taken import prox_notes
from nonsmooth.penalties import L1, GroupL1

INPUTS = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))


class OwnSGD(torch.optim.SGD):
    """What a library may derive from torch's optimiser."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))


def loss_of(model):
    return (model(INPUTS) - INPUTS[:, :1]).square().mean()


def train(model, optimizer, steps=50, after=None):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        if after is not None:
            after(model)


def notes(model, optimizer):
    return " | ".join(certify(optimizer, lambda: loss_of(model)).notes)


def test_a_penalised_checkpoint_in_a_plain_optimiser():
    model = network()
    optimizer = ProxAdam(penalize(model, L1(0.05)), lr=1e-2)
    train(model, optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    plain = torch.optim.Adam(penalize(model, L1(0.05)), lr=1e-2)
    for group in plain.param_groups:
        del group["penalty"]
    assert "no prox" not in notes(model, plain)
    plain.load_state_dict(torch.load(file, weights_only=True))
    assert not takes_prox(plain)
    assert "no prox is taken: Adam has a penalty in its groups" in notes(model, plain)
    # The advice, followed: it goes on as if nothing had happened.
    twin, twin_model = attach(plain, None), copy.deepcopy(model)
    other = ProxAdam(penalize(twin_model, L1(0.05)), lr=1e-2)
    other.load_state_dict(optimizer.state_dict())
    assert takes_prox(twin)
    train(model, twin)
    train(twin_model, other)
    assert "no prox" not in notes(model, twin)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin_model.parameters(), strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["copy", "pickle"])
def test_a_copy_of_a_hooked_optimiser_has_lost_the_prox_and_says_so(copied):
    model = network()
    optimizer = attach(OwnSGD(model.parameters(), lr=0.1), L1(0.02), model=model)
    assert takes_prox(optimizer)
    twin, other = copied((model, optimizer))
    assert not takes_prox(other)
    assert "no prox is taken" in notes(twin, other)
    attach(other, None)
    assert takes_prox(other)
    train(model, optimizer)
    train(twin, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("make", [
    lambda m: ProxSGD(penalize(m, L1(0.02)), lr=0.05),
    lambda m: SteadyAdam(penalize(m, L1(0.02)), lr=0.01),
    lambda m: RDA(penalize(m, L1(0.02)), lr=0.05),
    lambda m: attach(torch.optim.Adam(m.parameters(), lr=0.01), L1(0.02), model=m),
    lambda m: attach(OwnSGD(m.parameters(), lr=0.05), L1(0.02), model=m),
], ids=["ProxSGD", "SteadyAdam", "RDA", "attached", "hooked"])  # fmt: skip
def test_weights_written_after_the_prox_are_named(make):
    def weaken(model):
        with torch.no_grad():
            model[0].weight.add_(1e-5)

    model = network()
    optimizer = make(model)
    train(model, optimizer)
    assert notes(model, optimizer) == ""
    train(model, optimizer, after=weaken)
    assert "written to since the prox of the last step, so exact zeros may be gone: 0." in notes(model, optimizer)
    train(model, optimizer)
    assert notes(model, optimizer) == ""


def by_data(model):
    model[0].weight.data.mul_(0.5)


def other_data(model):
    model[0].weight.data = model[0].weight.data + 1e-3


@pytest.mark.parametrize("write", [by_data, other_data])
@pytest.mark.parametrize("make", [
    lambda m: ProxSGD(penalize(m, L1(0.02)), lr=0.05),
    lambda m: RDA(penalize(m, GroupL1(0.001)), lr=0.05),
    lambda m: attach(OwnSGD(m.parameters(), lr=0.05), L1(0.02), model=m),
], ids=["ProxSGD", "RDA", "hooked"])  # fmt: skip
def test_weights_written_through_their_data_are_named_too(make, write):
    model = network()
    optimizer = make(model)
    train(model, optimizer, after=write)
    assert "written to since the prox of the last step" in notes(model, optimizer)
    train(model, optimizer)
    assert notes(model, optimizer) == ""
    model.to(torch.float64)  # no weight is another
    assert prox_notes(optimizer) == ()


class Wrapper:
    """Of the kind that SAM is: a step of its own, by way of the optimiser that it holds."""

    def __init__(self, attribute, inner):
        setattr(self, attribute, inner)
        self.zero_grad, self.step = inner.zero_grad, inner.step


class NativeWrapper(Wrapper, torch.optim.Optimizer):
    """The same as an optimiser with the groups of the one inside."""

    def __init__(self, attribute, inner):
        torch.optim.Optimizer.__init__(self, inner.param_groups, inner.defaults)
        self.param_groups = inner.param_groups
        super().__init__(attribute, inner)


@pytest.mark.parametrize("attribute", ["optimizer", "base_optimizer", "_base", "optim", "inner"])
@pytest.mark.parametrize("kind", [Wrapper, NativeWrapper])
def test_the_optimiser_is_found_under_any_name(kind, attribute):
    model = network()
    outer = kind(attribute, ProxSGD(penalize(model, L1(0.02)), lr=0.05))
    train(model, outer)
    assert takes_prox(outer)
    assert f"{kind.__name__} wraps ProxSGD" in notes(model, outer)
    assert "no prox is taken" not in notes(model, outer)
    assert averaged(model, outer).sparse() is not None
    plain = kind(attribute, torch.optim.SGD(model.parameters(), lr=0.05))
    assert attach(plain, L1(0.02), model=model) is plain
    assert takes_prox(plain)


def test_of_two_optimisers_inside_none_is_guessed():
    model = network()
    outer = Wrapper("first", ProxSGD(model[0].parameters(), lr=0.05))
    outer.second = ProxSGD(model[2].parameters(), lr=0.05)
    with pytest.raises(TypeError, match=r"accepted is a torch.optim.Optimizer"):
        takes_prox(outer)
    own = torch.optim.SGD(model.parameters(), lr=0.05)
    own.other = ProxSGD(model.parameters(), lr=0.05, penalty=L1(0.0))
    assert not takes_prox(own)


@pytest.mark.parametrize("name", ["ScheduleFreeWrapper", "TRAC", "OrthoGrad", "Lookahead"])
def test_wrappers_that_void_the_strength(name):
    library = pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is not installed")
    model = network()
    inner = ProxSGD(penalize(model, L1(0.02)), lr=0.05)
    outer = getattr(library, name)(inner)
    if hasattr(outer, "train"):
        outer.train()
    train(model, outer)
    assert f"{name} wraps ProxSGD" in notes(model, outer)
    assert notes(model, inner) == "" if name == "OrthoGrad" else "written to since the prox" in notes(model, inner)


def test_a_wrapper_that_is_known_to_leave_everything_alone_is_not_spoken_of():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = network()
    outer = accelerate.Accelerator(cpu=True).prepare(ProxSGD(penalize(model, L1(0.02)), lr=0.05))
    train(model, outer)
    assert notes(model, outer) == ""


def test_without_a_penalty_there_is_nothing_to_say():
    model = network()
    for optimizer in (torch.optim.SGD(model.parameters(), lr=0.1), ProxSGD(penalize(model, L1(0.0)), lr=0.1)):
        train(model, optimizer, after=lambda m: m[0].weight.detach().add_(1e-3))
        assert notes(model, optimizer) == ""
