"""An optimiser that somebody else built steps like the one of this package, whichever way the penalty was put on."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from nonsmooth.optim import RDA, ProxAdam, ProxNAdam, ProxSGD, attach, penalize
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


def test_groups_that_come_later_share_no_penalty():
    """torch gives its defaults to each group as they are: one λ would be that of all."""
    first, second, third = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = attach(OwnAdam([first], lr=0.1), L1(0.1))
    optimizer.add_param_group({"params": [second]})
    optimizer.add_param_group({"params": [third]})
    saved = optimizer.state_dict()
    optimizer.param_groups[1]["penalty"]["strength"] = 0.5
    assert [group["penalty"]["strength"] for group in optimizer.param_groups] == [0.1, 0.5, 0.1]
    assert [group["penalty"]["strength"] for group in saved["param_groups"]] == [0.1, 0.1, 0.1]
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    optimizer.load_state_dict(torch.load(buffer, weights_only=True))
    for parameter in (first, second, third):
        parameter.grad = torch.zeros(2, 2)
    optimizer.step()
    assert torch.equal(first, third)
    assert torch.equal(second, third)
    assert float(third[0, 0]) < 1


def test_groups_keep_penalties_of_their_own():
    model = network()
    groups = [{"params": [model[0].weight], "penalty": L1(0.5)}, {"params": [model[2].weight]}]
    optimizer = attach(torch.optim.SGD(groups, lr=0.1), L1(0.02))
    assert [group["penalty"]["strength"] for group in optimizer.param_groups] == [0.5, 0.02]


def normalised():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.parametrize("kind", [torch.optim.Adam, OwnAdam])
def test_with_the_model_it_penalises_what_penalize_does(kind):
    """Bit for bit, on an optimiser that has stepped already, with its state, hooks and options."""
    model, twin = normalised(), normalised()
    optimizer = kind(model.parameters(), lr=0.01, betas=(0.8, 0.99))
    other = ProxAdam(penalize(twin, L1(0.02)), lr=0.01, betas=(0.8, 0.99))
    train(model, optimizer, steps=3)
    for group in other.param_groups:
        group["penalty"] = None
    train(twin, other, steps=3)
    fired = []
    optimizer.register_step_post_hook(lambda *_: fired.append(1))
    assert attach(optimizer, L1(0.02), model=model) is optimizer
    other.param_groups[0]["penalty"] = L1(0.02).specification()
    assert same(train(model, optimizer), train(twin, other))
    assert len(fired) == 30
    weights, rest = optimizer.param_groups
    assert weights["params"] == [model[0].weight, model[3].weight]
    assert (rest["penalty"], rest["betas"]) == (None, (0.8, 0.99))
    assert int((model[0].weight == 0).sum()) > 0
    assert not any(bool((p == 0).any()) for p in rest["params"])
    # And the checkpoint of the divided optimiser goes on in a divided one.
    resumed = attach(kind(copy.deepcopy(model).parameters(), lr=0.5), None)
    with pytest.raises(ValueError, match="groups"):
        resumed.load_state_dict(optimizer.state_dict())
    last = copy.deepcopy(model)
    resumed = attach(kind(last.parameters(), lr=0.5), L1(9.0), model=last)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert same(train(model, optimizer), train(last, resumed))


def test_patterns_and_names_go_with_the_model():
    model = normalised()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    attach(optimizer, L1(0.02), model=model, include=["1.weight"], exclude=["3.*"])
    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["0.weight", "1.weight"], ["0.bias", "1.bias", "3.weight", "3.bias"],
    ]  # fmt: skip


def test_groups_of_one_kind_stay_whole_and_those_with_a_penalty_as_they_are():
    """As transformers' Trainer makes them: with weight decay and without."""
    model = normalised()
    weights = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": weights}, {"params": vectors, "weight_decay": 0.0}], lr=0.01)
    attach(optimizer, L1(0.02), model=model)
    assert [group["penalty"] and group["penalty"]["strength"] for group in optimizer.param_groups] == [0.02, None]
    model = normalised()
    groups = [{"params": [model[0].bias], "penalty": L1(0.5)}, {"params": [*model[3].parameters()]}]
    optimizer = attach(torch.optim.AdamW(groups, lr=0.01), L1(0.02), model=model)
    assert [group["penalty"] and group["penalty"]["strength"] for group in optimizer.param_groups] == [0.5, 0.02, None]


def test_a_scheduler_is_built_after_groups_were_split_and_refused_before():
    model = normalised()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 2)
    with pytest.raises(ValueError, match="attach first, then build the scheduler"):
        attach(optimizer, L1(0.02), model=model)
    assert len(optimizer.param_groups) == 1
    assert "penalty" not in optimizer.param_groups[0]
    model = normalised()
    optimizer = attach(torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1)), L1(0.02), model=model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    train(model, optimizer, steps=5, scheduler=scheduler)
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.025, 0.025])
    # Groups that need no splitting: the scheduler keeps working.
    model = normalised()
    groups = [{"params": [p]} for p in model.parameters()]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    attach(optimizer, L1(0.02), model=model)
    train(model, optimizer, steps=5, scheduler=scheduler)
    assert {group["lr"] for group in optimizer.param_groups} == {0.025}


