"""What is saved, copied or pickled keeps the penalty and goes on as if nothing had happened."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch

import nonsmooth.optim
from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, SparseGroupL1, TransformedL1

CASES = [
    (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    (ProxAdam, {"lr": 0.01, "amsgrad": True}),
    (ProxAdam, {"lr": 0.01, "fused": True}),
    (ProxAdamW, {"lr": torch.tensor(0.01)}),
    (ProxNAdam, {"lr": 0.01}),
    (ProxRMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (ProxAdagrad, {"lr": 0.1, "lr_decay": 0.1}),
]

PENALTIES = [
    L1(0.03),
    ElasticNet(0.03, l1_ratio=0.7),
    L1(0.03, weights=torch.tensor([1.0, 0.0, 2.0])),
    GroupL1(0.03, index=torch.arange(15).reshape(5, 3) % 4),
    SparseGroupL1(0.03, l1_ratio=0.4, dim=(0, 1)),
]


def model_of(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 5)


def build(kind, options, penalty, model):
    groups = [{"params": [model.weight]}, {"params": [model.bias], "penalty": None}]
    return kind(groups, penalty=penalty, **copy.deepcopy(options))


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        inputs, targets = torch.randn(8, 3, generator=generator), torch.randn(8, 5, generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def assert_equal(model, other):
    for parameter, twin in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, twin)


def saved(state):
    """As it comes back from a file, by torch's safe loader."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_to_save_and_continue_is_never_to_have_stopped(kind, options, penalty):
    model = model_of()
    optimizer = build(kind, options, penalty, model)
    train(model, optimizer, 20)
    checkpoint = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    train(model, optimizer, 20, first=20)

    other = model_of(1)
    # Built with another penalty, so that the one in use must come from the checkpoint.
    resumed = build(kind, options, L1(5.0), other)
    other.load_state_dict(checkpoint["model"])
    resumed.load_state_dict(checkpoint["optimizer"])
    train(other, resumed, 20, first=20)
    assert_equal(model, other)
    assert [group["penalty"] and group["penalty"]["name"] for group in resumed.param_groups] == [
        type(penalty).__name__,
        None,
    ]


def test_the_continuation_depends_on_the_penalty():
    """Otherwise the test above could pass with a prox that is lost."""
    ends = []
    for strength in (0.03, 0.0301):
        model = model_of()
        train(model, build(ProxAdam, {"lr": 0.01}, L1(strength), model), 40)
        ends.append(model)
    assert not torch.equal(ends[0].weight, ends[1].weight)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"])
@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_copies_and_pickles_keep_the_prox(kind, options, steps, way):
    model = model_of()
    optimizer = build(kind, options, L1(0.1), model)
    train(model, optimizer, steps)
    other, twin = way((model, optimizer))
    assert type(twin) is kind
    train(model, optimizer, 40, first=steps)
    train(other, twin, 40, first=steps)
    assert_equal(model, other)
    assert bool((other.weight == 0).any())
    extra = torch.nn.Parameter(torch.zeros(2))
    twin.add_param_group({"params": [extra]})
    assert twin.param_groups[-1]["penalty"]["strength"] == 0.1


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_checkpoint_of_torchs_optimiser_loads_and_the_penalty_stays(kind, options):
    model = model_of()
    plain = kind.parent([{"params": [model.weight]}, {"params": [model.bias]}], **copy.deepcopy(options))
    train(model, plain, 10)
    other = copy.deepcopy(model)
    optimizer = build(kind, options, L1(0.05), other)
    optimizer.load_state_dict(saved(plain.state_dict()))
    assert [group["penalty"] for group in optimizer.param_groups] == [L1(0.05).specification(), None]
    train(other, optimizer, 60, first=10)
    assert bool((other.weight == 0).any())
    assert not bool((other.bias == 0).any())


