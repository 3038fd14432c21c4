"""Four activations that separate two things: the shape of ReLU or GELU, and whether the function has kinks.

|            | with kinks              | smooth (C¹ or better)  |
|------------|-------------------------|------------------------|
| ReLU shape | `nn.ReLU`               | `SmoothReLU`           |
| GELU shape | `PiecewiseLinearGELU`   | `nn.GELU`              |

The two in a row differ by at most 0.025 anywhere with the default widths; the two in a column by up to 0.17.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


class SmoothReLU(nn.Module):
    """ReLU with its kink rounded off: (x + ε)² / (4ε) on [-ε, ε], exactly 0 below and x above.

    Once continuously differentiable, with a derivative of Lipschitz constant 1 / (2ε).

    Args:
        half_width: ε > 0.

    Raises:
        ValueError: ε is not positive.
    """

    def __init__(self, half_width: float = 0.1) -> None:
        super().__init__()
        if not half_width > 0:
            raise ValueError(f"half_width is {half_width}; accepted are positive numbers")
        self.half_width = half_width

    @property
    def distance(self) -> float:
        """The largest distance to ReLU, ε / 4, at 0."""
        return self.half_width / 4

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply to every element."""
        outputs: Tensor = _SmoothReLU.apply(inputs, self.half_width)  # type: ignore[no-untyped-call]
        return outputs

    def extra_repr(self) -> str:
        """The width, for `print(model)`."""
        return f"half_width={self.half_width}"


class _SmoothReLU(torch.autograd.Function):
    """Few passes over memory, so that it costs about as much as GELU."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, half_width: float) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.half_width = half_width
        # With t = clamp(x, -ε, ε): (t + ε)²/(4ε) is the rounded corner, and x - t for x > ε continues it.
        corner = inputs.clamp(-half_width, half_width).add_(half_width).square_()
        return (inputs - half_width).clamp_(min=0).add_(corner, alpha=1 / (4 * half_width))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inputs,) = ctx.saved_tensors
        # clamp((x + ε)/(2ε), 0, 1) is hardsigmoid(3x/ε): one pass instead of three.
        slope = torch.nn.functional.hardsigmoid(inputs * (3 / ctx.half_width))
        return slope.mul_(gradients[0]), None


class PiecewiseLinearGELU(nn.Module):
    """GELU interpolated linearly between equally spaced knots, exactly 0 below them and x above.

    Continuous, and not differentiable at any knot; 0 is one of them, since that is where preactivations gather. The
    outermost knots lie on the asymptotes instead of on GELU, which moves them by bound·Φ(-bound).

    Args:
        bound: the knots lie in [-bound, bound].
        pieces: number of pieces between the outermost knots, an even number.

    Raises:
        ValueError: `bound` is not positive, or `pieces` is not a positive even number.
    """

    def __init__(self, bound: float = 4.0, pieces: int = 16) -> None:
        super().__init__()
        if not bound > 0:
            raise ValueError(f"bound is {bound}; accepted are positive numbers")
        if pieces < 2 or pieces % 2:
            raise ValueError(f"pieces is {pieces}; accepted are positive even numbers, so that 0 is a knot")
        self.bound = bound
        self.pieces = pieces

    @property
    def knots(self) -> tuple[float, ...]:
        """The points where it is not differentiable."""
        return tuple(_knots(self.bound, self.pieces).tolist())

    @property
    def distance(self) -> float:
        """A bound on the distance to GELU: h²/8 · max|GELU''| = h²φ(0)/4, and bound·Φ(-bound) for the outer knots."""
        spacing = 2 * self.bound / self.pieces
        return spacing**2 / (4 * math.sqrt(2 * math.pi)) + self.bound * math.erfc(self.bound / math.sqrt(2)) / 2

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply to every element."""
        outputs: Tensor = _PiecewiseLinear.apply(inputs, self.bound, self.pieces)  # type: ignore[no-untyped-call]
        return outputs

    def extra_repr(self) -> str:
        """The knots, for `print(model)`."""
        return f"bound={self.bound}, pieces={self.pieces}"


def _knots(bound: float, pieces: int) -> Tensor:
    return torch.linspace(-bound, bound, pieces + 1, dtype=torch.float64)


@lru_cache(maxsize=16)
def _pieces(bound: float, pieces: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Slope and intercept of every piece, the two outer half-lines included: shape (pieces + 2,) each."""
    knots = _knots(bound, pieces)
    values = nn.functional.gelu(knots)
    values[0], values[-1] = 0.0, bound
    slopes = values.diff() / knots.diff()
    intercepts = values[:-1] - slopes * knots[:-1]
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    slopes, intercepts = torch.cat((zero, slopes, one)), torch.cat((zero, intercepts, zero))
    return slopes.to(device, dtype), intercepts.to(device, dtype)


class _PiecewiseLinear(torch.autograd.Function):
    """A table look-up: the index of the piece, its slope and its intercept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, bound: float, pieces: int) -> Tensor:
        slopes, intercepts = _pieces(bound, pieces, inputs.dtype, inputs.device)
        # In memory order, so that the look-ups below see one long vector whatever the memory format is.
        channels_last = inputs.dim() == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
        dense = inputs.permute(0, 2, 3, 1) if channels_last else inputs.contiguous()
        per_unit = pieces / (2 * bound)
        # Truncation rounds towards 0, so everything is kept positive: piece 0 is the half-line below the knots. fmax
        # also takes NaN there, whose product with the slope is NaN again.
        position = dense.mul(per_unit).add_(pieces / 2 + 1)
        index = torch.fmax(position, slopes.new_zeros(())).clamp_(max=pieces + 1).to(torch.int32).view(-1)
        slope = slopes.index_select(0, index).view(dense.shape)
        outputs = intercepts.index_select(0, index).view(dense.shape).addcmul_(slope, dense)
        if channels_last:
            slope, outputs = slope.permute(0, 3, 1, 2), outputs.permute(0, 3, 1, 2)
        ctx.save_for_backward(slope)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0], None, None


@dataclass(frozen=True)
class Activation:
    """One cell of the 2×2 table.

    Attributes:
        name: identifier, the key in `ACTIVATIONS`.
        label: what a reader sees.
        shape: "relu" or "gelu".
        smooth: whether it is continuously differentiable.
        make: a new module.
    """

    name: str
    label: str
    shape: str
    smooth: bool
    make: Callable[[], nn.Module]


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("relu", "ReLU", "relu", False, nn.ReLU),
        Activation("smooth-relu", "smooth ReLU", "relu", True, SmoothReLU),
        Activation("piecewise-linear-gelu", "piecewise linear GELU", "gelu", False, PiecewiseLinearGELU),
        Activation("gelu", "GELU", "gelu", True, nn.GELU),
    )
}