def test_a_checkpoint_of_one_group_goes_on_with_weights_penalised():
    model = normalised()
    plain = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, plain, steps=5)
    saved, twin = copy.deepcopy(plain.state_dict()), copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"groups of \[6\], this optimizer in groups of \[2, 4\].*attach"):
        ProxSGD(penalize(twin, L1(0.02)), lr=0.1, momentum=0.9).load_state_dict(saved)
    resumed = torch.optim.SGD(twin.parameters(), lr=9.0)
    resumed.load_state_dict(saved)
    attach(resumed, L1(0.02), model=twin)
    attach(plain, L1(0.02), model=model)
    assert same(train(model, plain), train(twin, resumed))


@pytest.mark.parametrize("reverse", [False, True])
def test_with_names_a_state_finds_its_groups(reverse):
    """Also where only the order differs, which torch would take as it comes."""
    model = normalised()
    names = list(model.named_parameters())
    plain = torch.optim.SGD(names[::-1] if reverse else names, lr=0.1, momentum=0.9)
    train(model, plain, steps=5)
    twin = copy.deepcopy(model)
    resumed = ProxSGD(penalize(twin, L1(0.02)), lr=9.0, momentum=0.5)
    resumed.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert [group["penalty"] and group["penalty"]["strength"] for group in resumed.param_groups] == [0.02, None]
    assert resumed.param_groups[1]["lr"] == 0.1
    for (name, parameter), (_, other) in zip(names, twin.named_parameters(), strict=True):
        assert torch.equal(plain.state[parameter]["momentum_buffer"], resumed.state[other]["momentum_buffer"]), name
    attach(plain, L1(0.02), model=model)
    assert same(train(model, plain), train(twin, resumed))


def test_options_at_odds_do_not_go_into_one_group():
    model = normalised()
    names = list(model.named_parameters())
    plain = torch.optim.SGD([{"params": names[:1], "lr": 0.1}, {"params": names[1:], "lr": 0.2}])
    resumed = ProxSGD(model.named_parameters(), lr=0.3)
    with pytest.raises(ValueError, match="in groups with different options"):
        resumed.load_state_dict(plain.state_dict())
    assert resumed.param_groups[0]["lr"] == 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda m: attach(torch.optim.Adam(m.parameters()), L1(0.1)),
        lambda m: attach(torch.optim.Adam([{"params": [p]} for p in m.parameters()]), L1(0.1)),
        lambda m: attach(OwnAdam(m.named_parameters()), L1(0.1)),
        lambda m: ProxAdam(m.parameters(), penalty=L1(0.1)),
        lambda m: RDA(m.parameters(), lr=0.1, penalty=L1(0.1)),
        lambda m: ProxSGD([m[0].weight], lr=0.1, penalty=L1(0.1)).add_param_group({"params": [m[0].bias]}),
    ],
    ids=["attached", "groups", "hooked", "built", "RDA", "added"],
)
def test_a_penalty_on_vectors_that_nobody_named_is_warned_of(make):
    with pytest.warns(UserWarning, match="fewer than two dimensions") as record:
        make(normalised())
    assert [warning.filename for warning in record] == [__file__]


@pytest.mark.parametrize(
    "make",
    [
        lambda m: attach(torch.optim.Adam(m.parameters()), L1(0.1), model=m),
        lambda m: attach(torch.optim.Adam([m[0].bias]), L1(0.1)),
        lambda m: attach(torch.optim.Adam(m.parameters()), None),
        lambda m: attach(torch.optim.Adam(m.parameters()), L1(0.0)),
        lambda m: ProxAdam([m[0].bias, m[1].weight], penalty=L1(0.1)),
        lambda m: ProxAdam([m[0].weight, m[3].weight], penalty=L1(0.1)),
        lambda m: ProxAdam([{"params": [*m.parameters()], "penalty": L1(0.1)}]),
        lambda m: ProxAdam(penalize(m, L1(0.1), include=["*bias"]), penalty=L1(0.1)),
    ],
)
def test_vectors_alone_and_those_that_somebody_named_are_not(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(normalised())


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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"include": ["0.bias"]}, ValueError, "model is None"),
        ({"exclude": "0.bias"}, ValueError, "model is None"),
        ({"model": True, "include": "0.bias"}, TypeError, "several patterns"),
        ({"model": True, "exclude": ["7.*"]}, ValueError, "exclude has '7"),
        ({"model": True, "exclude": ["*"]}, ValueError, "no parameter to penalise"),
        ({"model": nn.Linear(2, 2)}, ValueError, "model has no name for 4 of the 4"),
        ({"model": True, "penalty": None}, TypeError, "penalty is None"),
        ({"model": True, "penalty": Nuclear(0.1), "include": ["0.bias"]}, ValueError, "shape"),
    ],
)
def test_bad_input_with_a_model_changes_nothing(options, error, message):
    model = network()
    if options.get("model") is True:
        options = {**options, "model": model}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        attach(optimizer, options.pop("penalty", L1(0.1)), **options)
    assert type(optimizer) is torch.optim.Adam
    assert len(optimizer.param_groups) == 1
    assert "penalty" not in optimizer.param_groups[0]


@pytest.mark.parametrize("model", [3, [torch.nn.Linear(2, 2)]])
def test_what_is_no_model_is_named(model):
    optimizer = torch.optim.Adam(network().parameters())
    with pytest.raises(TypeError, match=r"model is a (int|list); accepted is a torch.nn.Module"):
        attach(optimizer, L1(0.1), model=model)
    with pytest.raises(TypeError, match=r"model is a (int|list); accepted is a torch.nn.Module"):
        penalize(model, L1(0.1))
    assert "penalty" not in optimizer.param_groups[0]
