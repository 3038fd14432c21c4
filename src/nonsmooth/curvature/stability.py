"""Stability thresholds of optimizers, and a run's sharpness relative to them.

On a quadratic with curvature h an optimizer is linear, and as h grows it loses stability where the iterates change sign
at every step: at α·G(-1)·h/P = 2, where `torch_optimizers.rules` has P and G(-1), what momentum makes of an alternating
gradient. Adam's P is multiplied by its correction of the first moment, 1-β₁ᵗ, which makes early steps longer. Decoupled
weight decay wd takes α·wd off the 2, coupled weight decay adds wd·I to H. All of it is about full batches and a P that
moves slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nonsmooth import extremes
from nonsmooth.curvature.probe import Closure
from nonsmooth.curvature.products import HessianOperator, hessian_operator
from nonsmooth.curvature.sharpness import Sharpness, check_search, search
from nonsmooth.deprecation import renamed_attribute
from nonsmooth.optimizer_layers import layers
from nonsmooth.torch_optimizers import AdaptiveStep, Group, Rule, State, rule_of
from nonsmooth.torch_optimizers.rules import KNOWN


@dataclass(frozen=True)
class StabilityThreshold:
    """The largest curvature at which an optimizer is stable, with its present options and state.

    P is infinite for a parameter that does not move: one without a gradient, or with lr = 0.

    Attributes:
        value: the largest stable eigenvalue of P^(-1/2)(±H + wd·I)P^(-1/2), the minus under `maximize`; infinite where
            an alternating gradient moves nothing, as with a dampening of 1.
        lr: α; of groups with different ones the largest. Where groups differ in it, in momentum or
            in decoupled weight decay, P is larger in those that are stable at more curvature.
        preconditioner: P for each parameter that requires a gradient, in the order of the groups; None where it is 1
            everywhere.
        weight_decay: coupled weight decay, for each of those parameters.
        sign: -1 under `maximize`, else 1.
        rule: the formula.
    """

    value: float
    lr: float
    preconditioner: tuple[Tensor, ...] | None = field(repr=False)
    weight_decay: tuple[float, ...] = field(repr=False)
    sign: int
    rule: str

    step_size = renamed_attribute("step_size", "lr")

    def __str__(self) -> str:
        """The value and its formula."""
        return f"stable up to {self.value:.4g} ({self.rule})"

    @property
    def for_loss(self) -> float | None:
        """The largest stable sharpness of the loss alone: `value` less the weight decay. None where P is not 1."""
        if self.preconditioner is not None or len(set(self.weight_decay)) > 1 or self.sign < 0:
            return None
        return self.value - self.weight_decay[0]


@dataclass(frozen=True)
class OptimizerSharpness:
    """The sharpness that counts for an optimiser, over the threshold that is its own.

    Attributes:
        ratio: sharpness over threshold: steps are stable below 1, and at the edge of stability it is 1.
        sharpness: the largest eigenvalue of P^(-1/2)(±H + wd·I)P^(-1/2), and its evidence.
        threshold: where the optimiser becomes unstable.
        coordinates: how many there are.
        moving: how many of them count: all, but for the zeros of groups with a penalty that has a prox.
    """

    ratio: float
    sharpness: Sharpness
    threshold: StabilityThreshold
    coordinates: int
    moving: int

    def __str__(self) -> str:
        """The ratio, and what it is made of."""
        support = ""
        if self.moving < self.coordinates:
            support = f", on the {self.moving:,} of {self.coordinates:,} coordinates that no prox holds at zero"
        return f"{self.ratio:.3f} of the threshold{support}: {self.sharpness}; {self.threshold}"


def stability_threshold(optimizer: Optimizer) -> StabilityThreshold:
    """Find the largest curvature at which an optimizer is stable, with its present options and state.

    Args:
        optimizer: torch's SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, or a subclass that takes their steps, such as the
            proximal ones of this package; one inside a wrapper that has it in its attribute `optimizer` too.

    Returns:
        The threshold. Where a penalty has a prox, it is that of the loss without it: a prox that is firmly
        non-expansive takes nothing away from it. Dual averaging (RDA, XRDA) has none.

    Raises:
        TypeError: `optimizer` is another one.
        ValueError: no step size is positive, or one is not finite, groups differ in `maximize`, a decoupled weight
            decay is unstable by itself, or an adaptive optimiser has not made a step yet.
    """
    optimizer = layers(optimizer)[-1]
    rule = _rule(optimizer)
    pairs = [(group, p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    states: list[State] = [optimizer.state.get(p, {}) for _, p in pairs]
    if rule.adaptive and not any(_has_stepped(state) for state in states):
        raise ValueError("optimizer has made no step yet, so it has no preconditioner; call it after a step")
    rates = [_rate(rule, group, state) for (group, _), state in zip(pairs, states, strict=True)]
    lr = extremes.largest(rates, default=0.0)
    if not 0 < lr < inf:
        raise ValueError(f"lr is {lr}; accepted are finite numbers, at least one of them positive")
    signs = {-1 if group.get("maximize", False) else 1 for (group, _), r in zip(pairs, rates, strict=True) if r > 0}
    if len(signs) > 1:
        raise ValueError("param_groups differ in maximize; accepted is the same for all")
    shares = [_share(rule, group, state) for (group, _), state in zip(pairs, states, strict=True)]
    largest = extremes.largest(shares)
    preconditioner = None
    if largest > 0 and (rule.adaptive or len(set(shares)) > 1):
        preconditioner = tuple(
            _preconditioner(rule, group, p, state, share / largest)
            for (group, p), state, share in zip(pairs, states, shares, strict=True)
        )
    return StabilityThreshold(
        value=1 / largest if largest > 0 else inf,
        lr=lr,
        preconditioner=preconditioner,
        weight_decay=tuple(_coupled_decay(group) for group, _ in pairs),
        sign=signs.pop(),
        rule=rule.threshold,
    )


def optimizer_sharpness(
    optimizer: Optimizer,
    closure: Closure,
    *,
    model: nn.Module | None = None,
    mode: str | None = None,
    method: str | None = None,
    tolerance: float = 1e-2,
    max_products: int = 15,
    start: Sharpness | Tensor | None = None,
    seed: int = 0,
) -> OptimizerSharpness:
    """Measure the sharpness that counts for an optimiser, in its own metric and over its own threshold.

    Zeros of a group that has a penalty with a prox do not count: the prox takes them back to zero after each step, so
    their curvature makes nothing unstable. Every weight that is 0 now counts as held, even at a start from zeros, where
    it may be about to leave. If all weights are such zeros, all coordinates count.

    Args:
        optimizer: as in `stability_threshold`.
        closure: computes the loss on the full batch and returns it, without calling backward.
        model: whose modes and buffers are meant; needed only where the model is compiled.
        mode: "train", "eval" or "current"; needed where modules compute different things in training and evaluation.
        method: "double backward", "finite differences", or None for the first where autograd allows it.
        tolerance: largest relative error of the eigenvalue.
        max_products: the most Hessian-vector products.
        start: an earlier measurement of this optimizer, its `sharpness`, or an eigenvector.
        seed: of the random part of the start.

    Returns:
        Sharpness, threshold and their ratio; the run is left as it was.

    Raises:
        TypeError: as in `stability_threshold` and `sharpness`.
        ValueError: as in `stability_threshold` and `sharpness`.
        RuntimeError: double backward was asked for and autograd refuses it.
    """
    check_search(tolerance, max_products)
    optimizer = layers(optimizer)[-1]
    threshold = stability_threshold(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    with hessian_operator(closure, parameters, model=model, mode=mode, method=method) as operator:
        scale = None
        if threshold.preconditioner is not None:
            scale = operator.flat(threshold.preconditioner).rsqrt()
        decay: Tensor | float = 0.0
        if any(threshold.weight_decay):
            pairs = zip(threshold.weight_decay, parameters, strict=True)
            decay = operator.flat([torch.full_like(p, each) for each, p in pairs])

        def product(vector: Tensor) -> Tensor:
            moved = vector if scale is None else scale * vector
            curved = threshold.sign * operator.product(moved) + decay * moved
            curved = curved if scale is None else scale * curved
            return curved if moving is None else moving * curved

        moving = _moving(optimizer, operator)
        found = search(
            operator,
            product,
            scale,
            mode,
            tolerance=tolerance,
            max_products=max_products,
            start=start,
            seed=seed,
            moving=moving,
        )
    count = operator.size if moving is None else int(moving.sum())
    return OptimizerSharpness(found.value / threshold.value, found, threshold, operator.size, count)


def _moving(optimizer: Optimizer, operator: HessianOperator) -> Tensor | None:
    """1 for each coordinate, 0 for those that a prox holds at zero; None where it holds none, or all."""
    parts = [
        (p.detach() != 0).to(p.dtype) if _is_penalized(group) else torch.ones_like(p.detach())
        for group in optimizer.param_groups
        for p in group["params"]
        if p.requires_grad
    ]
    moving = operator.flat(parts)
    return None if bool(moving.all()) or not bool(moving.any()) else moving


def _is_penalized(group: Mapping[str, Any]) -> bool:
    """Whether a group has a penalty, and one with a strength."""
    penalty = group.get("penalty")
    strength = penalty.get("strength") if isinstance(penalty, Mapping) else None
    return penalty is not None and (isinstance(strength, Tensor) or strength is None or strength != 0)


def _rule(optimizer: Optimizer) -> Rule:
    try:
        return rule_of(type(optimizer))
    except ValueError:
        raise TypeError(f"optimizer is a {type(optimizer).__name__}; its threshold is known for {KNOWN}") from None


def _has_stepped(state: State) -> bool:
    return bool(state) and float(state["step"]) > 0


def _rate(rule: Rule, group: Group, state: State) -> float:
    """The step size; 0 for a parameter that an adaptive optimizer never moved."""
    return 0.0 if rule.adaptive and not _has_stepped(state) else float(rule.rate(group, state))


def _share(rule: Rule, group: Group, state: State) -> float:
    """1 over the largest stable curvature of one parameter, without its P: α·G(-1)/(2 - α·wd), wd where decoupled.

    Raises:
        ValueError: the decay alone makes the weights diverge.
    """
    rate = _rate(rule, group, state)
    if rate == 0:
        return 0.0
    decay = float(group["lr"]) * _weight_decay(group) if group.get("decoupled_weight_decay", False) else 0.0
    if decay >= 2:
        raise ValueError(f"lr·weight_decay is {decay}; accepted are numbers below 2, where the decay itself is stable")
    return rate * float(rule.alternating(group, state)) / (2 - decay)


def _preconditioner(rule: Rule, group: Group, parameter: Tensor, state: State, share: float) -> Tensor:
    """P of a parameter over its share, infinite where it does not move."""
    if share == 0:
        return torch.full_like(parameter.detach(), torch.inf)
    step = rule.step(group, state)
    if not isinstance(step, AdaptiveStep):
        return torch.ones_like(parameter.detach()) / share
    unit = rule.early(group, state) * rule.forward(group, state)
    return (unit / share) / step().detach()


def _weight_decay(group: Group) -> float:
    return float(group.get("weight_decay", 0) or 0)


def _coupled_decay(group: Group) -> float:
    """The weight decay where it is part of the gradient, else 0."""
    return 0.0 if group.get("decoupled_weight_decay", False) else _weight_decay(group)
