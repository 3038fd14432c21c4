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
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nonsmooth.optim.embeddings.missed_steps import catch_up
from nonsmooth.optim.evaluation import unwrapped, whole
from nonsmooth.optim.parameter_groups import check_model, penalty_of
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.optim.prox_taken import takes_prox
from nonsmooth.optim.target_state import keeps_zeros
from nonsmooth.penalties import Penalty
from nonsmooth.penalties.names import written_name
from nonsmooth.torch_optimizers import AdaptiveStep, rule_of

MEMORY = ("step", "pull", "strength", "updates")
"""What is kept of each penalised parameter, in buffers by its number."""


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
        TypeError: not a model, or not an optimiser.
        ValueError: the decay is outside [0, 1), no parameter of the model has a penalty, or the optimiser takes no
            prox of it, or one in a metric that is not known.
    """
    return SparseAverage(model, optimizer, decay=decay, use_buffers=use_buffers)


class _Training:
    """The optimiser of a run, which a copy of its average shares: the average is copied, the training is not."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        check_model(model)
        self.optimizer = unwrapped(optimizer)
        self.parameters = list(model.parameters())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Training:
        return self

    def penalties(self) -> dict[int, tuple[dict[str, Any], Penalty]]:
        """The group and the penalty of each parameter that has one at present, by its number in the model."""
        present: dict[Tensor, tuple[dict[str, Any], Penalty]] = {
            parameter: (group, penalty)
            for group in self.optimizer.param_groups
            if (penalty := penalty_of(group)) is not None
            for parameter in group["params"]
        }
        return {index: present[p] for index, p in enumerate(self.parameters) if p in present}


