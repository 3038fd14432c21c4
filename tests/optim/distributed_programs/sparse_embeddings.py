"""Train an embedding with sparse gradients on two processes by DDP, each of which reads rows of its own."""

from __future__ import annotations

import torch
from processes import take_part
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nonsmooth.optim import ProxAdagrad, ProxSGD
from nonsmooth.penalties import L1, GroupL1

PROCESSES, ROWS, STEPS = 2, 30, 20
OPTIMISERS = {"sgd": ProxSGD, "adagrad": ProxAdagrad}
PENALTIES = {"l1": lambda: L1(0.02), "rows": lambda: GroupL1(0.03)}


def trained(optimiser, penalty, rank=None):
    """The weights after the run of one process, or of one of several."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(ROWS, 3, sparse=rank is not None), nn.Tanh(), nn.Linear(3, 1)).double()
    weight = model[0].weight
    groups = [{"params": [weight], "penalty": PENALTIES[penalty]()}, {"params": list(model[2].parameters())}]
    optimizer = OPTIMISERS[optimiser](groups, lr=0.3)
    wrapped = model if rank is None else DistributedDataParallel(model)
    if rank is not None:
        optimizer.follow(wrapped)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        indices = torch.randint(0, ROWS, (8,), generator=generator)
        targets = torch.randn(8, 1, generator=generator, dtype=torch.float64)
        if rank is not None:
            indices, targets = (each.chunk(PROCESSES)[rank] for each in (indices, targets))
        optimizer.zero_grad()
        (wrapped(indices) - targets).square().mean().backward()
        optimizer.step()
    optimizer.catch_up()
    return weight.detach()


def main(rank, folder):
    del folder
    report = {}
    for optimiser in OPTIMISERS:
        for penalty in PENALTIES:
            expected, found = trained(optimiser, penalty), trained(optimiser, penalty, rank)
            report[f"{optimiser}-{penalty}"] = {
                "difference": float((found - expected).abs().max()),
                "zeros": int((expected == 0).sum()),
                "same_zeros": bool(torch.equal(found == 0, expected == 0)),
            }
    return report


if __name__ == "__main__":
    take_part(main)
