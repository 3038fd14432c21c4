"""A step never makes the host wait for the device: shown where a device's values do not exist at all.

Tensors on torch's `meta` device have a shape and no values, so that reading one (`.item()`, `bool`, `nonzero`, a copy
to the host) raises, and they take the paths that accelerators take. What this cannot show is what a kernel of an
accelerator does inside.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdam,
    SteadyRMSprop,
    SteadySGD,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, SparseGroupL1, TransformedL1

CASES = [
    (ProxSGD, {"lr": 0.1}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    (ProxAdam, {}),
    (ProxAdam, {"amsgrad": True, "foreach": True}),
    (ProxAdam, {"capturable": True}),
    (ProxAdam, {"capturable": True, "foreach": True, "amsgrad": True}),
    (ProxAdamW, {"capturable": True}),
    (ProxNAdam, {}),
    (ProxNAdam, {"capturable": True, "foreach": True}),
    (ProxRMSprop, {"centered": True, "momentum": 0.5}),
    (ProxRMSprop, {"capturable": True}),
    (ProxAdagrad, {"lr_decay": 0.1}),
    (SteadySGD, {"lr": 0.1}),
    (SteadySGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SteadyAdam, {"capturable": True}),
    (SteadyRMSprop, {"capturable": True, "centered": True}),
]
STEADY = (SteadySGD, SteadyAdam, SteadyRMSprop)
PENALTIES = [
    L1(0.1),
    L1(0.1, weights=torch.ones(5)),
    L1(torch.full((6, 5), 0.1)),
    ElasticNet(0.1),
    GroupL1(0.1),
    SparseGroupL1(0.1),
    TransformedL1(0.1),
    MCP(0.1),
    SCAD(0.1),
    L0(0.1),
]


@pytest.fixture(autouse=True)
def capturable_without_a_device(monkeypatch):
    """Torch lets `capturable` through on devices that can capture only; `meta` is to stand for one."""
    for name in ("adam", "nadam", "rmsprop"):
        module = importlib.import_module(f"torch.optim.{name}")
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["meta"])


@pytest.fixture(autouse=True)
def numbers_stay_on_the_host(monkeypatch):
    """A number that becomes a tensor on a device is copied there, below what a dispatch mode sees."""

    def watched(name):
        original = getattr(torch, name)

        def make(data, *arguments, **options):
            device = torch.device(options.get("device") or "cpu")
            assert device.type == "cpu" or isinstance(data, torch.Tensor), f"torch.{name}({data!r}, {options})"
            return original(data, *arguments, **options)

        monkeypatch.setattr(torch, name, make)

    watched("as_tensor")
    watched("tensor")


class Transfers(TorchDispatchMode):
    """The operations that copy from one device to another."""

    def __init__(self):
        super().__init__()
        self.found, self.seen = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        del types
        result = operation(*args, **(kwargs or {}))
        self.seen += 1
        if "copy" in str(operation):
            before = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
            after = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
            if len(before | after) > 1:
                self.found.append(str(operation))
        return result


def made(kind, weight, penalty, options):
    """An optimizer; a steady one accepts sums over coordinates with a slope at zero only."""
    if kind in STEADY and isinstance(penalty, L0 | GroupL1 | SparseGroupL1):
        with pytest.raises(ValueError, match="penalty is"):
            kind([weight], penalty=penalty, **options)
        penalty = L1(0.1)
    return kind([weight], penalty=penalty, **options)


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_step_reads_no_value_and_copies_nothing_to_or_from_the_device(kind, options, penalty):
    weight = torch.nn.Parameter(torch.empty(6, 5, device="meta"))
    optimizer = made(kind, weight, penalty, options)
    weight.grad = torch.empty(6, 5, device="meta")
    optimizer.step()  # the first one brings the penalty's tensors over
    with Transfers() as transfers:
        optimizer.step()
    assert transfers.seen > 2
    assert transfers.found == []


@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[4]])
def test_groups_by_index_read_no_value_of_the_device(kind, options):
    weight = torch.nn.Parameter(torch.empty(6, 5, device="meta"))
    optimizer = kind([weight], penalty=GroupL1(0.1, index=torch.arange(30) // 4), **options)
    weight.grad = torch.empty(6, 5, device="meta")
    for _ in range(2):
        optimizer.step()


def test_what_is_looked_for_would_be_found():
    weight = torch.nn.Parameter(torch.empty(6, 5, device="meta"))
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        float(weight.detach().sum())
    with Transfers() as transfers:
        torch.ones(3).to("meta")
    assert len(transfers.found) == 1


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_nor_does_the_prox_after_a_fused_step_that_may_have_overflowed(kind, options, penalty):
    """Torch has no fused kernels for this device, so the prox alone is called, with what GradScaler hands over."""
    weight = torch.nn.Parameter(torch.empty(6, 5, device="meta"))
    optimizer = made(kind, weight, penalty, options)
    weight.grad = torch.empty(6, 5, device="meta")
    optimizer.step()
    optimizer.found_inf = torch.empty((), device="meta")
    if "pulls" in optimizer.state[weight]:
        optimizer.state[weight]["pulls"] = torch.empty((), device="meta")  # where a fused optimizer has it
    with Transfers() as transfers, torch.no_grad():
        optimizer._prox.before(optimizer)
        optimizer._prox.after(optimizer)
    assert transfers.seen > 2
    assert transfers.found == []


def test_a_number_that_would_be_copied_is_found():
    with pytest.raises(AssertionError, match="as_tensor"):
        torch.as_tensor(0.1, device="meta")


@pytest.mark.parametrize(
    ("kind", "options", "place"),
    [
        (SteadySGD, {"lr": 0.1}, "meta"),
        (SteadyAdam, {"capturable": True}, "meta"),
        (SteadyAdam, {}, "cpu"),
        (SteadyRMSprop, {"momentum": 0.5}, "cpu"),
    ],
)
def test_what_a_graph_may_capture_is_counted_on_the_device(kind, options, place):
    """A count on the host would stand still while the graph is replayed."""
    weight = torch.nn.Parameter(torch.empty(6, 5, device="meta"))
    optimizer = kind([weight], penalty=L1(0.1), **options)
    weight.grad = torch.empty(6, 5, device="meta")
    optimizer.step()
    assert optimizer.state[weight]["pulls"].device.type == place
