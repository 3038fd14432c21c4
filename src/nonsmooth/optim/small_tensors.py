"""Small parameters side by side as one: the prox of all of them takes little more time than that of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nonsmooth.optim.local_prox import Held, local_prox_, zeros_of
from nonsmooth.optim.target_state import SPARED
from nonsmooth.penalties import Penalty
from nonsmooth.torch_optimizers import AdaptiveStep, Group, Rule, State

SMALL = 1 << 14
"""Up to so many coordinates a parameter's prox takes no longer than to call its operations."""

Moving = tuple[Any, Penalty, Tensor]
"""A parameter that is about to move, with its group and its penalty."""


class Bundle:
    """Parameters of a group that have taken equally many steps.

    Args:
        rule: of the optimizer.
        group: the parameters'.
        penalty: λR, a sum of one function of each coordinate.
        parameters: real, of one dtype, on one device.
    """

    def __init__(self, rule: Rule, group: Group, penalty: Penalty, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self._rule, self._group, self._penalty = rule, group, penalty
        self._at_zero: Held | None = None

    def look(self) -> None:
        """Note which weights are 0."""
        self._at_zero = zeros_of(self._penalty, _side_by_side(self.parameters), whole=False)

    def take_prox(self, states: Mapping[Tensor, State]) -> None:
        """Overwrite the parameters, which the optimizer has just moved, by their prox."""
        together, own = _side_by_side(self.parameters), [states[parameter] for parameter in self.parameters]
        step = self._rule.step(self._group, own[0])
        if isinstance(step, AdaptiveStep):
            square = _side_by_side([self._rule.square(self._group, state) for state in own])
            means = [self._rule.mean(self._group, state) for state in own]
            mean = None if step.mean is None else _side_by_side(means)
            step = dataclasses.replace(step, square=square, mean=mean)
        local_prox_(self._penalty, together, step, self._at_zero)
        parts = torch.split(together, [parameter.numel() for parameter in self.parameters])
        targets = [parameter.detach() for parameter in self.parameters]
        torch._foreach_copy_(targets, [part.view(target.shape) for part, target in zip(parts, targets, strict=True)])


def bundled(rule: Rule, moving: list[Moving], states: Mapping[Tensor, State]) -> tuple[list[Bundle], list[Moving]]:
    """Bundles of what can lie side by side, and what cannot.

    Args:
        rule: of the optimizer.
        moving: parameters that are about to move.
        states: of the parameters, before the step.
    """
    found: dict[Any, list[Moving]] = {}
    rest: list[Moving] = []
    for group, penalty, parameter in moving:
        counts = [states.get(parameter, {}).get(name, 0.0) for name in ("step", "mu_product")] if rule.adaptive else []
        if not _is_small(group, penalty, parameter, counts):
            rest.append((group, penalty, parameter))
            continue
        key = (id(group), parameter.dtype, parameter.device, *map(float, counts))
        found.setdefault(key, []).append((group, penalty, parameter))
    rest += [each for together in found.values() if len(together) == 1 for each in together]
    bundles = [
        Bundle(rule, together[0][0], together[0][1], [parameter for *_, parameter in together])
        for together in found.values()
        if len(together) > 1
    ]
    return bundles, rest


def _is_small(group: Group, penalty: Penalty, parameter: Tensor, counts: list[Any]) -> bool:
    by_coordinate = any(isinstance(value, Tensor) and value.ndim for value in vars(penalty).values())
    plain = not parameter.is_complex() and not hasattr(parameter, "device_mesh") and parameter.numel() <= SMALL
    on_host = all(not isinstance(count, Tensor) or count.device.type == "cpu" for count in counts)
    uniform = penalty.separable and not by_coordinate and not group.get("differentiable", False)
    return uniform and plain and on_host and group.get(SPARED) is None


def _side_by_side(tensors: list[Any]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
