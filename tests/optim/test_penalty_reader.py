"""What an optimiser remembers of its penalties is no more than they are, however often they change."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.nn.parameter import is_lazy

from nonsmooth.optim import RDA, ProxAdam, ProxSGD, attach
from nonsmooth.optim.penalty_reader import PenaltyReader
from nonsmooth.penalties import L1, GroupL1


def alive(shape):
    gc.collect()
    tensors = (found for found in gc.get_objects() if isinstance(found, torch.Tensor) and not is_lazy(found))
    return sum(tensor.shape == shape for tensor in tensors)


SHAPE = (37, 41)


class Subclass(torch.optim.SGD):
    """Which `attach` gives hooks."""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (ProxAdam, True),
        *(
            pytest.param(kind, step, marks=pytest.mark.slow)
            for kind in (ProxSGD, ProxAdam, RDA, None)
            for step in (True, False)
            if (kind, step) != (ProxAdam, True)
        ),
    ],
)
def test_loading_again_and_again_keeps_nothing_of_what_was_loaded_before(kind, step):
    weight = torch.nn.Parameter(torch.randn(SHAPE))
    penalty = L1(0.1, weights=torch.ones(SHAPE))
    optimizer = attach(Subclass([weight], lr=0.1), penalty) if kind is None else kind([weight], lr=0.1, penalty=penalty)
    weight.grad = torch.zeros(SHAPE)
    optimizer.step()
    counts = []
    for _ in range(12):
        state = optimizer.state_dict()
        group = state["param_groups"][0]
        group["penalty"] = {**group["penalty"], "weights": group["penalty"]["weights"].clone()}
        optimizer.load_state_dict(state)
        del state, group
        if step:
            optimizer.step()
        else:
            optimizer.state_dict()
        counts.append(alive(SHAPE))
    if kind is None and not step:
        return  # a plain optimiser reads penalties at its steps only
    assert counts[-1] <= counts[2]


def test_a_lambda_that_is_scheduled_copies_the_weights_to_the_device_once():
    reader = PenaltyReader()
    group = {"penalty": L1(0.01, weights=torch.ones(SHAPE)).specification(), "params": []}
    copies = set()
    for number in range(50):
        group["penalty"]["strength"] = 0.01 + number * 1e-6
        copies.add(weakref.ref(reader(group).on(torch.device("meta")).weights))
    assert len(copies) == 1
    assert len(reader._bound) == 1


def test_weights_that_change_in_place_are_copied_anew():
    reader, weights = PenaltyReader(), torch.ones(3)
    group = {"penalty": L1(0.01, weights=weights).specification(), "params": []}
    first = reader(group).on(torch.device("meta"))
    assert reader(group).on(torch.device("meta")) is first
    weights.mul_(2)
    second = reader(group).on(torch.device("meta"))
    assert second is not first
    assert second.weights is not first.weights


def test_groups_that_are_gone_are_forgotten():
    reader = PenaltyReader()
    groups = [{"penalty": L1(0.1).specification(), "params": []} for _ in range(5)]
    for group in groups:
        reader(group)
    reader.active(groups[:2])
    assert len(reader._bound) == 2


@pytest.mark.parametrize("value", [[0, 0, 1], np.array([0, 0, 1]), [[0, 1], [2]]], ids=repr)
def test_a_list_or_an_array_put_there_by_hand_is_stored_as_numbers(value):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([weight], lr=0.1, penalty=GroupL1(0.1, index=torch.tensor([0, 1, 2])))
    optimizer.param_groups[0]["penalty"]["index"] = value
    optimizer.param_groups[0]["penalty"]["strength"] = np.float64(0.2)
    for _ in range(2):
        weight.grad = torch.zeros(3)
        optimizer.step()
    stored = optimizer.state_dict()["param_groups"][0]["penalty"]
    assert stored["index"].tolist() == [0, 0, 1]
    assert type(stored["strength"]) is float


def test_inference_tensors_have_no_version_and_are_read_all_the_same():
    with torch.inference_mode():
        weights = torch.ones(3)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProxSGD([weight], lr=0.1, penalty=L1(0.1, weights=weights))
    for _ in range(2):
        weight.grad = torch.zeros(3)
        optimizer.step()
    assert torch.allclose(weight.detach(), torch.full((3,), 0.98))
