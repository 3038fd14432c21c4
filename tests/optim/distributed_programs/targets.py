"""Train with a sparsity target on two processes by FSDP2, stop and resume, and compare with one process."""

from __future__ import annotations

import warnings

import torch
from processes import take_part
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import nonsmooth as ns

RUNS = {
    "adam-l1": (ns.ProxAdam, {}, ns.L1(1.0), 0.8),
    "steady-l1": (ns.SteadyAdam, {}, ns.L1(1.0), 0.8),
    "sgd-rows": (ns.ProxSGD, {"momentum": 0.9}, ns.GroupL1(1.0), 0.4),
    "sgd-columns": (ns.ProxSGD, {"momentum": 0.9}, ns.GroupL1(1.0, dim=1), 0.4),
    "sgd-nuclear": (ns.ProxSGD, {"momentum": 0.9}, ns.Nuclear(1.0), 0.4),
}
STEPS = 60


def trained(run, mesh=None, resume_at=None):
    """The share of zeros at the end, and the whole weights."""
    kind, options, penalty, sparsity = RUNS[run]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 20, generator=generator)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 31), nn.ReLU(), nn.Linear(31, 2))  # 31 rows, of which one process has 15
    if mesh is not None:
        fully_shard(model, mesh=mesh)
        inputs, labels = inputs[mesh.get_local_rank() :: 2], labels[mesh.get_local_rank() :: 2]

    def begin():
        optimizer = kind(ns.penalize(model, penalty), lr=0.01, **options)
        return optimizer, ns.SparsityTarget(optimizer, sparsity, STEPS)

    optimizer, target = begin()
    for step in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        if step == resume_at:
            state = get_optimizer_state_dict(model, optimizer)
            optimizer, target = begin()
            set_optimizer_state_dict(model, optimizer, state)
    return target.share, [p.detach().full_tensor() if mesh else p.detach() for p in model.parameters()]


def furthest(first, second):
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def main(rank, folder):
    warnings.simplefilter("ignore")
    mesh, report = init_device_mesh("cpu", (2,)), {}
    for run in RUNS:
        share, weights = trained(run, mesh)
        alone, expected = trained(run)
        report[run] = {
            "shares": [share, alone],
            "difference": furthest(weights, expected),
            "same_zeros": all(torch.equal(a == 0, b == 0) for a, b in zip(weights, expected, strict=True)),
            "resumed": [furthest(weights, trained(run, mesh, stop)[1]) for stop in (10, 45)],
        }
    return report


if __name__ == "__main__":
    take_part(main)
