"""Penalties that are sums over coordinates of a function of each one's magnitude: λ Σ ρ(|wⱼ|).

Such a penalty is written as three functions of magnitudes: the function, its slope, and its prox. Signs, complex
numbers, weights per coordinate and the certificate follow from these.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import beyond, widened
from nonsmooth.penalties.penalty import Penalty, Step, Strength, check_not_negative, check_weights

COMPLEX_RULES = ("magnitude", "components")


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparablePenalty(Penalty):
    """λ Σⱼ cⱼ ρ(|wⱼ|), or a function of that kind in which λcⱼ enters in another way.

    Attributes:
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: what |w| means for a complex number: its "magnitude" √(Re² + Im²), or its two "components" taken
            as two real coordinates. These are different penalties: the first zeroes Re and Im together.

    Raises:
        ValueError: a strength or a weight is negative, or the rule is not known.
    """

    separable: ClassVar[bool] = True

    weights: Tensor | None = None
    complex_rule: str = "magnitude"

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        check_weights(self.weights)
        if self.complex_rule not in COMPLEX_RULES:
            raise ValueError(f"complex_rule is {self.complex_rule!r}; accepted are {', '.join(COMPLEX_RULES)}")

    @abstractmethod
    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """λρ(s) for magnitudes s ≥ 0, `strength` being λcⱼ."""

    @abstractmethod
    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λρ'(s) for s > 0 and its limit from above at s = 0."""

    @abstractmethod
    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """A minimiser over z ≥ 0 of λρ(z) + (z - s)²/(2·step); NaN where s is."""

    def scaled_strength(self, point: Tensor, strength: Strength | None = None) -> Strength:
        """λcⱼ where `point` lies, in its real precision."""
        chosen = self.strength if strength is None else strength
        real = point.real.dtype if point.is_complex() else point.dtype
        if isinstance(chosen, Tensor):
            chosen = _as(chosen, point, real)
        if self.weights is None:
            return chosen
        scaled = chosen * _as(self.weights, point, real)
        # A λ above 1 may leave the range.
        return scaled.clamp(max=torch.finfo(real).max) if isinstance(chosen, Tensor) or chosen > 1 else scaled

    def extreme(self, point: Tensor, step: Step) -> bool:
        """Whether a number of this penalty, or the step, leaves the range of the point's type."""
        return beyond(point.dtype, self.strength, step)

    def free_coordinates(self, point: Tensor) -> Tensor | None:
        """Where λcⱼ is 0."""
        strength = self.scaled_strength(point)
        if not isinstance(strength, Tensor):
            return None if strength else torch.ones_like(point, dtype=torch.bool)
        free = (strength == 0).expand(point.shape)
        return free if bool(free.any()) else None

    def _by_components(self, point: Tensor) -> bool:
        return point.is_complex() and self.complex_rule == "components"

    def terms(self, point: Tensor) -> Tensor:
        """What each coordinate contributes to λR(w), real, of the shape of `point`."""
        strength = self.scaled_strength(point)
        if self._by_components(point):
            parts = torch.view_as_real(point).abs()
            return self.magnitude_terms(parts, _twice(strength)).sum(-1)
        return self.magnitude_terms(point.abs(), strength)

    def value(self, point: Tensor, dim: int | None = None) -> Tensor:
        """λR(w), summed over everything, or over dimension `dim` alone."""
        terms = self.terms(point)
        return terms.sum() if dim is None else terms.sum(dim)

    def proximal_map(self, point: Tensor, step: Step) -> Tensor:
        """The prox of the magnitude, with the sign or the phase of the point."""
        if self.extreme(point, step):
            return self.proximal_map(*widened(point, step)).to(point.dtype)
        strength = self.scaled_strength(point)
        if not point.is_complex():
            return torch.copysign(self.magnitude_prox(point.abs(), strength, step), point)
        if self._by_components(point):
            return torch.view_as_complex(self._by_parts(torch.view_as_real(point), _twice(strength), step))
        if isinstance(step, Tensor) and step.is_complex():
            return self.two_step_prox(point, strength, step)
        size = point.abs()
        # z·(s'/s), but z itself where the magnitude is kept: inf·(inf/inf) would be NaN.
        shrunk = self.magnitude_prox(size, strength, step)
        ratio = torch.where(shrunk == size, torch.ones_like(size), shrunk / torch.where(size == 0, 1, size))
        # Part by part: a complex product would make NaN of infinity times 0j.
        found = torch.view_as_complex(torch.view_as_real(point) * ratio.unsqueeze(-1))
        return torch.where(shrunk == 0, torch.zeros_like(point), found)

    def _by_parts(self, parts: Tensor, strength: Strength, step: Step) -> Tensor:
        """The prox of real and imaginary parts as coordinates of their own."""
        if isinstance(step, Tensor):
            step = torch.view_as_real(step) if step.is_complex() else _twice(step)
        return torch.copysign(self.magnitude_prox(parts.abs(), strength, step), parts).contiguous()

    def two_step_prox(self, point: Tensor, strength: Strength, step: Tensor) -> Tensor:
        """The prox of magnitudes in a metric with different steps for Re and Im, given as Re and Im of `step`.

        Raises:
            ValueError: this penalty has no formula for it.
        """
        del point, strength, step
        raise ValueError(
            f"complex_rule is 'magnitude', and {type(self).__name__} has no prox of magnitudes where an adaptive "
            "optimiser gives the real and the imaginary part different steps; accepted there is 'components'"
        )

    def check_metric(self, *, by_parts: bool) -> None:
        """Raise where magnitudes would need a formula that this penalty does not have.

        Raises:
            ValueError: they would.
        """
        formula = type(self).two_step_prox is not SeparablePenalty.two_step_prox
        if by_parts and self.complex_rule == "magnitude" and not formula:
            nothing = torch.empty(0)
            self.two_step_prox(nothing, 0.0, nothing)

    def subgradient(self, point: Tensor) -> Tensor:
        """λρ'(|wⱼ|) sign(wⱼ), 0 where wⱼ = 0."""
        strength = self.scaled_strength(point)
        if self._by_components(point):
            parts = torch.view_as_real(point)
            return torch.view_as_complex(self._slope_and_sign(parts, _twice(strength)))
        return self._slope_and_sign(point, strength)

    def _slope_and_sign(self, point: Tensor, strength: Strength) -> Tensor:
        return torch.where(point == 0, 0, self.magnitude_slope(point.abs(), strength)) * torch.sgn(point)

    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """|gⱼ + λρ'(|wⱼ|) sign(wⱼ)| where wⱼ ≠ 0, max(|gⱼ| - λρ'(0+), 0) where wⱼ = 0; real, of the point's shape."""
        strength = self.scaled_strength(point)
        if self._by_components(point):
            parts, slopes = torch.view_as_real(point), torch.view_as_real(gradient)
            return self._distance(parts, slopes, _twice(strength)).square().sum(-1).sqrt()
        return self._distance(point, gradient, strength)

    def _distance(self, point: Tensor, gradient: Tensor, strength: Strength) -> Tensor:
        at_zero = (gradient.abs() - self.magnitude_slope(point.abs(), strength)).clamp(min=0)
        away = (gradient + self._slope_and_sign(point, strength)).abs()
        return torch.where(point == 0, at_zero, away)

    def largest_pull(self, point: Tensor) -> Strength:
        """λρ'(0+) by coordinate, √2 times that where a complex number is two coordinates."""
        size = torch.zeros_like(point.real if point.is_complex() else point)
        slope = self.magnitude_slope(size, self.scaled_strength(point))
        return slope * math.sqrt(2) if self._by_components(point) else slope

    def lam_max(self, gradient_at_zero: Tensor) -> Tensor:
        """The largest |gⱼ|/ρ'(0+): the smallest λ at which w = 0 is stationary; infinite if none is."""
        gradient = gradient_at_zero
        unit = self.scaled_strength(gradient, 1.0)
        if self._by_components(gradient):
            gradient, unit = torch.view_as_real(gradient), _twice(unit)
        if gradient.numel() == 0:
            return gradient.real.new_zeros(())
        slope = self.magnitude_slope(torch.zeros_like(gradient.abs()), unit)
        size = gradient.abs()
        return torch.where(size == 0, torch.zeros_like(size), size / slope).max()


def _as(values: Tensor, point: Tensor, dtype: torch.dtype) -> Tensor:
    """Values where a point lies; those beyond the range of a smaller type are the largest of it."""
    if values.is_floating_point() and torch.finfo(values.dtype).max > torch.finfo(dtype).max:
        values = values.clamp(max=torch.finfo(dtype).max)
    return values.to(device=point.device, dtype=dtype)


def _twice(value: Strength) -> Strength:
    """A tensor by coordinate as one by real and imaginary part."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def may_look(values: Tensor) -> bool:
    """Whether reading a value costs nothing but the reading: on a device the host would wait, a compiler gives up."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def is_above(size: Tensor, threshold: Tensor) -> Tensor:
    """1 where s > t ≥ 0, 0 where s ≤ t, by arithmetic: on a CPU `torch.where` takes ten times as long.

    Args:
        size: s ≥ 0; NaN gives some number.
        threshold: t, finite.
    """
    return (size - threshold).clamp(min=0).sign()


def keep_above(size: Tensor, threshold: Tensor) -> Tensor:
    """The hard threshold, s where s > t, else 0; NaN and infinity pass.

    Args:
        size: s ≥ 0.
        threshold: t, finite.
    """
    return size * is_above(size, threshold)