def test_torchs_optimiser_loads_our_checkpoint():
    """Whoever stops using a penalty need not convert anything."""
    model = model_of()
    optimizer = build(ProxAdam, {"lr": 0.01}, L1(0.05), model)
    train(model, optimizer, 5)
    plain = torch.optim.Adam([{"params": [model.weight]}, {"params": [model.bias]}], lr=0.5)
    plain.load_state_dict(saved(optimizer.state_dict()))
    assert plain.param_groups[0]["lr"] == 0.01
    train(model, plain, 1, first=5)


BAD = [
    ({"name": "L3", "strength": 0.1}, "name of the penalty is 'L3'; accepted are .*ElasticNet"),
    ({"name": "L1", "strength": -0.1}, r"strength is -0\.1"),
    ({"name": "L1"}, "L1 was given no strength"),
    ({"name": "L1", "strength": 0.1, "slope": 2}, "L1 was given slope"),
    ({"name": "GroupL1", "strength": 0.1, "dim": 4}, r"GroupL1 does not fit parameter 0: dim is 4"),
]


@pytest.mark.parametrize(("specification", "message"), BAD)
def test_a_checkpoint_with_a_penalty_that_is_none_is_refused_before_anything_changes(specification, message):
    model = model_of()
    optimizer = build(ProxAdam, {"lr": 0.01}, L1(0.05), model)
    train(model, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["penalty"] = specification
    state["param_groups"][0]["lr"] = 7.0
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, entries in before["state"].items():
        assert all(torch.equal(entries[name], after["state"][index][name]) for name in entries)


def test_groups_that_do_not_match_are_torchs_to_refuse():
    model = model_of()
    optimizer = build(ProxAdam, {}, L1(0.05), model)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**state, "param_groups": state["param_groups"][:1]})
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**state, "param_groups": [*state["param_groups"], state["param_groups"][0]]})


def test_a_saved_state_is_not_changed_by_a_lambda_that_changes_later():
    model = model_of()
    optimizer = build(ProxSGD, {"lr": 0.1}, L1(0.05), model)
    state = optimizer.state_dict()
    optimizer.param_groups[0]["penalty"]["strength"] = 0.5
    assert state["param_groups"][0]["penalty"]["strength"] == 0.05
    optimizer.load_state_dict(state)
    optimizer.param_groups[0]["penalty"]["strength"] = 0.7
    assert state["param_groups"][0]["penalty"]["strength"] == 0.05


def test_an_older_pickle_without_penalties_has_none():
    model = model_of()
    optimizer = ProxAdam(model.parameters())
    state = optimizer.__getstate__()
    for group in state["param_groups"]:
        del group["penalty"]
    optimizer.__setstate__(state)
    assert [group["penalty"] for group in optimizer.param_groups] == [None]


# Groups and their penalties


def test_each_group_has_a_penalty_of_its_own():
    weights = [torch.nn.Parameter(torch.full((3,), 1.0)) for _ in range(4)]
    optimizer = ProxSGD(
        [
            {"params": [weights[0]]},
            {"params": [weights[1]], "penalty": L1(0.3)},
            {"params": [weights[2]], "penalty": None},
            {"params": [weights[3]], "penalty": {"name": "L1", "strength": 0.2}},
        ],
        lr=1.0,
        penalty=L1(0.1),
    )
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(
        torch.stack([weight[0].detach() for weight in weights]), torch.tensor([0.9, 0.7, 1.0, 0.8])
    )


def test_a_group_that_is_added_has_the_optimisers_penalty_or_its_own():
    first, second, third = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    optimizer = ProxSGD([first], lr=1.0, penalty=L1(0.1))
    optimizer.add_param_group({"params": [second]})
    optimizer.add_param_group({"params": third, "penalty": L1(0.2), "lr": 0.5})
    for weight in (first, second, third):
        weight.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(torch.stack([w[0].detach() for w in (first, second, third)]), torch.tensor([0.9] * 3))
    optimizer.param_groups[0]["penalty"]["strength"] = 5.0
    assert optimizer.param_groups[1]["penalty"]["strength"] == 0.1


