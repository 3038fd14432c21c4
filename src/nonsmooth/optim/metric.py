"""The step D that an optimiser takes, in its steady state, for a unit of constant gradient: the metric of its prox.

Thresholding coordinate j by λDⱼ makes λ mean the same number under every optimiser: at a fixed point
w = prox_D(w - D∇f(w)) the optimality condition 0 ∈ ∇f(w) + λ∂R(w) holds, whatever D is. Each function here reads D off
the state that torch's optimiser leaves after its step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, NAdam, Optimizer, RMSprop

from nonsmooth.penalties.penalty import check_not_negative

Group = Mapping[str, Any]
Block = Callable[[Tensor], Tensor]


SMALLEST_DIVISOR = 1e-30
"""Beyond, the inverse of a step size leaves the range of float32."""

LONGEST, WARM_UP = 8.0, 50
"""c = min(t/50, 8) after t steps: where gradients arrive, the prox may move a weight c times as far as the loss can.

Any c > 1 keeps the fixed points. A small one at first, because the root mean square of few gradients tells little about
those to come: behind a gate that starts shut they grow from almost nothing. A large one later, because a gradient that
grows while the penalty pulls is ahead of its own root mean square, and could hold the penalty at c times of that.
"""

LONGEST_ASLEEP, WARM_UP_ASLEEP = 2.0, 1000
"""d = 2t/(t + 1000): where no gradient has ever arrived, the prox may move a weight by d times the step size."""


@dataclass(eq=False)  # torch's compiler cannot build a frozen one
class AdaptiveStep:
    """D = scale/(√square + epsilon), or with √(square - mean²), for the whole of a parameter or a part of it.

    Attributes:
        scale: a number or a tensor of no dimensions.
        square: the running square of the gradients, of the parameter's shape.
        epsilon: a number or a tensor of no dimensions.
        mean: the running mean of the gradients where the square is centred.
        halted: a condition that lies on the device; where it holds there is no step at all.
        full: D(√v̂ + ε), how far the loss moves a weight at full speed; None where the prox has no limit.
        times, slack: c and (c - d)ε: the limit of the prox is c·full - (c - d)εD = D(c√v̂ + dε).
    """

    scale: float | Tensor
    square: Tensor
    epsilon: float | Tensor
    mean: Tensor | None = None
    halted: Tensor | None = None
    full: float | Tensor | None = None
    times: float | Tensor = 0.0
    slack: float | Tensor = 0.0

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
        shift = torch.tensor(epsilon / scale, dtype=step.dtype, device="cpu")
        return torch.add(shift, step, alpha=1 / scale, out=step).reciprocal_()

    def limit(self, step: Tensor, block: Block = lambda tensor: tensor) -> Tensor | None:
        """How far the prox may move each weight, D(c√v̂ + dε); None for as far as it likes.

        λD alone is unbounded: where no gradient has arrived yet it is λα/ε, which wipes out a layer behind a gate that
        is still shut. Once c > 1 the limit changes no fixed point: there the loss moves a weight by D|g| < cD√v̂.

        Args:
            step: D on that part, as a call gives it.
            block: takes a part of a tensor of the parameter's shape.

        Returns:
            A tensor of the part's shape; for a complex parameter with the limits of Re and Im in a last dimension.
        """
        if self.full is None:
            return None
        step = _real(step)
        if self.mean is not None:
            # The root of a variance may be far below √v̂, and then the loss moves a weight further.
            root = _real(block(self.square)).to(step.dtype).sqrt()
            return step * ((root + self.epsilon) * self.times - self.slack)
        fastest, slack = self.times * self.full, self.slack
        if isinstance(fastest, Tensor) or isinstance(slack, Tensor) or torch.compiler.is_compiling():
            return fastest - step * slack
        return torch.add(torch.tensor(fastest, dtype=step.dtype, device="cpu"), step, alpha=-slack)  # one pass

    def detached(self) -> AdaptiveStep:
        """The same step with tensors that are no state of an optimiser: those torch's compiler knows one by one."""
        mean = None if self.mean is None else self.mean.detach()
        return dataclasses.replace(self, square=self.square.detach(), mean=mean)

    def laid_out_like(self, parameter: Tensor) -> AdaptiveStep:
        """The same step, its tensors in memory as a parameter is; a loaded state may lie there in another way."""
        if self.square.stride() == parameter.stride():
            return self

        def laid_out(tensor: Tensor) -> Tensor:
            return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)

        mean = None if self.mean is None else laid_out(self.mean)
        return dataclasses.replace(self, square=laid_out(self.square), mean=mean)

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
        ValueError: the step size is no number of at least 0, the momentum is 1 or more, or the dampening above 1.
    """
    rate = _number(group.get("lr", 0.0))
    if not isinstance(rate, Tensor):
        check_not_negative("lr", rate)
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


def _limit(group: Group, count: float | Tensor, full: float | Tensor) -> dict[str, Any]:
    """The numbers of the limit D(c√v̂ + dε) after t steps.

    Args:
        group: holds ε.
        count: t.
        full: D(√v̂ + ε).
    """
    ratio = count / WARM_UP
    times = ratio.clamp(max=LONGEST) if isinstance(ratio, Tensor) else min(ratio, LONGEST)
    asleep = LONGEST_ASLEEP * count / (count + WARM_UP_ASLEEP)
    return {"full": full, "times": times, "slack": (times - asleep) * group["eps"]}


def adam_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v̂ + ε), v̂ the bias-corrected square, under AMSGrad its running maximum."""
    rate, count = _number(group["lr"]), _number(state["step"])
    correction = (1 - _number(group["betas"][1]) ** count) ** 0.5
    square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return AdaptiveStep(rate * correction, square, group["eps"] * correction, **_limit(group, count, rate))


def nadam_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v̂ + ε) times what NAdam's two corrected terms make of a constant gradient, which tends to 1."""
    count, product = _number(state["step"]), _number(state["mu_product"])
    first, second = group["betas"]
    correction = (1 - second**count) ** 0.5
    now, following = (first * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (count, count + 1))
    response = (1 - now) / (1 - product) + following * (1 - first**count) / (1 - product * following)
    rate = _number(group["lr"]) * response
    square = state["exp_avg_sq"]
    return AdaptiveStep(rate * correction, square, group["eps"] * correction, **_limit(group, count, rate))


def rmsprop_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α/(√v + ε), centred with √(v - m²), with momentum μ divided by 1 - μ."""
    rate = _number(group["lr"])
    scale = rate / (1 - group["momentum"]) if group["momentum"] else rate
    mean = state["grad_avg"] if group["centered"] else None
    limit = _limit(group, _number(state["step"]), scale)
    return AdaptiveStep(scale, state["square_avg"], group["eps"], mean, **limit)


def adagrad_step(group: Group, state: Mapping[str, Any]) -> UnitStep:
    """α_t/(√s + ε) with α_t = α/(1 + (t-1)·decay)."""
    count = _number(state["step"])
    rate = _number(group["lr"]) / (1 + (count - 1) * group["lr_decay"])
    # Its square is a sum, so the root mean square of the gradients is √(s/t).
    limit = _limit(group, count, rate)
    share = (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)) ** -0.5
    limit = {**limit, "times": limit["times"] * share, "slack": limit["slack"] * share}
    return AdaptiveStep(rate, state["sum"], group["eps"], **limit)


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
