"""What an optimiser's momentum and preconditioner make of curvature: one rule for each kind.

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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, NAdam, Optimizer, RMSprop

Group = Mapping[str, Any]
OptimizerState = Mapping[str, Any]


@dataclass(frozen=True)
class StabilityRule:
    """An optimiser's part of the theory, for one group: what α·G(-1)·h/P = 2 takes.

    Attributes:
        answer: G(-1).
        metric: P; None where it is 1.
        text: the formula.
        decline: by what α is divided.
    """

    answer: Callable[[Group, OptimizerState], float]
    metric: Callable[[Group, OptimizerState], Tensor] | None
    text: str
    decline: Callable[[Group, OptimizerState], float] = lambda group, state: 1.0


def _sgd_answer(group: Group, state: OptimizerState) -> float:
    del state
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    if momentum == 0:
        return 1.0
    return (1 + 2 * momentum if group["nesterov"] else 1 - dampening) / (1 + momentum)


def _rmsprop_answer(group: Group, state: OptimizerState) -> float:
    del state
    return 1 / (1 + float(group["momentum"]))


def _adam_answer(group: Group, state: OptimizerState) -> float:
    del state
    first = float(group["betas"][0])
    return (1 - first) / (1 + first)


def _nadam_answer(group: Group, state: OptimizerState) -> float:
    first, count, product = float(group["betas"][0]), float(state["step"]), float(state["mu_product"])
    decay = float(group["momentum_decay"])
    now, following = (first * (1 - 0.5 * 0.96 ** (t * decay)) for t in (count, count + 1))
    past, present = following / (1 - product * following), (1 - now) / (1 - product)
    return float(past * (1 - first) / (1 + first) + present)


def _correction(beta: float, state: OptimizerState) -> float:
    """1 - βᵗ, by which a running mean that began at 0 is divided."""
    return float(1 - beta ** float(state["step"]))


def _adam_metric(group: Group, state: OptimizerState) -> Tensor:
    first, second = (_correction(float(beta), state) for beta in group["betas"])
    square: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return first * ((square / second).sqrt() + float(group["eps"]))


def _nadam_metric(group: Group, state: OptimizerState) -> Tensor:
    second = _correction(float(group["betas"][1]), state)
    square: Tensor = state["exp_avg_sq"]
    return (square / second).sqrt() + float(group["eps"])


def _rmsprop_metric(group: Group, state: OptimizerState) -> Tensor:
    square: Tensor = state["square_avg"]
    if group["centered"]:
        square = (square - state["grad_avg"] ** 2).clamp(min=0)  # a variance; rounding can take it below 0
    return square.sqrt() + float(group["eps"])


def _adagrad_metric(group: Group, state: OptimizerState) -> Tensor:
    total: Tensor = state["sum"]
    return total.sqrt() + float(group["eps"])


def _adagrad_decline(group: Group, state: OptimizerState) -> float:
    return 1 + (float(state["step"]) - 1) * float(group["lr_decay"])


_RULES: Mapping[type[Optimizer], StabilityRule] = {
    SGD: StabilityRule(_sgd_answer, None, "2/(α·G), G = (1-τ)/(1+μ), Nesterov (1+2μ)/(1+μ), without momentum 1"),
    RMSprop: StabilityRule(_rmsprop_answer, _rmsprop_metric, "(2+2μ)/α on P = √v + ε"),
    NAdam: StabilityRule(_nadam_answer, _nadam_metric, "2(1+β₁)/((a(1-β₁) + b(1+β₁))α) on P = √v̂ + ε"),
    Adam: StabilityRule(_adam_answer, _adam_metric, "(2-α·wd)(1+β₁)/((1-β₁)α) on P = (1-β₁ᵗ)(√v̂ + ε), wd if decoupled"),
    Adagrad: StabilityRule(lambda group, state: 1.0, _adagrad_metric, "2/α_t on P = √s + ε", _adagrad_decline),
}


def rule_of(optimizer: Optimizer) -> StabilityRule:
    """The rule of an optimiser's class or of the nearest one that it inherits from.

    Raises:
        TypeError: there is none.
    """
    for kind in type(optimizer).__mro__:
        if kind in _RULES:
            return _RULES[kind]
    raise TypeError(
        f"optimizer is a {type(optimizer).__name__}; its threshold is known for SGD, Adam, AdamW, NAdam, RMSprop, "
        "Adagrad and their subclasses"
    )


def has_stepped(state: OptimizerState) -> bool:
    """Whether a parameter's state is one after a step."""
    return bool(state) and float(state["step"]) > 0


def rate_of(rule: StabilityRule, group: Group, state: OptimizerState) -> float:
    """The step size, with Adagrad's own decay; 0 for a parameter that an adaptive optimiser never moved."""
    if rule.metric is not None and not has_stepped(state):
        return 0.0
    return float(group["lr"]) / rule.decline(group, state)


def share_of(rule: StabilityRule, group: Group, state: OptimizerState) -> float:
    """1 over the largest stable curvature of one parameter, without its P: α·G(-1)/(2 - α·wd), wd where decoupled.

    Raises:
        ValueError: the decay alone makes the weights diverge.
    """
    rate = rate_of(rule, group, state)
    if rate == 0:
        return 0.0
    decay = decoupled_decay(group)
    if decay >= 2:
        raise ValueError(f"lr·weight_decay is {decay}; accepted are numbers below 2, where the decay itself is stable")
    return rate * rule.answer(group, state) / (2 - decay)


def metric_of(rule: StabilityRule, group: Group, parameter: Tensor, state: OptimizerState, share: float) -> Tensor:
    """P of a parameter, infinite where it does not move."""
    if share == 0:
        return torch.full_like(parameter.detach(), torch.inf)
    metric = rule.metric(group, state) if rule.metric else torch.ones_like(parameter.detach())
    return metric.detach() / share


def decoupled_decay(group: Group) -> float:
    """α·wd where the weights themselves are shrunk, else 0."""
    decay = float(group.get("weight_decay", 0) or 0)
    return float(group["lr"]) * decay if group.get("decoupled_weight_decay", False) else 0.0


def coupled_decay(group: Group) -> float:
    """The weight decay where it is part of the gradient, else 0."""
    return 0.0 if group.get("decoupled_weight_decay", False) else float(group.get("weight_decay", 0) or 0)
