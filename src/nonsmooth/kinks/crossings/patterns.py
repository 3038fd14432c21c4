"""On which side of its kinks each entry of a tensor lies: the pattern of an operation, and its distance to a kink.

An element-wise operation has break points b₁ < b₂ < …; the region of an entry is the number of break points below it.
An operation that picks entries has the index that it picks. The pattern is taken from the input before the operation
runs, so that operations in place need nothing special.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.table.rules import Call, elu_rule
from nonsmooth.kinks.table.smoothness import Smoothness

Bound = float | Tensor


@dataclass(frozen=True)
class Pattern:
    """The pattern of one call.

    Attributes:
        regions: region or index of every entry, an integer tensor.
        near: number of entries within ε of a kink, and not on it; None where the distance is not measured.
        on_kink: number of entries at distance 0.
        flat: regions in which the operation is constant.
    """

    regions: Tensor
    near: int | None = None
    on_kink: int | None = None
    flat: tuple[int, ...] = ()

    @classmethod
    def at(cls, regions: Tensor, distance: Tensor, epsilon: float, flat: tuple[int, ...] = ()) -> Pattern:
        """With the distance of each entry from the next kink."""
        near = (distance > 0) & (distance <= epsilon)
        return cls(regions, int(near.sum()), int((distance == 0).sum()), flat)


@dataclass(frozen=True)
class Breaks:
    """An element-wise operation: its input, its break points from below, and the regions where it is constant."""

    point: Tensor
    at: tuple[Bound, ...]
    flat: tuple[int, ...] = ()


def _at(*points: float, flat: tuple[int, ...] = ()) -> Callable[[Call], Breaks]:
    return lambda call: Breaks(call.argument("self"), points, flat)


def _elu(call: Call) -> Breaks | None:
    return None if elu_rule(call).smoothness is Smoothness.C1 else Breaks(call.argument("self"), (0.0,))


def _hardtanh(call: Call) -> Breaks:
    return Breaks(call.argument("self"), (call.argument("min_val"), call.argument("max_val")), (0, 2))


def _shrink(call: Call) -> Breaks:
    width = call.argument("lambd")
    return Breaks(call.argument("self"), (-width, width), (1,))


def _clamp(call: Call) -> Breaks:
    low, high = call.argument("min"), call.argument("max")
    if low is None or high is None:
        return Breaks(call.argument("self"), (low if high is None else high,), (0,) if high is None else (1,))
    return Breaks(call.argument("self"), (low, high), (0, 2))


def _pair(call: Call) -> Breaks:
    # A product, since truth values cannot be subtracted.
    return Breaks(call.argument("self") + -1.0 * call.argument("other"), (0.0,))


def _reversed_pair(call: Call) -> Breaks:
    """Where equality belongs to the other side."""
    return Breaks(-1.0 * call.argument("self") + call.argument("other"), (0.0,))


def _norm(call: Call) -> Breaks | None:
    return Breaks(call.argument("self"), (0.0,)) if call.argument("ord") == 1 else None


ELEMENTWISE: dict[str, Callable[[Call], Breaks | None]] = {
    "relu": _at(0.0, flat=(0,)),
    "hardtanh": _hardtanh,
    "relu6": _at(0.0, 6.0, flat=(0, 2)),
    "hardsigmoid": _at(-3.0, 3.0, flat=(0, 2)),
    "hardswish": _at(-3.0, 3.0, flat=(0,)),
    "leaky_relu": _at(0.0),
    "_prelu_kernel": _at(0.0),
    "rrelu_with_noise": _at(0.0),
    "elu": _elu,
    "softshrink": _shrink,
    "hardshrink": _shrink,
    "threshold": lambda call: Breaks(call.argument("self"), (call.argument("threshold"),), (0,)),
    "clamp": _clamp,
    "clamp_min": lambda call: Breaks(call.argument("self"), (call.argument("min"),), (0,)),
    "clamp_max": lambda call: Breaks(call.argument("self"), (call.argument("max"),), (1,)),
    "abs": _at(0.0),
    "sign": _at(0.0),
    "sgn": _at(0.0),
    "heaviside": _at(0.0),
    "maximum": _pair,
    "minimum": _pair,
    "fmax": _pair,
    "fmin": _pair,
    # Their sides are what is made of a kink by hand, as in torch.where(x > 0, x, 0).
    "gt": _pair,
    "le": _pair,
    "ge": _reversed_pair,
    "lt": _reversed_pair,
    "linalg_vector_norm": _norm,
}

POOLS = {
    "max_pool1d": 1,
    "max_pool1d_with_indices": 1,
    "max_pool2d": 2,
    "max_pool2d_with_indices": 2,
    "max_pool3d": 3,
    "max_pool3d_with_indices": 3,
}
"""Poolings over windows, and over how many dimensions."""

EXTREMES = {"amax": False, "amin": True, "max": False, "min": True, "argmax": False, "argmin": True}
"""Reductions to an extreme entry, and whether it is the smallest."""

ROUNDINGS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "floor": (torch.floor, 0.0),
    "ceil": (torch.ceil, 0.0),
    "trunc": (torch.trunc, 0.0),
    "frac": (torch.trunc, 0.0),
    "round": (torch.round, 0.5),
}
"""Operations that jump at whole numbers, or halfway between: the number of the step, and where the jumps are."""

PICKING = {"adaptive_max_pool2d", "adaptive_max_pool3d", "cummax", "cummin", "fractional_max_pool2d",
           "fractional_max_pool3d", "kthvalue", "median", "nanmedian", "sort", "topk"}  # fmt: skip
"""They return the indices themselves; the distance to the next tie is not measured."""


def pattern_before(name: str, call: Call, epsilon: float) -> Pattern | None:
    """The pattern of a call, from its input; None if the input does not show it, or there is none."""
    if name in ELEMENTWISE:
        breaks = ELEMENTWISE[name](call)
        if breaks is not None:
            return None if breaks.point.is_complex() else _regions(breaks, epsilon)
    if name in ROUNDINGS:
        return _rounded(call, *ROUNDINGS[name], epsilon)
    if name in POOLS:
        return _picked(_windows(call, POOLS[name]), epsilon)
    if name in EXTREMES and not isinstance(call.argument("other"), Tensor):
        point = _along_last(call.argument("self"), call.argument("dim"))
        return _picked(-point if EXTREMES[name] else point, epsilon)
    if name == "linalg_vector_norm" and call.argument("ord") == torch.inf:
        return _picked(_along_last(call.argument("self").abs(), call.argument("dim")), epsilon)
    return None


def pattern_after(name: str, result: Any) -> Pattern | None:
    """The pattern that a call returned by itself."""
    return Pattern(result[1]) if name in PICKING and isinstance(result, tuple) else None


def _regions(breaks: Breaks, epsilon: float) -> Pattern:
    point = breaks.point
    regions = torch.zeros(point.shape, dtype=torch.uint8, device=point.device)
    distance = torch.full_like(point, torch.inf)
    for bound in breaks.at:
        regions = regions + (point > bound)
        distance = torch.minimum(distance, (point - bound).abs())
    return Pattern.at(regions, distance, epsilon, breaks.flat)


def _rounded(call: Call, step: Callable[[Tensor], Tensor], offset: float, epsilon: float) -> Pattern:
    scale = 10.0 ** (call.argument("decimals") or 0)
    point = call.argument("self") * scale
    jump = (point - offset).round() + offset
    distance = (point - jump).abs() / scale
    if step is torch.trunc:
        distance = distance.masked_fill(jump == 0, torch.inf)
    return Pattern.at(step(point).to(torch.int64), distance, epsilon)


def _picked(candidates: Tensor, epsilon: float) -> Pattern:
    """The index of the largest of the last dimension; the second largest tells how near a kink is."""
    index = candidates.argmax(-1)
    if candidates.shape[-1] == 1:
        return Pattern(index, 0, 0)
    first, second = candidates.topk(2, -1).values.unbind(-1)
    return Pattern.at(index, first - second, epsilon)


def _along_last(point: Tensor, dim: int | list[int] | None) -> Tensor:
    """The dimensions that are reduced, as one at the end."""
    point = point if point.ndim else point[None]
    dims = sorted(d % point.ndim for d in ([dim] if isinstance(dim, int) else dim or range(point.ndim)))
    kept = [d for d in range(point.ndim) if d not in dims]
    return point.permute(*kept, *dims).flatten(len(kept))


def _windows(call: Call, dims: int) -> Tensor:
    """The windows of a max-pooling, flattened at the end."""
    point = call.argument("self")
    size, padding, dilation = (
        _each(call.argument(name), dims, default)
        for name, default in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
    )
    stride = _each(call.argument("stride") or size, dims, 1)
    pads: list[int] = []
    for d in reversed(range(dims)):
        span = dilation[d] * (size[d] - 1) + 1
        length = point.shape[d - dims] + 2 * padding[d]
        extra = -(length - span) % stride[d] if call.argument("ceil_mode") else 0
        if extra and length + extra - span >= point.shape[d - dims] + padding[d]:  # no window starts in the padding
            extra = 0
        pads += [padding[d], padding[d] + extra]
    point = torch.nn.functional.pad(point, pads, value=-torch.inf)
    lead = point.ndim - dims
    for d in range(dims):
        point = point.unfold(lead + d, dilation[d] * (size[d] - 1) + 1, stride[d])[..., :: dilation[d]]
    return point.flatten(-dims)


def _each(value: Any, dims: int, default: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value or [default])
    return values * dims if len(values) == 1 else values


@dataclass(frozen=True)
class Packed:
    """A pattern in little memory: eight entries a byte if there are two regions, else a byte or an index each."""

    data: Tensor
    shape: torch.Size
    bits: bool

    @classmethod
    def of(cls, regions: Tensor) -> Packed:
        """Pack a pattern."""
        if regions.dtype is not torch.uint8 or (regions.numel() and int(regions.max()) > 1):
            return cls(regions, regions.shape, bits=False)
        bits = torch.nn.functional.pad(regions.flatten(), (0, -regions.numel() % 8)).view(-1, 8)
        return cls((bits << _powers(bits)).sum(1, dtype=torch.uint8), regions.shape, bits=True)

    def regions(self) -> Tensor:
        """The pattern."""
        if not self.bits:
            return self.data
        bits = self.data[:, None] >> _powers(self.data) & 1
        return bits.flatten()[: self.shape.numel()].view(self.shape)


def _powers(like: Tensor) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=like.device)
