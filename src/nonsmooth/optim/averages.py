"""Averages of the weights along a run that are as sparse as the weights themselves.

An average of sparse iterates is dense: a weight that left zero once in a thousand steps is not zero in it. Here the
prox decides again, with the step that the optimiser took on average, which weights are zero.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nonsmooth.optim.metric import AdaptiveStep, sgd_step, unit_step_of
from nonsmooth.optim.proximal_step import is_off
from nonsmooth.penalties import from_specification


def averaged(
    model: nn.Module, optimizer: Optimizer, *, decay: float | None = None, use_buffers: bool = False
) -> SparseAverage:
    """Keep an average of a model's weights that can be made sparse.

    Args:
        model: the network in training.
        optimizer: a proximal optimiser of its parameters.
        decay: of an exponential moving average (EMA), in [0, 1); None for the equal average of all updates (SWA).
        use_buffers: average the model's buffers as well.

    Returns:
        A `torch.optim.swa_utils.AveragedModel`; call its `update_parameters(model)` after steps, `sparse()` at the end.

    Raises:
        ValueError: the decay is outside [0, 1), or no parameter of the model has a penalty.
    """
    return SparseAverage(model, optimizer, decay=decay, use_buffers=use_buffers)


class SparseAverage(AveragedModel):
    """An average of weights, and of the steps in which the optimiser thresholded them.

    Args:
        model: the network in training.
        optimizer: a proximal optimiser of its parameters.
        decay: of an exponential moving average, in [0, 1); None for an equal average.
        use_buffers: average the model's buffers as well.

    Raises:
        ValueError: the decay is outside [0, 1), or no parameter of the model has a penalty.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, *, decay: float | None = None, use_buffers: bool = False
    ) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; accepted is a number in [0, 1), or None for an equal average")
        groups = {
            p: i for i, group in enumerate(optimizer.param_groups) if group.get("penalty") for p in group["params"]
        }
        chosen = {index: groups[p] for index, p in enumerate(model.parameters()) if p in groups}
        if not chosen:
            raise ValueError("optimizer has a penalty on no parameter of the model")
        average: Any = None if decay is None else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(model, multi_avg_fn=average, use_buffers=use_buffers)
        # Weakly, so that a copy of the average is not a copy of the training.
        self._optimizer, self._decay, self._groups = weakref.ref(optimizer), decay, chosen
        uniform = unit_step_of(type(optimizer)) is sgd_step
        for index, parameter in enumerate(model.parameters()):
            if index in chosen:
                shape = () if uniform else parameter.shape
                self.register_buffer(f"step_{index}", parameter.detach().new_zeros(shape))

    def _penalised(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        """The buffer of the mean step, the optimiser's group and the number of each penalised parameter."""
        optimizer = self._optimizer()
        if optimizer is None:
            raise RuntimeError("the optimizer that this average belongs to is gone; keep it as long as the average")
        for index, group in self._groups.items():
            yield f"step_{index}", optimizer.param_groups[group], index

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights as they are now.

        Args:
            model: the network in training.
        """
        count = int(self.n_averaged)
        weight = 1 / (count + 1) if self._decay is None or count == 0 else 1 - self._decay
        super().update_parameters(model)
        parameters, optimizer = list(model.parameters()), self._optimizer()
        for name, group, index in self._penalised():
            parameter, mean = parameters[index], getattr(self, name)
            state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            if state or mean.ndim == 0:  # an adaptive optimiser that has not moved a parameter has no step for it yet
                step = unit_step_of(type(optimizer))(group, state)  # type: ignore[arg-type]
                step = step() if isinstance(step, AdaptiveStep) else torch.as_tensor(step, device=mean.device)
                mean.lerp_(step.to(mean.dtype), weight)

    @torch.no_grad()
    def sparse(self) -> nn.Module:
        """A copy of the averaged network in which each weight that the prox sets to zero is zero.

        The other weights keep their average: it is one of weights that have been through the prox already, and a
        second shrinkage would put λ on them twice.
        """
        model: nn.Module = copy.deepcopy(self.module)
        parameters = list(model.parameters())
        for name, group, index in self._penalised():
            penalty = from_specification(group["penalty"])
            if not is_off(penalty):
                parameter = parameters[index]
                parameter.masked_fill_(penalty.proximal_map(parameter, getattr(self, name)) == 0, 0)
        return model
