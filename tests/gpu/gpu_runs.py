"""What the tests on a GPU share: combinations of optimizers and penalties, and training on made-up gradients."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from nonsmooth.optim import (
    ProxAdagrad,
    ProxAdam,
    ProxAdamW,
    ProxNAdam,
    ProxRMSprop,
    ProxSGD,
    SteadyAdagrad,
    SteadyAdam,
    SteadyAdamW,
    SteadyNAdam,
    SteadyRMSprop,
    SteadySGD,
)
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

SHAPES = ((70, 64), (16, 8, 3, 3), (33,), ())
"""Whole vectors and ragged ends; the last two are in a group of their own, without a penalty on norms."""

SEPARABLE = {
    "L1": L1(0.1),
    "weighted L1": L1(0.1, weights=torch.linspace(0.5, 2, 64)),
    "ElasticNet": ElasticNet(0.1, 0.4),
    "MCP": MCP(0.1),
    "SCAD": SCAD(0.1),
    "TransformedL1": TransformedL1(0.05),
}
JUMPING = {"L0": L0(0.02)}
GROUPS = {"GroupL1": GroupL1(0.05), "SparseGroupL1": SparseGroupL1(0.05)}
DECOMPOSED = {"Nuclear": Nuclear(0.05)}
PENALTIES = {**SEPARABLE, **JUMPING, **GROUPS, **DECOMPOSED}


@dataclass(frozen=True)
class Case:
    """An optimizer with options.

    Attributes:
        kind: its class.
        options: but for `fused`.
        fused: the options that make it the one or other implementation.
    """

    kind: type[torch.optim.Optimizer]
    options: dict[str, Any]
    fused: tuple[bool | None, ...] = (None, True, False)

    def __str__(self) -> str:
        """Its name among the tests."""
        return self.kind.__name__ + "".join(f"-{name}={value}" for name, value in self.options.items() if name != "lr")

    @property
    def eager(self) -> bool | None:
        """What `fused` has to be for the eager path, on a CPU."""
        return False if False in self.fused else None

    def takes(self, penalty: Any) -> bool:
        """Whether the optimizer accepts a penalty."""
        return not self.kind.__name__.startswith("Steady") or (penalty.separable and not isinstance(penalty, L0))


LOOPED = (None,)
"""What torch has no fused step for on a GPU, nor the option in every version."""

CASES = [
    Case(ProxSGD, {"lr": 0.1}),
    Case(ProxSGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case(ProxSGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    Case(ProxAdam, {"lr": 0.02}),
    Case(ProxAdam, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.1}),
    Case(ProxAdamW, {"lr": 0.02, "weight_decay": 0.1}),
    Case(ProxNAdam, {"lr": 0.02}, LOOPED),
    Case(ProxRMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}, LOOPED),
    Case(ProxAdagrad, {"lr": 0.1, "lr_decay": 0.01}, LOOPED),
    Case(SteadySGD, {"lr": 0.1, "momentum": 0.9}),
    Case(SteadyAdam, {"lr": 0.02}),
    Case(SteadyAdamW, {"lr": 0.02}),
    Case(SteadyNAdam, {"lr": 0.02}, LOOPED),
    Case(SteadyRMSprop, {"lr": 0.01}, LOOPED),
    Case(SteadyAdagrad, {"lr": 0.1}, LOOPED),
]

MAIN = [CASES[1], CASES[3], CASES[9], CASES[10]]
"""One of each kind of step."""


def drawn(shape, seed):
    """Numbers that are the same on every device, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(device, dtype, layout=lambda tensor: tensor):
    """Weights, some of them 0 and others small."""
    made = [drawn(shape, 1 + place) for place, shape in enumerate(SHAPES)]
    made[0][:5] *= 0.01
    made[0][5:8] = 0
    return [torch.nn.Parameter(layout(each.to(device, dtype))) for each in made]


def give_gradients(weights, step, scale=1.0):
    """Those of a quadratic loss, and noise."""
    for place, weight in enumerate(weights):
        noise = 0.3 * drawn(weight.shape, 1000 * step + place).to(weight.device, weight.dtype)
        gradient = (0.5 * weight.detach() + noise) * scale
        if weight.grad is None:
            weight.grad = gradient
        else:
            weight.grad.copy_(gradient)


def groups_of(weights, penalty, device=None):
    """Matrices and filters with a penalty, what is left without one."""
    penalty = copy.deepcopy(penalty)
    if device is not None:
        object.__setattr__(penalty, "strength", torch.tensor(penalty.strength, device=device, dtype=torch.float64))
    matrices = [weight for weight in weights if weight.ndim > 1]
    if isinstance(penalty, Nuclear) or getattr(penalty, "weights", None) is not None:
        matrices = matrices[:1]
    others = [weight for weight in weights if not any(weight is each for each in matrices)]
    return [{"params": matrices, "penalty": penalty}, {"params": others, "penalty": None}]


def train(case, penalty, device, dtype, *, fused=None, steps=6, layout=lambda tensor: tensor):
    """Weights after some steps, in which λ and the step size change."""
    weights = parameters(device, dtype, layout)
    options = {**case.options, **({} if fused is None else {"fused": fused})}
    optimizer = case.kind(groups_of(weights, penalty), **options)
    for step in range(steps):
        give_gradients(weights, step)
        follow_schedules(optimizer)
        optimizer.step()
    return optimizer, weights


def follow_schedules(optimizer):
    """The next λ and step size."""
    for group in optimizer.param_groups:
        group["lr"] *= 0.97
        if group.get("penalty"):
            group["penalty"]["strength"] *= 1.05


def distance(some, others):
    """The largest difference of coordinates, in double precision on the host."""
    pairs = zip(some, others, strict=True)
    return max(float((a.detach().cpu().double() - b.detach().cpu().double()).abs().max()) for a, b in pairs)


def combinations(penalties, cases=CASES):
    """Every case, implementation and penalty that it accepts, for `pytest.mark.parametrize`."""
    return [
        pytest.param(case, fused, PENALTIES[name], id=f"{case}-fused={fused}-{name}")
        for case in cases
        for fused in case.fused
        for name in penalties
        if case.takes(PENALTIES[name])
    ]
