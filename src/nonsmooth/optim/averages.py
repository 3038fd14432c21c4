"""Averages of the weights along a run that are as sparse as the solution they average around.

An average of sparse iterates is dense: a weight that left zero once in a thousand steps is not zero in it. And the prox
with the optimiser's step does not mend that: under gradient noise of size σ such a weight is of size ασ²/λ, the
threshold αλ. What tells the zeros apart is how the penalty pulled. In a stationary run the mean of the loss's gradient
and the mean of the penalty's subgradient at the iterates, V, add up to zero, so V estimates -∇f: where the solution is
not zero the pull never changes, |V| = λ, and where it is zero, |V| = |∇f| < λ. So the prox that decides is that of the
optimality condition w = prox_s(w - s∇f(w)), at the average, with V for -∇f and for s all the steps averaged over.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
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


class _Training:
    """The optimiser of a run, which a copy of its average shares: the average is copied, the training is not."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def __deepcopy__(self, memo: dict[int, Any]) -> _Training:
        return self


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
        self._training, self._decay, self._groups = _Training(optimizer), decay, chosen
        uniform = unit_step_of(type(optimizer)) is sgd_step
        for index, parameter in enumerate(model.parameters()):
            if index in chosen:
                shape = () if uniform else parameter.shape
                self.register_buffer(f"step_{index}", parameter.detach().new_zeros(shape))
                self.register_buffer(f"pull_{index}", torch.zeros_like(parameter, requires_grad=False))

    def _penalised(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Any], int]]:
        """Mean step and mean pull, the optimiser's group and the number of each penalised parameter."""
        for index, group in self._groups.items():
            step, pull = getattr(self, f"step_{index}"), getattr(self, f"pull_{index}")
            yield step, pull, self._training.optimizer.param_groups[group], index

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights as they are now.

        Args:
            model: the network in training.
        """
        count = int(self.n_averaged)
        weight = 1 / (count + 1) if self._decay is None or count == 0 else 1 - self._decay
        super().update_parameters(model)
        parameters, optimizer = list(model.parameters()), self._training.optimizer
        for mean, pull, group, index in self._penalised():
            parameter = parameters[index]
            pull.lerp_(from_specification(group["penalty"]).subgradient(parameter).to(pull.dtype), weight)
            state = optimizer.state.get(parameter, {})
            if state or mean.ndim == 0:  # an adaptive optimiser that has not moved a parameter has no step for it yet
                step = unit_step_of(type(optimizer))(group, state)
                step = step() if isinstance(step, AdaptiveStep) else torch.as_tensor(step, device=mean.device)
                mean.lerp_(step.to(mean.dtype), weight)

    @torch.no_grad()
    def sparse(self) -> nn.Module:
        """A copy of the averaged network in which the weights that the prox sets to zero are zero.

        The others keep their average. Averages over too few steps to tell are left as they are: with the pull of a
        single step, no weight that is not zero is set to zero.
        """
        model: nn.Module = copy.deepcopy(self.module)
        parameters, count = list(model.parameters()), float(self.n_averaged)
        if self._decay is not None:
            count = min(count, 1 / (1 - self._decay))
        for mean, pull, group, index in self._penalised():
            penalty = from_specification(group["penalty"])
            if not is_off(penalty):
                parameter, step = parameters[index], mean * count
                forward = parameter + (step * pull if not step.is_complex() else _by_parts(step, pull))
                parameter.masked_fill_(penalty.proximal_map(forward, step) == 0, 0)
        return model


def _by_parts(step: Tensor, pull: Tensor) -> Tensor:
    """The product of real parts and of imaginary parts, as the steps of adaptive optimisers for complex weights are."""
    return torch.view_as_complex(torch.view_as_real(step) * torch.view_as_real(pull))
