"""Train small networks on two processes, by DDP and by FSDP2, and compare the weights with those of one process."""

from __future__ import annotations

import os
import warnings

import torch
import torch.distributed.checkpoint as dcp
from networks import OPTIMISERS, PENALTIES, STEPS, compared, penalised, task, train, trained_alone, whole_weights
from placements import shards
from processes import take_part
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from nonsmooth.optim import ProxSGD, certify
from nonsmooth.penalties import L1

PROCESSES = 2
FULL = os.environ.get("RUNS") == "full"
SAVED = ("l1-weighted", "sparse-group-index", "nuclear")
FEWER_STEPS = 5
FEWER = ("l1", "l1-weighted", "elastic-net", "group-rows", "group-columns", "sparse-group-index", "mcp", "nuclear")


def share(tensor, rank):
    return tensor.chunk(PROCESSES)[rank]


def by_ddp(rank):
    """DDP where both processes see the same batch, and where each sees its half."""
    report, penalties = {}, ("l1", "group-columns", "nuclear")
    for optimiser in ("sgd", "adam"):
        expected = trained_alone("mlp", optimiser, penalties)
        for batch in ("same", "halves"):
            model, inputs, targets = task("mlp", penalties)
            wrapped = DistributedDataParallel(model)
            if batch == "halves":
                inputs, targets = share(inputs, rank), share(targets, rank)
            train(wrapped, OPTIMISERS[optimiser](penalised(wrapped)), inputs, targets)
            report[f"{optimiser}-{batch}"] = compared(whole_weights(wrapped), expected)
    return report


def sharded(kind, optimiser, mesh, lam=0.1, penalties=tuple(PENALTIES)):
    """The task of one process of FSDP2: its network, optimiser, inputs and targets."""
    model, inputs, targets = task(kind, penalties)
    fully_shard(model, mesh=mesh)
    rank = mesh.get_local_rank()
    return model, OPTIMISERS[optimiser](penalised(model, lam)), share(inputs, rank), share(targets, rank)


def by_fsdp(rank, mesh):
    kinds = ("mlp", "conv")
    runs = [(kind, optimiser, STEPS, tuple(PENALTIES)) for kind in kinds for optimiser in OPTIMISERS]
    if not FULL:
        runs = [
            ("mlp", optimiser, STEPS if optimiser in ("sgd", "adam") else FEWER_STEPS, FEWER)
            for optimiser in OPTIMISERS
        ]
        runs.append(("conv", "adam", FEWER_STEPS, FEWER))
    report = {}
    for kind, optimiser, steps, penalties in runs:
        model, optimizer, inputs, targets = sharded(kind, optimiser, mesh, penalties=penalties)
        train(model, optimizer, inputs, targets, steps)
        found = whole_weights(model)
        if rank == 0:
            report[f"{kind}-{optimiser}-{steps}"] = compared(found, trained_alone(kind, optimiser, penalties, steps))
    return report


def initialised(mesh):
    """What asking for the state of an optimiser that has not stepped yet does to weights, by penalty."""
    report = {}
    for optimiser in ("sgd", "adam", "nadam", "rmsprop", "rda", "xrda"):
        model, optimizer, _, _ = sharded("mlp", optimiser, mesh, penalties=FEWER)
        before = whole_weights(model)
        get_optimizer_state_dict(model, optimizer)
        after = whole_weights(model)
        report[optimiser] = {
            penalty: max(float((after[n] - before[n]).abs().max()) for n in before if f".{penalty}." in n)
            for penalty in FEWER
        }
    return report


def written(specification):
    """A penalty's specification as something that JSON can hold."""
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in specification.items()}


def resumed(mesh, folder):
    """A run that is saved, loaded into new objects with another λ, and continued."""
    report = {}
    for optimiser, flat in (("sgd", False), ("adam", True)):
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        model, optimizer, inputs, targets = sharded("mlp", optimiser, mesh, penalties=SAVED)
        train(model, optimizer, inputs, targets, 3)
        place = folder / f"{optimiser}-{flat}"
        state = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
        }
        dcp.save(state, checkpoint_id=place)
        train(model, optimizer, inputs, targets, 3)
        expected = whole_weights(model)

        model, other, inputs, targets = sharded("mlp", optimiser, mesh, 0.7, SAVED)
        state = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, other, options=options),
        }
        dcp.load(state, checkpoint_id=place)
        set_model_state_dict(model, state["model"])
        set_optimizer_state_dict(model, other, state["optimizer"], options=options)
        train(model, other, inputs, targets, 3)
        found = whole_weights(model)
        report[f"{optimiser}-{'flat' if flat else 'nested'}"] = {
            "same_bits": all(torch.equal(found[name], expected[name]) for name in expected),
            "penalties": [written(group["penalty"]) for group in other.param_groups if group["penalty"]],
            "expected": [written(group["penalty"]) for group in optimizer.param_groups if group["penalty"]],
        }
    return report


def certified(mesh):
    """The certificate of a sharded network and of the same network in one process."""
    found = []
    model, optimizer, inputs, targets = sharded("mlp", "adamw", mesh, penalties=FEWER)
    train(model, optimizer, inputs, targets, 3)
    weights = whole_weights(model)
    alone, inputs, targets = task("mlp", FEWER)
    train(alone, lonely := OPTIMISERS["adamw"](penalised(alone)), inputs, targets, 3)
    for network, holder in ((model, optimizer), (alone, lonely)):

        def closure(network=network):
            loss = nn.functional.mse_loss(network(inputs), targets)
            loss.backward()
            return loss

        certificate = certify(holder, closure)
        found.append(
            {
                "objective": certificate.objective,
                "residuals": [tensor.residual for tensor in certificate.tensors],
                "zeros": certificate.zeros,
            }
        )
    unchanged = whole_weights(model)
    return {
        "sharded": found[0],
        "alone": found[1],
        "unchanged": all(torch.equal(weights[name], unchanged[name]) for name in weights),
    }


def bounded(mesh):
    """The duality gap of a sharded linear model and of the same model in one process."""
    found = []
    for alone in (False, True):
        torch.manual_seed(4)
        inputs, model = torch.randn(20, 5, dtype=torch.float64), nn.Linear(5, 3, bias=False).double()
        if not alone:
            fully_shard(model, mesh=mesh)
        optimizer = ProxSGD(model.parameters(), lr=0.1, penalty=L1(0.02))

        def closure(inputs=inputs, model=model):
            loss = (model(inputs) - inputs[:, :1]).square().mean()
            loss.backward()
            return loss

        for _ in range(10):
            optimizer.zero_grad()
            optimizer.step(closure)
        found.append(certify(optimizer, closure, quadratic=True).gap)
    return {"sharded": found[0], "alone": found[1]}


def main(rank, folder):
    warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its checkpoints
    mesh = init_device_mesh("cpu", (PROCESSES,))
    report = {"fsdp": by_fsdp(rank, mesh)}
    if not FULL:
        report |= {
            "ddp": by_ddp(rank),
            "initialised": initialised(mesh),
            "certified": certified(mesh),
            "bounded": bounded(mesh),
            "resumed": resumed(mesh, folder),
            "shards": shards((mesh,)),
        }
    return report


if __name__ == "__main__":
    take_part(main)