class SparseAverage(AveragedModel):
    """An average of weights, and of the steps in which the optimiser thresholded them.

    Penalties may come, change in strength and go in the course of the run: what is remembered of a parameter are the
    updates at which it had one, of the kind that it has.

    Args:
        model: the network in training.
        optimizer: a proximal optimiser of its parameters.
        decay: of an exponential moving average, in [0, 1); None for an equal average.
        use_buffers: average the model's buffers as well.

    Raises:
        TypeError: not a model, or not an optimiser.
        ValueError: the decay is outside [0, 1), no parameter of the model has a penalty, or the optimiser takes no
            prox of it, or one in a metric that is not known.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, *, decay: float | None = None, use_buffers: bool = False
    ) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; accepted is a number in [0, 1), or None for an equal average")
        training = _Training(model, optimizer)
        if not training.penalties():
            raise ValueError("optimizer has a penalty on no parameter of the model")
        if not takes_prox(optimizer):
            raise ValueError(
                f"optimizer is a {type(training.optimizer).__name__} that takes no prox of the penalty in its groups, "
                "so none has pulled at the weights; accepted are optimisers of nonsmooth.optim, or attach(optimizer, "
                "None)"
            )
        average: Any = None if decay is None else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        catch_up(optimizer)
        super().__init__(model, multi_avg_fn=average, use_buffers=use_buffers)
        self._training, self._decay = training, decay
        self._uniform = not rule_of(type(training.optimizer)).adaptive
        self._kinds: dict[int, Any] = {}
        for index, (_, penalty) in training.penalties().items():
            self._begin(index, penalty)

    def _begin(self, index: int, penalty: Penalty) -> None:
        """Remember nothing yet of a parameter that has this penalty."""
        parameter = self._training.parameters[index].detach()
        strength = penalty.strength
        empty = torch.as_tensor(strength, dtype=None if isinstance(strength, Tensor) else torch.float64)
        self._kinds[index] = _kind(penalty)
        self.register_buffer(f"step_{index}", parameter.new_zeros(() if self._uniform else parameter.shape))
        self.register_buffer(f"pull_{index}", torch.zeros_like(parameter))
        self.register_buffer(f"strength_{index}", empty.detach().clone())
        self.register_buffer(f"updates_{index}", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights as they are now.

        Args:
            model: the network in training.
        """
        catch_up(self._training.optimizer)
        super().update_parameters(model)
        parameters, optimizer = list(model.parameters()), self._training.optimizer
        for index, (group, penalty) in self._training.penalties().items():
            if self._kinds.get(index) != _kind(penalty):
                self._begin(index, penalty)
            parameter, count = parameters[index], getattr(self, f"updates_{index}")
            mean, pull = getattr(self, f"step_{index}"), getattr(self, f"pull_{index}")
            weight = 1 / (int(count) + 1) if self._decay is None or int(count) == 0 else 1 - self._decay
            count += 1
            pull.lerp_(penalty.subgradient(parameter).to(pull.dtype), weight)
            strength = getattr(self, f"strength_{index}")
            strength.lerp_(torch.as_tensor(penalty.strength).to(strength), weight)
            state = optimizer.state.get(parameter, {})
            if state or mean.ndim == 0:  # an adaptive optimiser that has not moved a parameter has no step for it yet
                step = rule_of(type(optimizer)).step(group, state)
                step = (
                    _taken(step, penalty) if isinstance(step, AdaptiveStep) else torch.as_tensor(step).to(mean.device)
                )
                mean.lerp_(step.to(mean.dtype), weight)

    @torch.no_grad()
    def sparse(self) -> nn.Module:
        """A copy of the averaged network in which the weights that the prox sets to zero are zero.

        The others keep their average. Averages over too few steps to tell are left as they are: with the pull of a
        single step, no weight that is not zero is set to zero. A parameter without a penalty at present is left as
        well.
        """
        model: nn.Module = copy.deepcopy(self.module)
        parameters = list(model.parameters())
        for index, (group, present) in self._training.penalties().items():
            if keeps_zeros(self._training.optimizer, group):
                # λ is 0, so no pull tells; what stays zero is so in the weights themselves.
                present.zero_keeper(whole(self._training.parameters[index].detach()))(parameters[index])
                continue
            count = float(getattr(self, f"updates_{index}", 0))
            if is_off(present) or count == 0 or self._kinds[index] != _kind(present):
                continue
            if self._decay is not None:
                count = min(count, 1 / (1 - self._decay))
            # Pulls add up under the λ of their time, so they are compared with its mean.
            strength = getattr(self, f"strength_{index}")
            penalty = replace(present, strength=strength if isinstance(present.strength, Tensor) else float(strength))  # type: ignore[type-var]
            parameter, step = parameters[index], getattr(self, f"step_{index}") * count
            pull = getattr(self, f"pull_{index}")
            forward = parameter + (step * pull if not step.is_complex() else _by_parts(step, pull))
            parameter.masked_fill_(penalty.proximal_map(forward, step) == 0, 0)
        return model

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load what was saved; what is remembered of a parameter without a penalty at present is dropped."""
        present = self._training.penalties()
        saved = {int(key.removeprefix(f"{prefix}step_")) for key in state_dict if key.startswith(f"{prefix}step_")}
        for index in saved - set(self._kinds):
            if index in present:
                self._begin(index, present[index][1])
            else:
                for name in MEMORY:
                    state_dict.pop(f"{prefix}{name}_{index}", None)
        for index in set(self._kinds) if saved else ():
            # Older states have no counts of their own, and one that had no penalty then nothing at all.
            count = state_dict.get(f"{prefix}n_averaged") if index in saved else torch.tensor(0)
            state_dict.setdefault(f"{prefix}updates_{index}", count)
            for name in MEMORY:
                state_dict.setdefault(f"{prefix}{name}_{index}", getattr(self, f"{name}_{index}"))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _kind(penalty: Penalty) -> tuple[str, tuple[int, ...]]:
    """What has to stay the same for a mean of pulls and of λ: the class, and the shape of λ."""
    return written_name(type(penalty)), tuple(getattr(penalty.strength, "shape", ()))


def _taken(step: AdaptiveStep, penalty: Penalty) -> Tensor:
    """D, but no more than the limit of the prox leaves of it: λα/ε in a first step would outweigh all others."""
    whole = step()
    limit = step.limit(whole)
    if limit is None:
        return whole
    parts = torch.view_as_real(whole) if whole.is_complex() else whole
    strength = torch.as_tensor(penalty.strength).to(parts)
    bounded = torch.minimum(
        parts, limit / (strength.unsqueeze(-1) if whole.is_complex() and strength.ndim else strength)
    )
    return torch.view_as_complex(bounded) if whole.is_complex() else bounded


def _by_parts(step: Tensor, pull: Tensor) -> Tensor:
    """The product of real parts and of imaginary parts, as the steps of adaptive optimisers for complex weights are."""
    return torch.view_as_complex(torch.view_as_real(step) * torch.view_as_real(pull))