@pytest.mark.parametrize(
    ("penalty", "error", "message"),
    [
        (0.1, TypeError, r"penalty is 0\.1; accepted is a nonsmooth\.penalties\.Penalty"),
        ({"name": "L9", "strength": 1.0}, ValueError, "name of the penalty is 'L9'"),
        (GroupL1(0.1, dim=3), ValueError, "GroupL1 does not fit parameter 0: dim is 3"),
        (L1(0.1, weights=torch.ones(4)), ValueError, r"L1 does not fit parameter 0: weights has shape \(4,\)"),
    ],
)
def test_a_group_that_is_refused_is_not_there(penalty, error, message):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([torch.nn.Parameter(torch.ones(3))], lr=1.0, penalty=L1(0.1))
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [weight], "penalty": penalty})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [weight]})
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group["penalty"].update(strength=0.5),
        lambda group: group.update(penalty={"name": "L1", "strength": 0.5}),
        lambda group: group.update(penalty=L1(0.5)),
    ],
    ids=["number", "specification", "penalty"],
)
def test_a_new_lambda_takes_effect_at_the_next_step(change):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([weight], lr=1.0, penalty=L1(0.1))
    weight.grad = torch.zeros(3)
    optimizer.step()
    change(optimizer.param_groups[0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.4))
    restored = saved(optimizer.state_dict())
    assert restored["param_groups"][0]["penalty"].items() <= L1(0.5).specification().items()


def test_a_penalty_put_into_a_group_can_be_saved_before_it_is_used():
    optimizer = ProxSGD([torch.nn.Parameter(torch.ones(3))], lr=1.0, penalty=L1(0.1))
    optimizer.param_groups[0]["penalty"] = MCP(0.2)
    assert saved(optimizer.state_dict())["param_groups"][0]["penalty"] == MCP(0.2).specification()


def test_a_tensor_of_strengths_that_changes_in_place_takes_effect():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([weight], lr=1.0, penalty=L1(torch.tensor([0.1, 0.0, 0.2])))
    weight.grad = torch.zeros(3)
    optimizer.step()
    optimizer.param_groups[0]["penalty"]["strength"].mul_(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.7, 1.0, 0.4]))


def test_the_penalty_can_be_switched_off_and_on():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([weight], lr=1.0, penalty=TransformedL1(0.1))
    weight.grad = torch.zeros(3)
    optimizer.param_groups[0]["penalty"]["strength"] = 0
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3))
    optimizer.param_groups[0]["penalty"]["strength"] = 0.1
    optimizer.step()
    assert bool((weight < 1).all())


def test_a_penalty_is_shown_where_torch_shows_options():
    text = repr(ProxSGD([torch.nn.Parameter(torch.ones(3))], lr=1.0, penalty=L1(0.1)))
    assert text.startswith("ProxSGD (")
    assert "'strength': 0.1" in text


EARLIER = torch.load(Path(__file__).parent / "states" / "before_kernels.pt", weights_only=True)
"""By optimizer: the state after four steps that an earlier version wrote, and the step that it took next."""


@pytest.mark.parametrize("name", EARLIER)
def test_a_checkpoint_of_an_earlier_version_goes_on_as_there(name):
    found = EARLIER[name]
    weight = torch.nn.Parameter(found["weight"].clone())
    penalty = L1(9.0) if name.startswith("Steady") else GroupL1(9.0)
    optimizer = getattr(nonsmooth.optim, name)([weight], penalty=penalty, **found["options"])
    optimizer.load_state_dict(found["state"])
    weight.grad = found["grad"]
    optimizer.step()
    torch.testing.assert_close(weight.detach(), found["after"], rtol=1e-6, atol=1e-6)
    assert not torch.equal(found["after"], found["weight"])
