"""Proximal versions of torch's optimisers: the same options, a penalty per group, and λ that means one number."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from nonsmooth.optim.embeddings.following import follow
from nonsmooth.optim.embeddings.missed_steps import catch_up, catch_up_before_loading
from nonsmooth.optim.penalized import PenalizedOptimizer
from nonsmooth.optim.penalty_reader import to_specification
from nonsmooth.optim.proximal_step import ProximalStep
from nonsmooth.penalties import Penalty


class Proximal(PenalizedOptimizer):
    """What turns an optimiser of torch into its proximal version, to stand before it among the bases of a class.

    A step is the optimiser's own step on the loss, then the prox of the penalty in the metric of that step. A plain
    optimiser's `state_dict` can be loaded: its groups keep the penalties that they have here.
    """

    parent: ClassVar[type[Optimizer]]
    """torch's optimiser."""

    proximal_step: ClassVar[type[ProximalStep]] = ProximalStep
    """What a step does beside torch's."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.parent = next(
            kind for kind in cls.__mro__ if issubclass(kind, Optimizer) and not issubclass(kind, PenalizedOptimizer)
        )
        if cls.parent is Optimizer:
            return
        own = inspect.signature(cls.parent.__init__)
        penalty = inspect.Parameter(
            "penalty", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Penalty | None"
        )
        cls.__signature__ = own.replace(parameters=[*list(own.parameters.values())[1:], penalty])  # type: ignore[attr-defined]

    def __init__(self, params: Any, *arguments: Any, penalty: Penalty | None = None, **options: Any) -> None:
        self._default_penalty = to_specification(penalty)
        super().__init__(params, *arguments, **options)
        self.defaults["penalty"] = self._default_penalty

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take torch's step on the loss, then the prox of the penalty.

        Args:
            closure: clears gradients, computes the loss without its penalty, calls backward and returns the loss.

        Returns:
            What the closure returned, None without one.

        Raises:
            TypeError: a group holds something else than a penalty; nothing has been changed then.
            ValueError: a gradient is sparse where that is not accepted, or was taken at rows that have missed steps,
                an option is out of its range, a penalty has invalid numbers or does not fit, or the step is too large
                for a penalty that is not convex; nothing has been changed then.
        """
        loss, prox = None, self._prox
        if closure is not None:
            prox.check(self)
            with torch.enable_grad():
                loss = closure()
        base: Any = self.parent.step
        # torch wraps `step` to call hooks as soon as one plain instance exists: they would fire twice, once too early.
        if getattr(base, "hooked", False):
            base = base.__wrapped__
        if torch.compiler.is_compiling():
            from nonsmooth.optim.compiled import compiled_step  # noqa: PLC0415  torch's compiler is slow to import

            compiled_step(self, base, prox)
            return loss
        prox.before(self)
        if prox.alone:
            groups, self.param_groups = self.param_groups, prox.instead(self)
            try:
                base(self)
            finally:
                self.param_groups = groups
        else:
            base(self)
        prox.after(self)
        return loss

    def follow(self, model: nn.Module) -> None:
        """Let the embeddings of a model bring up to date what they are about to read: `nonsmooth.optim.follow`."""
        follow(self, model)

    def catch_up(self) -> None:
        """Take the proxes that rows of embeddings missed under sparse gradients: `nonsmooth.optim.catch_up`."""
        catch_up(self)

    def state_dict(self) -> dict[str, Any]:
        """What torch's gives, and the penalties; the weights are brought up to date, so that they go with it."""
        catch_up(self)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; groups without a penalty, as in older checkpoints, keep the one they have here.

        Raises:
            ValueError: a penalty is not known or does not fit; nothing has been changed then.
        """
        catch_up_before_loading(self)
        super().load_state_dict(state_dict)

    @property
    def _prox(self) -> ProximalStep:
        # Not among what torch pickles and copies, so it is made anew where it is missing.
        if "_proximal_step" not in self.__dict__:
            self._proximal_step = self.proximal_step(
                type(self), self._reader, replaces=self.parent in (SGD, Adam, AdamW)
            )
        return self._proximal_step


class ProxSGD(Proximal, SGD):
    """torch.optim.SGD, then the prox with step α(1-τ)/(1-μ): ISTA without momentum, on a full batch.

    Without momentum and weight decay it takes sparse gradients of embeddings; see `follow`.

    Takes every option of torch.optim.SGD; on a GPU `fused=True` takes step and prox in one pass over memory,
    `fused=False` the prox in eager PyTorch. And:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxAdam(Proximal, Adam):
    """torch.optim.Adam (AMSGrad too), then the prox in its metric, D = α/(√v̂ + ε).

    Takes every option of torch.optim.Adam; on a GPU `fused=True` takes step and prox in one pass over memory,
    `fused=False` the prox in eager PyTorch. And:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """


class ProxAdamW(Proximal, AdamW):
    """torch.optim.AdamW, then the prox in its metric, D = α/(√v̂ + ε).

    Takes every option of torch.optim.AdamW; on a GPU `fused=True` takes step and prox in one pass over memory,
    `fused=False` the prox in eager PyTorch. And:

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

    Without weight decay it takes sparse gradients of embeddings; see `follow`.

    Takes every option of torch.optim.Adagrad, and:

    Args:
        penalty: λR, for all groups that do not bring their own.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """
