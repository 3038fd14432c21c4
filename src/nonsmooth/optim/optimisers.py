"""Proximal versions of torch's optimisers: the same options, a penalty per group, and λ that means one number."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from nonsmooth.optim.proximal_step import PenaltyReader, apply_penalties, check_before_step, check_group, specified
from nonsmooth.penalties import Penalty


class Proximal(Optimizer):
    """What turns an optimiser of torch into its proximal version, to stand before it among the bases of a class.

    A step is the optimiser's own step on the loss, then the prox of the penalty in the metric of that step. The penalty
    lies in each group of `param_groups` as a name and numbers, so that it can be read, scheduled and saved like a
    learning rate.
    """

    parent: ClassVar[type[Optimizer]]
    """torch's optimiser."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.parent = next(
            kind for kind in cls.__mro__ if issubclass(kind, Optimizer) and not issubclass(kind, Proximal)
        )
        if cls.parent is Optimizer:
            return
        own = inspect.signature(cls.parent.__init__)
        penalty = inspect.Parameter(
            "penalty", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Penalty | None"
        )
        cls.__signature__ = own.replace(parameters=[*list(own.parameters.values())[1:], penalty])  # type: ignore[attr-defined]

    def __init__(self, params: Any, *arguments: Any, penalty: Penalty | None = None, **options: Any) -> None:
        self._default_penalty = specified(penalty)
        super().__init__(params, *arguments, **options)
        self.defaults["penalty"] = self._default_penalty

    @property
    def _reader(self) -> PenaltyReader:
        # Not among what torch pickles and copies, so it is made anew where it is missing.
        reader: PenaltyReader = self.__dict__.setdefault("_penalty_reader", PenaltyReader())
        return reader

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose penalty is its own `penalty` or else the optimiser's.

        Raises:
            TypeError: the penalty is none.
            ValueError: it does not fit a parameter.
        """
        default = self.defaults.get("penalty", self.__dict__.get("_default_penalty"))
        specification = specified(param_group.get("penalty", default) if isinstance(param_group, dict) else None)
        group = {**param_group, "penalty": specification}
        before = len(self.param_groups)
        super().add_param_group(group)
        try:
            check_group(self.param_groups[before])
        except ValueError:
            del self.param_groups[before]
            raise

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take torch's step on the loss, then the prox of the penalty.

        Args:
            closure: clears gradients, computes the loss without its penalty, calls backward and returns the loss.

        Returns:
            What the closure returned, None without one.

        Raises:
            ValueError: a gradient is sparse, an option is out of its range, or the step is too large for a penalty that
                is not convex; nothing has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        check_before_step(self, self._reader)
        base: Any = self.parent.step
        # torch wraps `step` to call hooks as soon as one plain instance exists: they would fire twice, once too early.
        if getattr(base, "hooked", False):
            base = base.__wrapped__
        base(self)
        apply_penalties(self, self._reader)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What torch's gives; a group's penalty is a copy, which a λ that changes later leaves as it is."""
        for group in self.param_groups:
            self._reader(group)
        state = super().state_dict()
        groups = [{**group, "penalty": group["penalty"] and dict(group["penalty"])} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave, a plain optimiser's included: its groups keep the penalties they have here.

        Raises:
            ValueError: a penalty is not known or does not fit; nothing has been changed then.
        """
        super().load_state_dict(with_penalties(state_dict, self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("penalty", None)


def with_penalties(state_dict: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A state to load, its penalties checked, and the optimiser's own where it has none.

    Raises:
        ValueError: a penalty is not known or does not fit the parameters.
    """
    groups = []
    for saved, own in zip(state_dict["param_groups"], optimizer.param_groups, strict=False):
        group = {"penalty": own.get("penalty"), **saved}
        group["penalty"] = specified(group["penalty"])
        check_group({**own, "penalty": group["penalty"]})
        groups.append(group)
    # Groups too many or too few are torch's to refuse.
    groups += state_dict["param_groups"][len(groups) :]
    return {**state_dict, "param_groups": groups}


class ProxSGD(Proximal, SGD):
    """torch.optim.SGD, then the prox with step α(1-τ)/(1-μ): ISTA without momentum, on a full batch.

    Takes every option of torch.optim.SGD, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxAdam(Proximal, Adam):
    """torch.optim.Adam (AMSGrad too), then the prox in its metric, D = α/(√v̂ + ε).

    Takes every option of torch.optim.Adam, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxAdamW(Proximal, AdamW):
    """torch.optim.AdamW, then the prox in its metric, D = α/(√v̂ + ε).

    Takes every option of torch.optim.AdamW, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxNAdam(Proximal, NAdam):
    """torch.optim.NAdam, then the prox in its metric, D = α/(√v̂ + ε) times NAdam's answer to a constant gradient.

    Takes every option of torch.optim.NAdam, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxRMSprop(Proximal, RMSprop):
    """torch.optim.RMSprop, then the prox in its metric, D = α/((√v + ε)(1-μ)).

    Takes every option of torch.optim.RMSprop, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxAdagrad(Proximal, Adagrad):
    """torch.optim.Adagrad, then the prox in its metric, D = α_t/(√s + ε).

    Takes every option of torch.optim.Adagrad, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """
