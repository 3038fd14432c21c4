"""One rule for each of torch's optimizers: what becomes of a unit of gradient, and by what it is divided.

The step for a unit of gradient is α_t·G/P, with P = √v̂ + ε for an adaptive optimizer and 1 for SGD, and with G what
momentum makes of the sequence of gradients:

| optimizer | G(1), constant gradient | G(-1), alternating | P |
|---|---|---|---|
| SGD | 1 | 1 | 1 |
| heavy ball μ, dampening τ | (1-τ)/(1-μ) | (1-τ)/(1+μ) | 1 |
| Nesterov μ | 1/(1-μ) | (1+2μ)/(1+μ) | 1 |
| RMSprop, momentum μ | 1/(1-μ) | 1/(1+μ) | √v + ε, centred √(v - m²) + ε |
| Adam, AdamW, AMSGrad | 1 | (1-β₁)/(1+β₁) | √v̂ + ε |
| NAdam | a(1-β₁ᵗ) + b | a(1-β₁)/(1+β₁) + b | √v̂ + ε |
| Adagrad | 1 | 1 | √s + ε |

with NAdam's a = μ_{t+1}/(1-Πμ·μ_{t+1}), b = (1-μ_t)/(1-Πμ), and Adagrad's α_t = α/(1 + (t-1)·decay).

Two things rest on it. The metric of a proximal step is D = α_t·G(1)/P. And on a quadratic with curvature h an optimizer
loses stability where the iterates change sign at every step, at α_t·G(-1)·h/P = 2 (Cohen et al. 2021, appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, NAdam, Optimizer, RMSprop

from nonsmooth.torch_optimizers.metric import AdaptiveStep, UnitStep, number

Group = Mapping[str, Any]
State = Mapping[str, Any]
Number = float | Tensor

LONGEST, WARM_UP = 8.0, 50
"""c = min(t/50, 8) after t steps: where gradients arrive, the prox may move a weight c times as far as the loss can.

Any c > 1 keeps the fixed points. A small one at first, because the root mean square of few gradients tells little about
those to come: behind a gate that starts shut they grow from almost nothing. A large one later, because a gradient that
grows while the penalty pulls is ahead of its own root mean square, and could hold the penalty at c times of that.
"""

LONGEST_ASLEEP, WARM_UP_ASLEEP = 2.0, 1000
"""d = 2t/(t + 1000): where no gradient has ever arrived, the prox may move a weight by d times the step size."""


class Rule:
    """One optimizer's part of the table above; this one's is that of an adaptive optimizer without momentum.

    Its functions take the options of a group and the state of a parameter, or the states of several as tensors of one
    number for each. None of them waits for a device.

    Attributes:
        threshold: where the optimizer loses stability, as a formula.
        adaptive: whether P is more than 1.
    """

    threshold: str
    adaptive = True

    def rate(self, group: Group, state: State) -> Number:
        """α_t."""
        del state
        return number(group["lr"])

    forward = rate
    """α_t·G(1)."""

    def alternating(self, group: Group, state: State) -> Number:
        """G(-1)."""
        del group, state
        return 1.0

    def correction(self, group: Group, state: State) -> Number:
        """√(v/v̂), where v is what the state holds."""
        del group, state
        return 1.0

    def early(self, group: Group, state: State) -> Number:
        """What the first steps are longer by than G(-1) has it, as a divisor; it tends to 1."""
        del group, state
        return 1.0

    def square(self, group: Group, state: State) -> Tensor:
        """V, of the parameter's shape.

        Raises:
            KeyError: the optimizer has not moved the parameter yet.
        """
        raise NotImplementedError

    def mean(self, group: Group, state: State) -> Tensor | None:
        """M, where v is centred."""
        del group, state
        return None

    def numbers(self, group: Group, state: State) -> dict[str, Any]:
        """The numbers of `AdaptiveStep`: of D, and of the limit D(c√v̂ + dε) after t steps."""
        count, full = number(state["step"]), self.forward(group, state)
        correction, epsilon = self.correction(group, state), group["eps"]
        ratio = count / WARM_UP
        times: Any = ratio.clamp(max=LONGEST) if isinstance(ratio, Tensor) else min(ratio, LONGEST)
        asleep = LONGEST_ASLEEP * count / (count + WARM_UP_ASLEEP)
        return {
            "scale": full * correction,
            "epsilon": epsilon * correction,
            "full": full,
            "times": times,
            "slack": (times - asleep) * epsilon,
        }

    def step(self, group: Group, state: State) -> UnitStep:
        """D, after a step of the optimizer's own."""
        numbers = self.numbers(group, state)
        return AdaptiveStep(square=self.square(group, state), mean=self.mean(group, state), **numbers)


class SGDRule(Rule):
    """D = α without momentum, α(1-τ)/(1-μ) with momentum μ and dampening τ, α/(1-μ) with Nesterov's."""

    threshold = "2/(α·G), G = (1-τ)/(1+μ), Nesterov (1+2μ)/(1+μ), without momentum 1"
    adaptive = False

    def forward(self, group: Group, state: State) -> Number:
        """α, α(1-τ)/(1-μ) or α/(1-μ)."""
        rate = self.rate(group, state)
        return rate * (1 - group["dampening"]) / (1 - group["momentum"]) if group["momentum"] else rate

    def step(self, group: Group, state: State) -> UnitStep:
        """D."""
        return self.forward(group, state)

    def alternating(self, group: Group, state: State) -> Number:
        """1, (1-τ)/(1+μ) or (1+2μ)/(1+μ)."""
        del state
        momentum = number(group["momentum"])
        past = 2 * momentum if group["nesterov"] else -number(group["dampening"])
        return (1 + past) / (1 + momentum) if momentum else 1.0


