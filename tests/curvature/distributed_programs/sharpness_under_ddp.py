"""Sharpness on two processes that see half the data each, and how a DDP run goes on after it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from nonsmooth.curvature import evaluate_point, optimizer_sharpness, sharpness

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "optim" / "distributed_programs"))

from processes import take_part


def training(rank, *, measured):
    """Some steps of DDP, with a measurement after each or without; the model, its loss, what was measured."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(40, 6).double(), torch.randint(3, (40,))
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    half = slice(20 * rank, 20 * (rank + 1))

    def loss():
        return functional.cross_entropy(wrapped(inputs[half]), targets[half])

    found = {}
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if measured:
            for method in ("double backward", "finite differences"):
                read = optimizer_sharpness(
                    optimizer, loss, mode="eval", method=method, tolerance=1e-8, max_products=100
                )
                found[method] = read.sharpness.value
            found["gradient"] = float(evaluate_point(loss, wrapped.parameters(), mode="eval").gradient.norm())
    whole = lambda: functional.cross_entropy(model(inputs), targets)  # noqa: E731
    alone = sharpness(whole, model.parameters(), mode="eval", tolerance=1e-8, max_products=100)
    found["whole"] = alone.value
    found["whole gradient"] = float(evaluate_point(whole, model.parameters(), mode="eval").gradient.norm())
    return found, [*model.parameters(), *model.buffers()]


def main(rank, folder):
    del folder
    found, weights = training(rank, measured=True)
    same = all(torch.equal(a, b) for a, b in zip(weights, training(rank, measured=False)[1], strict=True))
    flags = [torch.tensor(False) for _ in range(2)]
    torch.distributed.all_gather(flags, torch.tensor(same))
    return {**found, "same bits": [bool(flag) for flag in flags]}


if __name__ == "__main__":
    take_part(main)
