"""Any optimiser in the form of torch.optim as an update rule for `iterate`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.dynamics.recording import State


class OptimizerRule:
    """An optimiser whose one parameter is the whole ensemble, of shape (instances, variants, features).

    At every step its gradient is that of the loss without the penalty, and the step size of each of its groups the one
    that `iterate` hands over. What the optimiser does to each coordinate alone it thus does to the runs of the ensemble
    one by one; what it takes over the whole parameter, it takes over all runs. It has memory: hand `iterate` a function
    that makes a new rule.

    Args:
        make: (parameters, step size) → the optimiser; called at the first step.
    """

    def __init__(self, make: Callable[[list[Tensor], float], Optimizer]) -> None:
        self._make = make
        self._optimizer: Optimizer | None = None
        self._parameter = torch.empty(0)
        self._step_size: tuple[Tensor, float] | None = None

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step.

        Raises:
            ValueError: the step size is not the same for all instances and variants.
        """
        rate = self._one(step_size)
        if self._optimizer is None:
            self._parameter = state.point.detach().clone()
            self._optimizer = self._make([self._parameter], rate)
        self._parameter.copy_(state.point)
        self._parameter.grad = state.evaluation.gradient.expand_as(self._parameter)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return self._parameter.clone()

    def _one(self, step_size: Tensor) -> float:
        """The step size as a number; looked at again only when `iterate` changes it."""
        if self._step_size is None or self._step_size[0] is not step_size:
            smallest, largest = float(step_size.min()), float(step_size.max())
            if smallest != largest:
                raise ValueError(
                    f"step_size is from {smallest:g} to {largest:g}; an optimiser of torch has one for all instances "
                    "and variants"
                )
            self._step_size = step_size, largest
        return self._step_size[1]