class AdamRule(Rule):
    """D = α/(√v̂ + ε), v̂ the bias-corrected square, under AMSGrad its running maximum; AdamW likewise."""

    threshold = "(2-α·wd)(1+β₁)/((1-β₁)α) on P = (1-β₁ᵗ)(√v̂ + ε), wd if decoupled"

    def alternating(self, group: Group, state: State) -> Number:
        """(1-β₁)/(1+β₁)."""
        del state
        first = number(group["betas"][0])
        return (1 - first) / (1 + first)

    def early(self, group: Group, state: State) -> Number:
        """1-β₁ᵗ (Cohen et al. 2022, "Adaptive gradient methods at the edge of stability")."""
        return 1 - number(group["betas"][0]) ** number(state["step"])

    def correction(self, group: Group, state: State) -> Number:
        """√(1-β₂ᵗ)."""
        value: Number = (1 - number(group["betas"][1]) ** number(state["step"])) ** 0.5
        return value

    def square(self, group: Group, state: State) -> Tensor:
        """V."""
        square: Tensor = state["max_exp_avg_sq" if group.get("amsgrad", False) else "exp_avg_sq"]
        return square


class NAdamRule(AdamRule):
    """D = α(a(1-β₁ᵗ) + b)/(√v̂ + ε), whose numerator tends to α."""

    threshold = "2(1+β₁)/((a(1-β₁) + b(1+β₁))α) on P = √v̂ + ε"

    def _terms(self, group: Group, state: State) -> tuple[Number, Number]:
        """The shares a of the average and b of the present gradient."""
        count, product, first = number(state["step"]), number(state["mu_product"]), group["betas"][0]
        now, following = (first * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (count, count + 1))
        return following / (1 - product * following), (1 - now) / (1 - product)

    def forward(self, group: Group, state: State) -> Number:
        """The rate times a(1-β₁ᵗ) + b."""
        past, present = self._terms(group, state)
        value: Number = self.rate(group, state) * (present + past * (1 - group["betas"][0] ** number(state["step"])))
        return value

    def alternating(self, group: Group, state: State) -> Number:
        """A(1-β₁)/(1+β₁) + b."""
        past, present = self._terms(group, state)
        value: Number = past * super().alternating(group, state) + present
        return value

    def early(self, group: Group, state: State) -> Number:
        """1: a and b have it."""
        del group, state
        return 1.0


class RMSpropRule(Rule):
    """D = α/((√v + ε)(1-μ)), centred with √(v - m²)."""

    threshold = "(2+2μ)/α on P = √v + ε"

    def forward(self, group: Group, state: State) -> Number:
        """The rate over 1-μ."""
        rate = self.rate(group, state)
        return rate / (1 - group["momentum"]) if group["momentum"] else rate

    def alternating(self, group: Group, state: State) -> Number:
        """1/(1+μ)."""
        del state
        return 1 / (1 + number(group["momentum"]))

    def square(self, group: Group, state: State) -> Tensor:
        """V."""
        del group
        square: Tensor = state["square_avg"]
        return square

    def mean(self, group: Group, state: State) -> Tensor | None:
        """M, if centred."""
        return state["grad_avg"] if group["centered"] else None


class AdagradRule(Rule):
    """D = α_t/(√s + ε)."""

    threshold = "2/α_t on P = √s + ε"

    def rate(self, group: Group, state: State) -> Number:
        """α/(1 + (t-1)·decay)."""
        value: Number = number(group["lr"]) / (1 + (number(state["step"]) - 1) * group["lr_decay"])
        return value

    forward = rate

    def square(self, group: Group, state: State) -> Tensor:
        """S."""
        del group
        square: Tensor = state["sum"]
        return square

    def numbers(self, group: Group, state: State) -> dict[str, Any]:
        """S is a sum, so the root mean square of the gradients is √(s/t)."""
        numbers, count = super().numbers(group, state), number(state["step"])
        share = (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)) ** -0.5
        return {**numbers, "times": numbers["times"] * share, "slack": numbers["slack"] * share}


RULES: Mapping[type[Optimizer], Rule] = {
    SGD: SGDRule(),
    Adam: AdamRule(),  # AdamW is a subclass
    NAdam: NAdamRule(),
    RMSprop: RMSpropRule(),
    Adagrad: AdagradRule(),
}

KNOWN = "SGD, Adam, AdamW, NAdam, RMSprop, Adagrad and their subclasses"


def rule_of(kind: type[Optimizer]) -> Rule:
    """The rule of an optimizer's class or of the nearest one that it inherits from.

    Raises:
        ValueError: there is none.
    """
    for ancestor in kind.__mro__:
        if ancestor in RULES:
            return RULES[ancestor]
    raise ValueError(f"optimizer is a {kind.__name__}; its step for a constant gradient is known for {KNOWN}")
