"""Networks with one branch for each penalty, so that one run trains under all of them."""

from __future__ import annotations

import torch
from torch import nn

from nonsmooth.optim import RDA, XRDA, ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD, SteadyAdam
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, Nuclear, SparseGroupL1

STEPS = 20


def by_coordinate(groups):
    """The groups, those under a penalty that is no sum over coordinates under the L1 norm instead."""
    return [
        {**group, "penalty": L1(0.1)} if group["penalty"] is not None and not group["penalty"].separable else group
        for group in groups
    ]


OPTIMISERS = {
    "sgd": lambda groups: ProxSGD(groups, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda groups: ProxAdam(groups, lr=0.03, amsgrad=True),
    "adamw": lambda groups: ProxAdamW(groups, lr=0.03, weight_decay=0.1),
    "nadam": lambda groups: ProxNAdam(groups, lr=0.03),
    "rmsprop": lambda groups: ProxRMSprop(groups, lr=0.01, centered=True, momentum=0.3),
    "adagrad": lambda groups: ProxAdagrad(groups, lr=0.1),
    "rda": lambda groups: RDA(groups, lr=0.03, centre="start"),
    "xrda": lambda groups: XRDA(groups, lr=0.05, amplification=3.0),
    "steady": lambda groups: SteadyAdam(by_coordinate(groups), lr=0.03),
}


def ramp(*shape):
    """Weights that differ from coordinate to coordinate."""
    count = torch.Size(shape).numel()
    return 0.5 + torch.arange(count, dtype=torch.float64).reshape(shape) / count


PENALTIES = {
    "l1": lambda shape, lam: L1(lam),
    "l1-weighted": lambda shape, lam: L1(lam, weights=ramp(*shape)),
    "l1-strength-by-row": lambda shape, lam: L1(lam * ramp(shape[0], *[1] * (len(shape) - 1)), weights=ramp(shape[-1])),
    "elastic-net": lambda shape, lam: ElasticNet(lam, 0.7),
    "group-rows": lambda shape, lam: GroupL1(2 * lam, dim=0),
    "group-rows-weighted": lambda shape, lam: GroupL1(4 * lam, dim=0, weights=ramp(shape[0])),
    "group-columns": lambda shape, lam: GroupL1(1.5 * lam, dim=1),
    "group-columns-weighted": lambda shape, lam: GroupL1(lam, dim=1, weights=ramp(shape[1])),
    "sparse-group-index": lambda shape, lam: SparseGroupL1(lam, 0.3, index=torch.arange(shape.numel()) % 3),
    "mcp": lambda shape, lam: MCP(lam, 20.0),
    "nuclear": lambda shape, lam: Nuclear(6 * lam),
}
SPLIT_GROUPS = ("group-columns", "group-columns-weighted", "sparse-group-index")

# On two processes a weight of 3 rows is split 2 + 1, one of 1 row 1 + 0.
BRANCHES = {
    "mlp": lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1)),
    "conv": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1)),
}
INPUTS = {"mlp": (5,), "conv": (2, 4, 4)}


class Branches(nn.Module):
    """The sum of small networks, one for each penalty."""

    def __init__(self, kind, penalties):
        super().__init__()
        self.branches = nn.ModuleDict({name: BRANCHES[kind]() for name in penalties})

    def forward(self, inputs):
        return torch.stack([branch(inputs) for branch in self.branches.values()]).sum(0)


def task(kind, penalties=tuple(PENALTIES)):
    """A network with its first weights, inputs and targets: the same in each process."""
    torch.manual_seed(1)
    model = Branches(kind, penalties).double()
    inputs = torch.randn(8, *INPUTS[kind], dtype=torch.float64)
    return model, inputs, 3 * inputs.flatten(1)[:, :1].sin() + inputs.flatten(1)[:, 1:2]


def penalised(model, lam=0.1):
    """A group for each weight, with the penalty of its branch, and one for the biases."""
    groups, biases = [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            biases.append(parameter)
        else:
            penalty = next(part for part in name.split(".") if part in PENALTIES)
            groups.append({"params": [parameter], "penalty": PENALTIES[penalty](parameter.shape, lam)})
    return [*groups, {"params": biases, "penalty": None}]


def train(model, optimizer, inputs, targets, steps=STEPS):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def trained_alone(kind, optimiser, penalties=tuple(PENALTIES), steps=STEPS):
    """The weights, by name, after the run in one process."""
    model, inputs, targets = task(kind, penalties)
    train(model, OPTIMISERS[optimiser](penalised(model)), inputs, targets, steps)
    return whole_weights(model)


def whole_weights(model):
    """The weights and biases by name; every process has to ask."""
    return {
        name.removeprefix("module."): p.detach().full_tensor() if hasattr(p, "full_tensor") else p.detach().clone()
        for name, p in model.named_parameters()
    }


def compared(found, expected):
    """By penalty: how far weights are from those expected, and what shows that the penalty did something."""
    report = {}
    for penalty in PENALTIES:
        mine = [name for name in expected if f".{penalty}." in name]
        if mine:
            weights = [expected[name] for name in mine if expected[name].ndim > 1]
            report[penalty] = {
                "difference": max(float((found[name] - expected[name]).abs().max()) for name in mine),
                "same_zeros": all(torch.equal(found[name] == 0, expected[name] == 0) for name in mine),
                "zeros": sum(int((weight == 0).sum()) for weight in weights),
                "rank": int(torch.linalg.matrix_rank(weights[0].flatten(1))),
                "weights": sum(weight.numel() for weight in weights),
            }
    return report
