"""The step D that an optimizer takes, in its steady state, for a unit of constant gradient: the metric of its prox.

Thresholding coordinate j by λDⱼ makes λ mean the same number under every optimizer: at a fixed point
w = prox_D(w - D∇f(w)) the optimality condition 0 ∈ ∇f(w) + λ∂R(w) holds, whatever D is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Block = Callable[[Tensor], Tensor]
"""Takes a part of a tensor of the parameter's shape."""

SMALLEST_DIVISOR = 1e-30
"""Beyond, the inverse of a step size leaves the range of float32."""


@dataclass(eq=False)  # torch's compiler cannot build a frozen one
class AdaptiveStep:
    """D = scale/(√square + epsilon), or with √(square - mean²), for the whole of a parameter or a part of it.

    Attributes:
        scale: a number or a tensor of no dimensions.
        epsilon: a number or a tensor of no dimensions.
        square: the running square of the gradients, of the parameter's shape.
        mean: the running mean of the gradients where the square is centred.
        full: D(√v̂ + ε), how far the loss moves a weight at full speed; None where the prox has no limit.
        times, slack: c and (c - d)ε: the limit of the prox is c·full - (c - d)εD = D(c√v̂ + dε).
    """

    scale: float | Tensor
    epsilon: float | Tensor
    square: Tensor
    mean: Tensor | None = None
    full: float | Tensor | None = None
    times: float | Tensor = 0.0
    slack: float | Tensor = 0.0

    def __call__(self, block: Block | None = None) -> Tensor:
        """D on the part that `block` takes of a tensor of the parameter's shape, on all of it without one.

        For a complex parameter Re D and Im D are the steps of the real and the imaginary part, as torch keeps them.
        """
        square = _part(self.square, block)
        if self.mean is not None:
            mean = _part(self.mean, block)
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

    def limit(self, step: Tensor, block: Block | None = None) -> Tensor | None:
        """How far the prox may move each weight, D(c√v̂ + dε); None for as far as it likes.

        λD alone is unbounded: where no gradient has arrived yet it is λα/ε, which wipes out a layer behind a gate that
        is still shut. Once c > 1 the limit changes no fixed point: there the loss moves a weight by D|g| < cD√v̂.

        Args:
            step: D on that part, as a call gives it.
            block: as for a call.

        Returns:
            A tensor of the part's shape; for a complex parameter with the limits of Re and Im in a last dimension.
        """
        if self.full is None:
            return None
        step = torch.view_as_real(step) if step.is_complex() else step
        if self.mean is not None:
            # The root of a variance may be far below √v̂, and then the loss moves a weight further.
            root = _part(self.square, block).to(step.dtype).sqrt()
            return step * ((root + self.epsilon) * self.times - self.slack)
        fastest, slack = self.times * self.full, self.slack
        if isinstance(fastest, Tensor) or isinstance(slack, Tensor) or torch.compiler.is_compiling():
            return fastest - step * slack
        return torch.add(torch.tensor(fastest, dtype=step.dtype, device="cpu"), step, alpha=-slack)  # one pass

    def of_parts(self, take: Callable[[Any], Any]) -> AdaptiveStep:
        """The same step with what `take` makes of each field."""
        return dataclasses.replace(self, **{each.name: take(getattr(self, each.name)) for each in _FIELDS})

    def laid_out_like(self, parameter: Tensor) -> AdaptiveStep:
        """The same step, its tensors in memory as a parameter is; a loaded state may lie there in another way."""
        if self.square.stride() == parameter.stride():
            return self

        def laid_out(tensor: Tensor) -> Tensor:
            return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)

        mean = None if self.mean is None else laid_out(self.mean)
        return dataclasses.replace(self, square=laid_out(self.square), mean=mean)


_FIELDS = dataclasses.fields(AdaptiveStep)

UnitStep = float | Tensor | AdaptiveStep
"""D: one number (or a tensor of no dimensions) for all coordinates, or one for each."""


def _part(tensor: Tensor, block: Block | None) -> Tensor:
    part = tensor if block is None else block(tensor)
    return torch.view_as_real(part) if part.is_complex() else part


def number(value: Any) -> float | Tensor:
    """A tensor of one element as a number where it lies on the host; on a device, which nobody may wait for, as it is.

    It also stays a tensor where a compiler would have to look at its value, or autograd would lose it. A tensor of
    several numbers, one for each of several parameters, stays what it is.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        return value  # type: ignore[no-any-return]
    if value.device.type == "cpu" and not value.requires_grad and not torch.compiler.is_compiling():
        return float(value)
    return value.reshape(()) if value.ndim else value
