"""An optimiser that somebody else built steps like the one of this package, whichever way the penalty was put on."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from nonsmooth.optim import ProxAdam, ProxNAdam, ProxSGD, attach
from nonsmooth.penalties import L1, GroupL1, Nuclear

PAIRS = {
    "SGD": (torch.optim.SGD, ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    "Adam": (torch.optim.Adam, ProxAdam, {"lr": 0.01}),
    "NAdam": (torch.optim.NAdam, ProxNAdam, {"lr": 0.01}),
}


class OwnAdam(torch.optim.Adam):
    """What a library may derive from torch's optimiser."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def train(model, optimizer, steps=30, scheduler=None):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 5, generator=generator)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_attached_is_bit_equal_to_built(name):
    plain, proximal, options = PAIRS[name]
    model, twin = network(), network()
    attached = attach(plain(model.parameters(), **options), L1(0.02))
    assert type(attached) is proximal
    found = train(model, attached)
    expected = train(twin, proximal(twin.parameters(), penalty=L1(0.02), **options))
    assert same(found, expected)
    assert any(bool((weight == 0).any()) for weight in found)
    assert not same(found, train(network(), plain(network().parameters(), **options)))


def test_a_subclass_gets_hooks_and_the_same_steps():
    model, twin = network(), network()
    attached = attach(OwnAdam(model.parameters(), lr=0.01), L1(0.02))
    assert type(attached) is OwnAdam
    assert same(train(model, attached), train(twin, ProxAdam(twin.parameters(), lr=0.01, penalty=L1(0.02))))


def test_a_scheduler_that_wrapped_the_step_first_does_not_hide_the_prox():
    model, twin = network(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 20)
    attach(optimizer, L1(0.02))
    other = ProxAdam(twin.parameters(), lr=0.01, penalty=L1(0.02))
    found = train(model, optimizer, scheduler=scheduler)
    assert same(found, train(twin, other, scheduler=torch.optim.lr_scheduler.StepLR(other, 20)))
    assert any(bool((weight == 0).any()) for weight in found)


@pytest.mark.parametrize("kind", [torch.optim.Adam, OwnAdam])
def test_hooks_see_final_weights_and_fire_once(kind):
    model = network()
    optimizer = kind(model.parameters(), lr=0.01)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append([p.detach().clone() for p in model.parameters()]))
    attach(optimizer, L1(0.02))
    for step in range(1, 4):
        after = train(model, optimizer, steps=1)
        assert len(seen) == step
        assert same(seen[-1], after)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"]
)
def test_a_swapped_optimiser_survives_copies(copied):
    model = network()
    attach_to = attach(torch.optim.Adam(model.parameters(), lr=0.01), L1(0.02))
    both = copied({"model": model, "optimizer": attach_to})
    assert isinstance(both["optimizer"], ProxAdam)
    assert same(train(both["model"], both["optimizer"]), train(model, attach_to))


@pytest.mark.parametrize("kind", [torch.optim.Adam, OwnAdam])
def test_checkpoints_load_safely_and_go_on_bit_for_bit(kind):
    model = network()
    optimizer = attach(kind(model.parameters(), lr=0.01), GroupL1(0.02))
    train(model, optimizer, steps=5)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin = network()
    twin.load_state_dict(saved["model"])
    resumed = attach(kind(twin.parameters(), lr=0.01), GroupL1(0.5))
    resumed.load_state_dict(saved["optimizer"])
    assert resumed.param_groups[0]["penalty"]["strength"] == 0.02
    assert same(train(model, optimizer), train(twin, resumed))


@pytest.mark.parametrize("kind", [torch.optim.Adam, OwnAdam])
def test_a_checkpoint_with_an_unknown_penalty_is_refused_before_anything_changes(kind):
    model = network()
    optimizer = attach(kind(model.parameters(), lr=0.01), L1(0.02))
    train(model, optimizer, steps=2)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["penalty"]["name"] = "L17"
    state["param_groups"][0]["lr"] = 5.0
    with pytest.raises(ValueError, match="L17"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.param_groups[0]["penalty"]["name"] == "L1"


def test_groups_keep_penalties_of_their_own():
    model = network()
    groups = [{"params": [model[0].weight], "penalty": L1(0.5)}, {"params": [model[2].weight]}]
    optimizer = attach(torch.optim.SGD(groups, lr=0.1), L1(0.02))
    assert [group["penalty"]["strength"] for group in optimizer.param_groups] == [0.5, 0.02]


class Wrapper(torch.optim.Optimizer):
    """As accelerate wraps an optimiser."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.__dict__["optimizer"], name)


def test_a_wrapper_is_looked_through():
    inner = torch.optim.SGD(network().parameters(), lr=0.1)
    outer = Wrapper(inner)
    assert attach(outer, L1(0.02)) is outer
    assert isinstance(inner, ProxSGD)


def test_a_second_penalty_is_refused():
    for kind in (torch.optim.Adam, OwnAdam, ProxAdam):
        optimizer = kind(network().parameters(), lr=0.1)
        if kind is not ProxAdam:
            attach(optimizer, L1(0.02))
        with pytest.raises(ValueError, match="already"):
            attach(optimizer, L1(0.02))


def test_bad_input_changes_nothing():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"parameter 1: shape is \(6,\)"):
        attach(optimizer, Nuclear(0.1))
    with pytest.raises(TypeError, match=r"penalty is 0\.1"):
        attach(optimizer, 0.1)
    assert type(optimizer) is torch.optim.Adam
    assert "penalty" not in optimizer.param_groups[0]
    with pytest.raises(ValueError, match="Adadelta"):
        attach(torch.optim.Adadelta(model.parameters()), L1(0.1))
    with pytest.raises(TypeError, match="optimizer is 3"):
        attach(3, L1(0.1))
