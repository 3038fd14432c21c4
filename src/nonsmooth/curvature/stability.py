"""How much curvature an optimiser bears: its stability threshold, and a run's sharpness over it.

On a quadratic with curvature h an optimiser is linear: w ← w - (α/P)·G(h·w), with G what its momentum makes of a
sequence of gradients. As h grows it loses stability where the iterates change sign at every step, so that
α·G(-1)·h/P = 2 with G(-1) the answer to an alternating gradient:

| optimiser | P | threshold of λ_max(P^(-1/2) H P^(-1/2)) |
|---|---|---|
| gradient descent | 1 | 2/α |
| heavy ball μ, dampening τ | 1 | (2+2μ)/((1-τ)α) |
| Nesterov μ | 1 | (2+2μ)/((1+2μ)α) |
| RMSprop; with momentum μ | √v + ε (centred: √(v - m²) + ε) | 2/α; (2+2μ)/α |
| Adam; AMSGrad with the running maximum of v̂ | (1-β₁ᵗ)(√v̂ + ε) | (2+2β₁)/((1-β₁)α) |
| AdamW with decay wd | the same | (2-α·wd)(1+β₁)/((1-β₁)α) |
| NAdam, coefficients of step t | √v̂ + ε | 2(1+β₁)/((a(1-β₁) + b(1+β₁))α) |
| Adagrad | √s + ε | 2/α_t |

Adam's factor 1-β₁ᵗ is its correction of the first moment, which makes early steps longer (Cohen et al. 2022, "Adaptive
gradient methods at the edge of stability"); it is 1 after some tens of steps. NAdam's a = μ_{t+1}/(1-Πμ_{t+1}) and
b = (1-μ_t)/(1-Πμ_t) tend to β₁ and 1-β₁. Coupled weight decay wd adds wd·I to H. Gradient descent and momentum: Cohen
et al. (2021), appendix B. All of it is about full batches and a P that moves slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, NAdam, Optimizer, RMSprop

from nonsmooth.curvature.probe import Closure
from nonsmooth.curvature.products import hessian_operator
from nonsmooth.curvature.sharpness import Sharpness, check_search, measured

Group = Mapping[str, Any]
State = Mapping[str, Any]


@dataclass(frozen=True)
class StabilityThreshold:
    """The curvature that an optimiser bears, from its options and its state as they are.

    A parameter that does not move, for want of a gradient or of a step size, has an infinite P.

    Attributes:
        value: the largest stable eigenvalue of P^(-1/2)(±H + wd·I)P^(-1/2), the minus under `maximize`.
        step_size: α; of groups with different ones the largest, and P is that much larger in the others.
        preconditioner: P for each parameter that requires a gradient, None where it is 1 everywhere.
        weight_decay: coupled weight decay, for each of those parameters.
        sign: -1 under `maximize`, else 1.
        rule: the formula.
    """

    value: float
    step_size: float
    preconditioner: tuple[Tensor, ...] | None = field(repr=False)
    weight_decay: tuple[float, ...] = field(repr=False)
    sign: int
    rule: str

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
    """

    ratio: float
    sharpness: Sharpness
    threshold: StabilityThreshold


@dataclass(frozen=True)
class _Rule:
    """An optimiser's part of the theory, for one group: what α·G(-1)·h/P = 2 takes."""

    answer: Callable[[Group, State], float]
    metric: Callable[[Group, State], Tensor] | None
    text: str


