"""Proximal optimisers whose support keeps still under minibatch noise: a weight leaves zero only on its mean pull.

A proximal step decides each time anew whether a weight is zero, on the noise of one minibatch, and a smaller step does
not help: threshold and noise shrink together. Here a weight at zero remembers the mean of the gradients that pulled at
it, and leaves zero only where that mean exceeds λ; everywhere else the step is the proximal optimiser's own. The noise
of a mean of t gradients falls like 1/√t, and λ stays. Without noise the mean tends to the gradient, so that the fixed
points are those of the proximal optimiser: λ means the same number.

For the weights at zero this is dual averaging (Xiao 2009), in the metric of whichever optimiser, with a mean that
forgets (polynomial-decay averaging, Shamir & Zhang 2013), so that a weight may still come to life late.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from nonsmooth.optim.launch_operands import MEMORY, memory_of
from nonsmooth.optim.local_prox import lift_, local_prox_
from nonsmooth.optim.optimizers import Proximal
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.optim.proximal_step import Accepts, ProximalStep, States
from nonsmooth.penalties import Penalty, SeparablePenalty, from_specification
from nonsmooth.penalties.penalty import check_not_negative
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.torch_optimizers import AdaptiveStep, UnitStep, number
from nonsmooth.torch_optimizers.rules import WARM_UP

FORGETTING = 4.0
"""p: the t-th gradient has weight t^p in the mean, which so reaches back over about the last t/(p+1) steps."""


def _threshold_(
    penalty: Any, point: Tensor, step: UnitStep, at_zero: Tensor, pull: Tensor, count: Any, forgetting: Any
) -> None:
    """The update of `Steady` for one parameter, whose base step has been taken.

    Args:
        penalty: λR.
        point: z, which is overwritten by w.
        step: D.
        at_zero: where w was 0 before.
        pull: q, which is overwritten.
        count: t.
        forgetting: p.
    """
    zero = torch.zeros((), dtype=pull.dtype, device=pull.device)
    slope = penalty.magnitude_slope(zero, penalty.scaled_strength(zero))  # κ, a number or one per coordinate
    metric = step() if isinstance(step, AdaptiveStep) else tensor_like(step, pull)
    share = (forgetting + 1) / (count + forgetting)
    # A step of size 0, as in a warm-up, pulls at no weight.
    latest = point.to(pull.dtype) / metric.clamp(min=torch.finfo(pull.dtype).tiny)
    # λ may have changed since a weight that is not zero was given its λ.
    before = torch.where(at_zero, pull, slope * pull.sign())
    mean = before * (1 - share) + latest * share
    stopped = mean.abs() <= slope
    clipped = torch.clamp(mean, -slope, slope)
    lifted = None
    if isinstance(step, AdaptiveStep) and (limit := step.limit(metric)) is not None:
        # A weight that has crossed zero may stop there: that undoes no more than the step itself.
        lifted = at_zero | ((before * point < 0) & (count > WARM_UP))
        lift_(limit, lifted)
        beyond = stopped & (point.abs() > limit)
        stopped, clipped = stopped & ~beyond, torch.where(beyond, slope * point.sign(), clipped)
    pull.copy_(clipped)
    local_prox_(penalty, point, step, lifted)
    point.masked_fill_(stopped, 0)


class SteadyStep(ProximalStep):
    """The prox with a memory: the update of `Steady`."""

    steady = True
    overwrite = staticmethod(_threshold_)

    def before(self, optimizer: Optimizer, *, graphs: Accepts | None = None) -> None:
        """Check, and look at the weights that the optimizer is about to move.

        Raises:
            TypeError: as `check_before_step`.
            ValueError: as `check_before_step`, or an option of a steady optimizer is out of its range.
        """
        super().before(optimizer, graphs=graphs)
        for group, _ in [*self._active, *self.alone]:
            _check_options(group)

    def written(self, states: States) -> list[Tensor]:
        """The weights, and the memory of each."""
        memories = [memory_of(parameter, group, states[parameter]) for group, _, parameter in self._rest]
        return [*super().written(states), *(state[name] for state in memories for name in MEMORY)]

    def operands(
        self, group: Mapping[str, Any], penalty: Any, parameter: Tensor, state: dict[str, Any]
    ) -> tuple[Any, ...]:
        """What `overwrite` needs for a parameter; its memory counts one more pull.

        Args:
            group: the parameter's.
            penalty: λR.
            parameter: z, which is overwritten by w.
            state: the parameter's.
        """
        penalty, point, step, at_zero = super().operands(group, penalty, parameter, state)
        pull = memory_of(parameter, group, state)["pull"]
        state["pulls"] += 1
        if hasattr(parameter, "device_mesh"):  # a DTensor, of which this process holds a shard
            from nonsmooth.optim.distributed import on_this_process  # noqa: PLC0415  torch.distributed is slow to import

            penalty, point, step = on_this_process(penalty, point, step)
            pull = pull.to_local()
        return penalty, point, step, at_zero.bool(), pull, number(state["pulls"]), group["forgetting"]


class Steady(Proximal):
    """What makes a proximal optimiser steady, to stand before torch's among the bases of a class.

    With z what the optimiser's own step arrives at, D its metric, κ the penalty's slope at zero (λ for the L1 norm) and
    c = (p+1)/(t+p), step t is

    - q ← (1-c)·q + c·z/D, the mean pull, which for a weight that is not zero was κ·sign(w);
    - w ← 0 where |q| ≤ κ, elsewhere the prox of z, as without memory;
    - q ← q clipped to [-κ, κ], and κ·sign(w) for a weight that is not zero.

    So a weight that is not zero moves as without memory, but that it stops at zero where it would have crossed it, as
    soon as the memory is long enough for no single gradient to outweigh it, and 50 steps old in an adaptive one. The
    limit of the proximal version holds here too: a weight beyond it is not set to zero, but moved towards it as far as
    the limit goes.

    q is a buffer of a parameter's size, in at least float32. Where training goes on with other data, make a new
    optimiser: old gradients would hold weights at zero for as many steps again.

    Accepted are penalties that are sums over coordinates with a finite slope at zero (`L1`, `ElasticNet`, `MCP`,
    `SCAD`, `TransformedL1`), on real parameters.
    """

    proximal_step = SteadyStep

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = inspect.Parameter("forgetting", inspect.Parameter.KEYWORD_ONLY, default=FORGETTING, annotation="float")
        known = inspect.signature(cls)
        if own.name not in known.parameters:
            cls.__signature__ = known.replace(parameters=[*known.parameters.values(), own])  # type: ignore[attr-defined]

    def __init__(
        self,
        params: Any,
        *arguments: Any,
        penalty: Penalty | None = None,
        forgetting: float = FORGETTING,
        **options: Any,
    ) -> None:
        check_not_negative("forgetting", forgetting)
        self._default_forgetting = forgetting
        super().__init__(params, *arguments, penalty=penalty, **options)
        self.defaults["forgetting"] = forgetting

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; its `penalty` and `forgetting` are its own or else the optimiser's.

        Raises:
            TypeError: the penalty is none.
            ValueError: it is none that this optimiser accepts, or an option is out of its range.
        """
        if isinstance(param_group, dict):
            # While torch's constructor adds groups, `defaults` has torch's options only; a copy has nothing but these.
            default = self.defaults.get("forgetting", self.__dict__.get("_default_forgetting", FORGETTING))
            param_group = {"forgetting": default, **param_group}
        super().add_param_group(param_group)

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise unless the group's penalty has a threshold at zero for each coordinate, and its parameters are real.

        Raises:
            ValueError: they are not.
        """
        super().check_group(group)
        if group.get("penalty") is None:
            check_not_negative("forgetting", group["forgetting"])
            return
        penalty = from_specification(group["penalty"])
        if not isinstance(penalty, SeparablePenalty) or not _has_slope(penalty):
            raise ValueError(
                f"penalty is {type(penalty).__name__}; a steady optimiser accepts sums over coordinates with a finite "
                "slope at zero: L1, ElasticNet, MCP, SCAD, TransformedL1"
            )
        _check_options(group)
        for parameter in group["params"]:
            if parameter.is_complex():
                raise ValueError(f"a parameter has dtype {parameter.dtype}; a steady optimiser accepts real parameters")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; the mean pull keeps its precision, which may exceed the parameters'.

        Raises:
            ValueError: a penalty is not known or does not fit; nothing has been changed then.
        """
        loaded: dict[str, Any] = {}
        # Registered last, it sees what the hooks of others have made of the state.
        handle = self.register_load_state_dict_pre_hook(lambda _, given: loaded.update(given))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        numbers = chain.from_iterable(group["params"] for group in loaded["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for place, parameter in zip(numbers, parameters, strict=True):
            for name in set(MEMORY) & set(loaded["state"].get(place, {})):
                value = loaded["state"][place][name]
                self.state[parameter][name] = value.to(device=self.state[parameter][name].device, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("forgetting", self.defaults.get("forgetting", FORGETTING))


def _check_options(group: Mapping[str, Any]) -> None:
    check_not_negative("forgetting", group["forgetting"])
    if group.get("differentiable", False):
        raise ValueError("differentiable is True; a steady optimiser accepts False")


def _has_slope(penalty: SeparablePenalty) -> bool:
    """Whether the slope at zero is finite at every λ, that of a tensor which may change included."""
    zero = torch.zeros(())
    strength = penalty.strength if is_off(penalty) else 1.0
    return bool(torch.isfinite(penalty.magnitude_slope(zero, penalty.scaled_strength(zero, strength))).all())


class SteadySGD(Steady, SGD):
    """`ProxSGD` with a steady support: torch.optim.SGD, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.SGD, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """


class SteadyAdam(Steady, Adam):
    """`ProxAdam` with a steady support: torch.optim.Adam, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.Adam, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """


class SteadyAdamW(Steady, AdamW):
    """`ProxAdamW` with a steady support: torch.optim.AdamW, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.AdamW, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """


class SteadyNAdam(Steady, NAdam):
    """`ProxNAdam` with a steady support: torch.optim.NAdam, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.NAdam, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """


class SteadyRMSprop(Steady, RMSprop):
    """`ProxRMSprop` with a steady support: torch.optim.RMSprop, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.RMSprop, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """


class SteadyAdagrad(Steady, Adagrad):
    """`ProxAdagrad` with a steady support: torch.optim.Adagrad, and weights that leave zero only on their mean pull.

    Takes every option of torch.optim.Adagrad, and:

    Args:
        penalty: λR, for all groups that do not bring their own.
        forgetting: p ≥ 0; 0 remembers all gradients alike.

    Raises:
        ValueError: an option is out of its range, or the penalty is none that is accepted.
    """
