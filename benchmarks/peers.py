"""Other people's ways to an L1 penalty, each behind the two calls of an optimiser: made from parameters, then `step`.

Each maker takes the parameters, or groups of them, a step size α and λ. λ may be a tensor that broadcasts against the
parameters. The gradients that a step finds are those of the loss without its penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SoftshrinkAfter:
    """What people write by hand: the optimiser's step, then softshrink(w, α·λ)."""

    def __init__(self, optimiser: torch.optim.Optimizer, strength: float | Tensor) -> None:
        self._optimiser, self._strength = optimiser, strength
        self.param_groups = optimiser.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        self._optimiser.step()
        for group in self._optimiser.param_groups:
            for parameter in group["params"]:
                threshold = torch.as_tensor(group["lr"] * self._strength, dtype=parameter.dtype)
                parameter.sub_(torch.clamp(parameter, -threshold, threshold))


class PenaltyInLoss:
    """λ·w.abs().sum() added to the loss, as autograd differentiates it: λ·sign(w) added to the gradient."""

    def __init__(self, optimiser: torch.optim.Optimizer, strength: float | Tensor) -> None:
        self._optimiser, self._strength = optimiser, strength
        self.param_groups = optimiser.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        for group in self._optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.grad + self._strength * parameter.sign()
        self._optimiser.step()


def sgd(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Torch's SGD."""
    return torch.optim.SGD(parameters, lr=lr)


def momentum(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Torch's SGD with momentum 0.9."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def adam(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Torch's Adam."""
    return torch.optim.Adam(parameters, lr=lr)


def softshrink_after(base: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of `SoftshrinkAfter`."""
    return lambda parameters, lr, strength: SoftshrinkAfter(base(parameters, lr), strength)


def penalty_in_loss(base: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of `PenaltyInLoss`."""
    return lambda parameters, lr, strength: PenaltyInLoss(base(parameters, lr), strength)


def prune_optimizer(base: Callable[..., Any], prox: str = "ProxLasso", groups: str = "ElemGrouper"):
    """A maker of torchao's `PruneOptimizer` (prototype.pat) around an optimiser."""

    def make(parameters: list[Tensor], lr: float, strength: float | Tensor) -> Any:
        from torchao.prototype.pat.optim import PruneOptimizer  # noqa: PLC0415 - an extra

        own = {"prox_type": prox, "group_type": groups, "reg_lambda": strength}
        given = parameters if isinstance(parameters[0], dict) else [{"params": parameters}]
        return PruneOptimizer(base([{**group, **own} for group in given], lr))

    return make


def ftrl(steps: int = 1):
    """A maker of pytorch_optimizer's FTRL, its `lambda_1` set to λ times a number of steps.

    FTRL compares λ₁ with the *sum* of the gradients. λ₁ = λ is thus λ/t after t steps, and λ₁ = λ·T is right at step T
    and at no other.
    """

    def make(parameters: list[Tensor], lr: float, strength: float | Tensor) -> Any:
        from pytorch_optimizer import FTRL  # noqa: PLC0415 - an extra

        optimiser = FTRL(parameters, lr=lr, foreach=False)
        for group in optimiser.param_groups:
            group["lambda_1"] = strength * steps
        return optimiser

    return make