def stability_threshold(optimizer: Optimizer) -> StabilityThreshold:
    """Read off an optimiser how much curvature it bears at its present step size, in its present state.

    Args:
        optimizer: torch's SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, or a subclass that takes their steps, such as the
            proximal ones of this package; one inside a wrapper that has it in its attribute `optimizer` too.

    Returns:
        The threshold. Where a penalty has a prox, it is that of the loss without it: a prox that is firmly
        non-expansive takes nothing away from it.

    Raises:
        TypeError: the optimiser is none of those.
        ValueError: no step size is positive, groups differ in momentum or in `maximize`, or an adaptive optimiser has
            not made a step yet.
    """
    optimizer = _unwrapped(optimizer)
    rule = _rule(optimizer)
    pairs = [(group, p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    states: list[State] = [optimizer.state.get(p, {}) for _, p in pairs]
    if rule.metric is not None and not any(_has_stepped(state) for state in states):
        raise ValueError("optimizer has made no step yet, so that its preconditioner does not exist")
    rates = [_rate(rule, group, state) for (group, _), state in zip(pairs, states, strict=True)]
    largest = max(rates, default=0.0)
    if not largest > 0:
        raise ValueError(f"lr is {largest}; accepted is at least one group with a positive step size")
    moving = [(group, s) for (group, _), s, rate in zip(pairs, states, rates, strict=True) if rate > 0]
    answers = {round(rule.answer(group, state), 12) for group, state in moving}
    signs = {-1 if group.get("maximize", False) else 1 for group, _ in moving}
    if len(answers) > 1 or len(signs) > 1:
        raise ValueError("param_groups differ in momentum or in maximize; accepted are the same for all")
    limit = 2.0 - max(_decoupled(group) for group, _ in moving)
    preconditioner = None
    if rule.metric or len(set(rates)) > 1:
        preconditioner = tuple(
            _metric(rule, group, p, state, rate / largest)
            for (group, p), state, rate in zip(pairs, states, rates, strict=True)
        )
    return StabilityThreshold(
        value=limit / (answers.pop() * largest),
        step_size=largest,
        preconditioner=preconditioner,
        weight_decay=tuple(_coupled(group) for group, _ in pairs),
        sign=signs.pop(),
        rule=rule.text,
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
    start: Tensor | None = None,
    seed: int = 0,
) -> OptimizerSharpness:
    """Measure the sharpness that counts for an optimiser, in its own metric and over its own threshold.

    Args:
        optimizer: as in `stability_threshold`.
        closure: computes the loss on the full batch and returns it, without calling backward.
        model: as in `sharpness`, like all that follow.
        mode: see there.
        method: see there.
        tolerance: see there.
        max_products: see there.
        start: the eigenvector of the last measurement of the same optimiser.
        seed: see there.

    Returns:
        Sharpness, threshold and their ratio; everything of the run is as before.

    Raises:
        TypeError: as in `stability_threshold` and `sharpness`.
        ValueError: likewise.
        RuntimeError: double backward was asked for and autograd refuses it.
    """
    check_search(tolerance, max_products)
    threshold = stability_threshold(optimizer)
    parameters = [p for group in _unwrapped(optimizer).param_groups for p in group["params"] if p.requires_grad]
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
            return curved if scale is None else scale * curved

        found = measured(
            operator, product, scale, mode, tolerance=tolerance, max_products=max_products, start=start, seed=seed
        )
    return OptimizerSharpness(found.value / threshold.value, found, threshold)


def _unwrapped(optimizer: Any) -> Optimizer:
    inner = optimizer
    while isinstance(getattr(inner, "optimizer", None), Optimizer):  # accelerate's wrapper is an Optimizer itself
        inner = inner.optimizer
    if not isinstance(inner, Optimizer):
        raise TypeError(f"optimizer is {optimizer!r}; accepted is a torch.optim.Optimizer")
    return inner


def _sgd_answer(group: Group, state: State) -> float:
    del state
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    if momentum == 0:
        return 1.0
    return (1 + 2 * momentum if group["nesterov"] else 1 - dampening) / (1 + momentum)


def _rmsprop_answer(group: Group, state: State) -> float:
    del state
    return 1 / (1 + float(group["momentum"]))


def _adam_answer(group: Group, state: State) -> float:
    del state
    first = float(group["betas"][0])
    return (1 - first) / (1 + first)


def _nadam_answer(group: Group, state: State) -> float:
    first, count, product = float(group["betas"][0]), float(state["step"]), float(state["mu_product"])
    decay = float(group["momentum_decay"])
    now, following = (first * (1 - 0.5 * 0.96 ** (t * decay)) for t in (count, count + 1))
    past, present = following / (1 - product * following), (1 - now) / (1 - product)
    return float(past * (1 - first) / (1 + first) + present)


def _correction(beta: float, state: State) -> float:
    """1 - βᵗ, by which a running mean that began at 0 is divided."""
    return float(1 - beta ** float(state["step"]))


def _adam_metric(group: Group, state: State) -> Tensor:
    first, second = (_correction(float(beta), state) for beta in group["betas"])
    square: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return first * ((square / second).sqrt() + float(group["eps"]))


def _nadam_metric(group: Group, state: State) -> Tensor:
    second = _correction(float(group["betas"][1]), state)
    square: Tensor = state["exp_avg_sq"]
    return (square / second).sqrt() + float(group["eps"])


def _rmsprop_metric(group: Group, state: State) -> Tensor:
    square: Tensor = state["square_avg"]
    if group["centered"]:
        square = (square - state["grad_avg"] ** 2).clamp(min=0)  # a variance; rounding can take it below 0
    return square.sqrt() + float(group["eps"])


def _adagrad_metric(group: Group, state: State) -> Tensor:
    total: Tensor = state["sum"]
    return total.sqrt() + float(group["eps"])


_RULES: Mapping[type[Optimizer], _Rule] = {
    SGD: _Rule(_sgd_answer, None, "2/(α·G), G = (1-τ)/(1+μ), Nesterov (1+2μ)/(1+μ), without momentum 1"),
    RMSprop: _Rule(_rmsprop_answer, _rmsprop_metric, "(2+2μ)/α on P = √v + ε"),
    NAdam: _Rule(_nadam_answer, _nadam_metric, "2(1+β₁)/((a(1-β₁) + b(1+β₁))α) on P = √v̂ + ε"),
    Adam: _Rule(_adam_answer, _adam_metric, "(2-α·wd)(1+β₁)/((1-β₁)α) on P = (1-β₁ᵗ)(√v̂ + ε), wd if decoupled"),
    Adagrad: _Rule(lambda group, state: 1.0, _adagrad_metric, "2/α_t on P = √s + ε"),
}


def _rule(optimizer: Optimizer) -> _Rule:
    for kind in type(optimizer).__mro__:
        if kind in _RULES:
            return _RULES[kind]
    raise TypeError(
        f"optimizer is a {type(optimizer).__name__}; its threshold is known for SGD, Adam, AdamW, NAdam, RMSprop, "
        "Adagrad and their subclasses"
    )


def _has_stepped(state: State) -> bool:
    return bool(state) and float(state["step"]) > 0


def _rate(rule: _Rule, group: Group, state: State) -> float:
    """The step size, with Adagrad's own decay; 0 for a parameter that an adaptive optimiser never moved."""
    if rule.metric is not None and not _has_stepped(state):
        return 0.0
    decline = 1 + (float(state["step"]) - 1) * float(group["lr_decay"]) if "lr_decay" in group else 1.0
    return float(group["lr"]) / decline


def _metric(rule: _Rule, group: Group, parameter: Tensor, state: State, share: float) -> Tensor:
    """P of a parameter, infinite where it does not move."""
    if share == 0:
        return torch.full_like(parameter.detach(), torch.inf)
    metric = rule.metric(group, state) if rule.metric else torch.ones_like(parameter.detach())
    return metric.detach() / share


def _decoupled(group: Group) -> float:
    decay = float(group.get("weight_decay", 0) or 0)
    return float(group["lr"]) * decay if group.get("decoupled_weight_decay", False) else 0.0


def _coupled(group: Group) -> float:
    return 0.0 if group.get("decoupled_weight_decay", False) else float(group.get("weight_decay", 0) or 0)
