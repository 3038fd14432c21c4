"""The step D that an optimiser takes, in its steady state, for a unit of constant gradient: the metric of its prox.

Thresholding coordinate j by λDⱼ makes λ mean the same number under every optimiser: at a fixed point
w = prox_D(w - D∇f(w)) the optimality condition 0 ∈ ∇f(w) + λ∂R(w) holds, whatever D is. Each function here reads D off
the state that torch's optimiser leaves after its step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, NAdam, Optimizer, RMSprop

Group = Mapping[str, Any]
Block = Callable[[Tensor], Tensor]


SMALLEST_DIVISOR = 1e-30
"""Beyond, the inverse of a step size leaves the range of float32."""


@dataclass(eq=False)  # torch's compiler cannot build a frozen one
class AdaptiveStep:
    """D = scale/(√square + epsilon), or with √(square - mean²), for the whole of a parameter or a part of it.

    Attributes:
        scale: a number or a tensor of no dimensions.
        square: the running square of the gradients, of the parameter's shape.
        epsilon: a number or a tensor of no dimensions.
        mean: the running mean of the gradients where the square is centred.
        halted: a condition that lies on the device; where it holds there is no step at all.
    """

    scale: float | Tensor
    square: Tensor
    epsilon: float | Tensor
    mean: Tensor | None = None
    halted: Tensor | None = None

    def __call__(self, block: Block = lambda tensor: tensor) -> Tensor:
        """D on the part that `block` takes of a tensor of the parameter's shape.

        For a complex parameter Re D and Im D are the steps of the real and the imaginary part, as torch keeps them.
        """
        square = _real(block(self.square))
        if self.mean is not None:
            mean = _real(block(self.mean))
            if torch.is_grad_enabled() and mean.requires_grad:
                mean = mean.clone()  # autograd keeps it, and the next step overwrites it
            # A variance; rounding can take it below 0.
            square = torch.addcmul(square, mean, mean, value=-1).clamp(min=0)
        # Half precision would round D itself to three digits.
        square = square.to(torch.promote_types(square.dtype, torch.float32))
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and square.requires_grad):
            step = self.scale / (square.sqrt() + self.epsilon)
        else:
            step = self._overwriting(square)
        if self.halted is not None:
            # Before its first step an optimiser has neither a square nor an ε, and D is 0/0.
            step = torch.where(self.halted, 0.0, step)
        return torch.view_as_complex(step) if self.square.is_complex() else step

    def _overwriting(self, square: Tensor) -> Tensor:
        """The same with one buffer, in as few passes as there are."""
        # 1/(1/√s): on a CPU torch's rsqrt takes a third of the time of its sqrt, and 0 comes out as 0.
        step = square.rsqrt().reciprocal_()
        scale, epsilon = self.scale, self.epsilon
        on_host = step.device.type == "cpu"
        if isinstance(scale, Tensor) or isinstance(epsilon, Tensor) or not on_host or scale < SMALLEST_DIVISOR:
            return step.add_(epsilon).reciprocal_().mul_(scale)
        # 1/(√s/scale + ε/scale), in which addition takes a factor at no cost; the shift lies on the CPU as well.
        shift = torch.tensor(epsilon / scale, dtype=step.dtype)
        return torch.add(shift, step, alpha=1 / scale, out=step).reciprocal_()

    def halted_where(self, condition: Tensor) -> AdaptiveStep:
        """The same step, or none at all if a condition that lies on the device holds."""
        return dataclasses.replace(self, halted=condition)


UnitStep = float | Tensor | AdaptiveStep
"""D: one number (or a tensor of no dimensions) for all coordinates, or one for each."""


ReadUnitStep = Callable[[Group, Mapping[str, Any]], UnitStep]
"""From the options of a group and the state of a parameter to D."""


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _number(value: Any) -> float | Tensor:
    """A tensor of one element as a number where it lies on the host; on a device, which nobody may wait for, as it is.

    It also stays a tensor where a compiler would have to look at its value, or autograd would lose it.
    """
    if not isinstance(value, Tensor):
        return value  # type: ignore[no-any-return]
    if value.device.type == "cpu" and not value.requires_grad and not torch.compiler.is_compiling():
        return float(value)
    return value.reshape(())


def check_options(group: Group) -> None:
    """Raise unless the options of a group leave a step for a unit of constant gradient.

    Raises:
        ValueError: the step size is negative, or the momentum is 1 or more.
    """
    rate = _number(group.get("lr", 0.0))
    if not isinstance(rate, Tensor) and not 0 <= rate < math.inf:
        raise ValueError(f"lr is {rate!r}; accepted are finite numbers of at least 0")
    for name, accepted in (("momentum", "below 1"), ("dampening", "of at most 1")):
        value = group.get(name, 0)
        if value > 1 or (value == 1 and name == "momentum"):
            raise ValueError(
                f"{name} is {value!r}; accepted with a penalty are numbers {accepted}, for which a constant gradient "
                "leads to a constant step forward"
            )


def sgd_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α without momentum, α(1-τ)/(1-μ) with momentum μ and dampening τ, Nesterov's or not."""
    del state
    rate = _number(group["lr"])
    return rate * (1 - group["dampening"]) / (1 - group["momentum"]) if group["momentum"] else rate


def adam_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v̂ + ε), v̂ the bias-corrected square, under AMSGrad its running maximum."""
    correction = (1 - _number(group["betas"][1]) ** _number(state["step"])) ** 0.5
    square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return AdaptiveStep(_number(group["lr"]) * correction, square, group["eps"] * correction)


def nadam_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v̂ + ε) times what NAdam's two corrected terms make of a constant gradient, which tends to 1."""
    count, product = _number(state["step"]), _number(state["mu_product"])
    first, second = group["betas"]
    correction = (1 - second**count) ** 0.5
    now, following = (first * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (count, count + 1))
    response = (1 - now) / (1 - product) + following * (1 - first**count) / (1 - product * following)
    rate = _number(group["lr"]) * response * correction
    return AdaptiveStep(rate, state["exp_avg_sq"], group["eps"] * correction)


def rmsprop_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v + ε), centred with √(v - m²), with momentum μ divided by 1 - μ."""
    rate = _number(group["lr"])
    scale = rate / (1 - group["momentum"]) if group["momentum"] else rate
    return AdaptiveStep(scale, state["square_avg"], group["eps"], state["grad_avg"] if group["centered"] else None)


def adagrad_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α_t/(√s + ε) with α_t = α/(1 + (t-1)·decay)."""
    rate = _number(group["lr"]) / (1 + (_number(state["step"]) - 1) * group["lr_decay"])
    return AdaptiveStep(rate, state["sum"], group["eps"])


UNIT_STEPS: Mapping[type[Optimizer], ReadUnitStep] = {
    SGD: sgd_step,
    Adam: adam_step,  # AdamW is a subclass
    NAdam: nadam_step,
    RMSprop: rmsprop_step,
    Adagrad: adagrad_step,
}
"""The function that reads D, by torch's optimiser; subclasses inherit it."""


def unit_step_of(kind: type[Optimizer]) -> ReadUnitStep:
    """The function that reads D for an optimiser's class.

    Raises:
        ValueError: the class is none of those whose steady state is known.
    """
    for ancestor in kind.__mro__:
        if ancestor in UNIT_STEPS:
            return UNIT_STEPS[ancestor]
    raise ValueError(
        f"optimizer is a {kind.__name__}; its step for a constant gradient is known for SGD, Adam, AdamW, NAdam, "
        "RMSprop, Adagrad and their subclasses"
    )
