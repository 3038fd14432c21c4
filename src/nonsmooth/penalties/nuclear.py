"""λ times the sum of singular values, the convex penalty for low rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Penalty, Step, Strength, check_not_negative

ITERATIONS = 2_000
RELAXATION = 1.6
SMALLEST_TOLERANCE = 1e-13
"""Of the largest entry: what rounding leaves of a singular value decomposition in double precision."""

RANK_CUTOFF = 64
"""Singular values below so many roundings of the largest are zero, when a certificate asks for the rank."""


@dataclass(frozen=True, eq=False)
class Nuclear(Penalty):
    """λ‖W‖_* = λ Σ σᵢ(W), of a matrix; a tensor of more dimensions is the matrix of its first against all others.

    Attributes:
        strength: λ ≥ 0, a number.

    Raises:
        ValueError: the strength is negative or not one number.
    """

    convex: ClassVar[bool] = True
    is_norm: ClassVar[bool] = True

    strength: Strength

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        if isinstance(self.strength, Tensor) and self.strength.numel() != 1:
            raise ValueError(f"strength has shape {tuple(self.strength.shape)}; Nuclear accepts one number")

    def check_shape(self, shape: torch.Size) -> None:
        """Raise unless a tensor of that shape is a matrix or has one to make of it.

        Raises:
            ValueError: it has fewer than two dimensions.
        """
        if len(shape) < 2:
            raise ValueError(f"shape is {tuple(shape)}; Nuclear accepts tensors of at least two dimensions")

    def _matrix(self, tensor: Tensor) -> Tensor:
        self.check_shape(tensor.shape)
        return tensor.flatten(1)

    def _precise(self, tensor: Tensor) -> Tensor:
        """The matrix in at least float32: there is no decomposition in half precision."""
        matrix = self._matrix(tensor)
        return matrix.to(torch.promote_types(matrix.dtype, torch.float32))

    def value(self, point: Tensor, dim: int | None = None) -> Tensor:
        """λ Σ σᵢ.

        Raises:
            ValueError: `dim` is given, or the point is no matrix.
        """
        if dim is not None:
            raise ValueError(f"dim is {dim}; Nuclear has a value for the whole tensor only")
        values: Tensor = torch.linalg.svdvals(self._precise(point))
        return self.strength * values.sum()

    def proximal_map(self, point: Tensor, step: Step) -> Tensor:
        """Soft threshold of the singular values; in a diagonal metric, where there is no formula, by iteration.

        The iteration takes some tens of singular value decompositions, hundreds where D varies by a factor of 10⁴. It
        looks at its own error, which makes the host wait, as a decomposition does in any case.
        """
        matrix = self._matrix(point)
        if matrix.numel() == 0 or not bool(torch.isfinite(_as_real(matrix)).all()):
            return point.clone() if not bool(torch.isnan(matrix).any()) else torch.full_like(point, torch.nan)
        strength, size = float(self.strength), float(matrix.detach().abs().max())
        if strength == 0 or size == 0:
            return point.clone()
        # A matrix whose squares leave the range of the type is measured in units of its largest entry.
        kind = torch.finfo(matrix.dtype)
        unit = 1.0 if kind.tiny**0.4 < size < kind.max**0.4 else size
        matrix, strength = matrix / unit, strength / unit
        if not isinstance(step, Tensor) or step.numel() == 1:
            threshold = min(strength * float(step), kind.max)
            if threshold == 0:
                return point.clone()
            return _times(self._threshold(matrix, threshold), unit).reshape(point.shape)
        precision = torch.promote_types(matrix.dtype, torch.float64)
        steps = step.expand_as(point).flatten(1).to(torch.promote_types(step.dtype, torch.float64))
        found = self._metric_prox(
            matrix.to(precision), min(strength, kind.max), steps, max(kind.eps / 2, SMALLEST_TOLERANCE)
        )
        return _times(found.to(matrix.dtype), unit).reshape(point.shape)

    @staticmethod
    def _threshold(matrix: Tensor, threshold: float) -> Tensor:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        kept = (values - threshold).clamp(min=0)
        product: Tensor = (left * kept.unsqueeze(-2).to(left.dtype)) @ right
        return product

    def _metric_prox(self, matrix: Tensor, strength: float, step: Tensor, tolerance: float) -> Tensor:
        """Minimise λ‖X‖_* + Σ (Z - W)²/(2D) under X = Z, by the alternating direction method (Boyd et al. 2011).

        With the mean of D as its step τ the number of iterations hardly depends on the smallest D, which may be 0; an
        accelerated proximal gradient method needs the root of largest over smallest.
        """
        target = _as_real(matrix)
        metric = torch.view_as_real(step) if step.is_complex() else step.unsqueeze(-1) if matrix.is_complex() else step
        pace = float(metric.mean())
        if pace == 0:
            return matrix
        closeness = tolerance * float(target.abs().max())
        point, multiplier = matrix, torch.zeros_like(matrix)
        for _ in range(ITERATIONS):
            smooth = (pace * target + metric * _as_real(point - multiplier)) / (pace + metric)
            smooth = torch.view_as_complex(smooth) if matrix.is_complex() else smooth
            relaxed = point + RELAXATION * (smooth - point)
            following = self._threshold(relaxed + multiplier, strength * pace)
            multiplier = multiplier + relaxed - following
            apart = torch.maximum((smooth - following).abs().max(), (following - point).abs().max())
            point = following
            if float(apart) <= closeness:
                break
        return point

    def units(self, shape: torch.Size) -> int:
        """The rank of a full matrix."""
        rows, columns = shape[0], math.prod(shape[1:])
        return rows if rows < columns else columns

    def unit_sizes(self, point: Tensor) -> Tensor:
        """The singular values, those that are rounding set to 0; NaN where the matrix is not finite."""
        if not _is_finite(point):
            return point.new_full((self.units(point.shape),), torch.nan, dtype=self._precise(point).abs().dtype)
        values: Tensor = torch.linalg.svdvals(self._precise(point))
        return torch.where(values > _cutoff(values), values, 0)

    def zero_units(self, point: Tensor) -> Tensor:
        """The rank that is missing from a full one."""
        return (self.unit_sizes(point) == 0).sum()

    def above(self, point: Tensor, size: float) -> None:
        """None: a singular value is no set of coordinates."""
        del point, size

    def cut_(self, point: Tensor, chosen: Tensor) -> None:
        """Set as many of the smallest singular values to zero as are chosen, in place."""
        self._lower_rank_(point, int((~chosen).sum()))

    def zero_keeper(self, point: Tensor) -> Callable[[Tensor], object]:
        """What lowers the rank of another tensor, in place, to the rank that this one has."""
        rank = int((self.unit_sizes(point) != 0).sum())
        return lambda other: self._lower_rank_(other, rank)

    def _lower_rank_(self, point: Tensor, rank: int) -> None:
        """Leave the largest singular values, in place; what is not finite has none."""
        if not _is_finite(point):
            return
        left, values, right = torch.linalg.svd(self._precise(point), full_matrices=False)
        kept = (left[:, :rank] * values[:rank].to(left.dtype)) @ right[:rank]
        point.copy_(kept.reshape(point.shape))

    def along_zeros(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The part of a gradient that is tangent to the matrices of the same rank: G - (1-UUᵀ)G(1-VVᵀ)."""
        if not _is_finite(point):
            return gradient
        left, right = self._range(self._precise(point))
        slope = self._precise(gradient)
        outside = slope - left @ (left.mH @ slope)
        outside = outside - (outside @ right.mH) @ right
        return (slope - outside).reshape(gradient.shape).to(gradient.dtype)

    def _range(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Orthonormal bases of the column and the row space of a matrix."""
        left, values, right = torch.linalg.svd(point, full_matrices=False)
        rank = int((values > _cutoff(values)).sum())
        return left[:, :rank], right[:rank]

    def subgradient(self, point: Tensor) -> Tensor:
        """λUVᵀ over the singular values that are not 0."""
        left, right = self._range(self._precise(point))
        return (self.strength * (left @ right)).reshape(point.shape).to(point.dtype)

    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The distance of -G from λ∂‖W‖_* in the Frobenius norm, a number.

        With W = UΣVᵀ the subdifferential is UVᵀ + M for M with UᵀM = 0, MV = 0 and no singular value above 1.
        """
        matrix, slope = self._precise(point), self._precise(gradient)
        left, right = self._range(matrix)
        remainder = -slope - self.strength * (left @ right)
        # Split off the part outside both ranges, on which M may take any value with singular values up to λ.
        outside = remainder - left @ (left.mH @ remainder)
        outside = outside - (outside @ right.mH) @ right
        inside = (remainder - outside).abs().square().sum()
        values: Tensor = torch.linalg.svdvals(outside)
        return (inside + (values - self.strength).clamp(min=0).square().sum()).sqrt()

    def largest_pull(self, point: Tensor) -> Strength:
        """λ√rank of a matrix of full rank."""
        return self.strength * math.sqrt(min(self._matrix(point).shape))

    def lam_max(self, gradient_at_zero: Tensor) -> Tensor:
        """The largest singular value of the gradient."""
        values: Tensor = torch.linalg.svdvals(self._precise(gradient_at_zero))
        return values.max() if values.numel() else values.new_zeros(())


def _is_finite(point: Tensor) -> bool:
    """Whether there is a decomposition: of a matrix that is not finite it is an error."""
    return bool(torch.isfinite(_as_real(point)).all())


def _cutoff(values: Tensor) -> float:
    """What rounding may leave of a singular value that is zero."""
    return RANK_CUTOFF * float(torch.finfo(values.dtype).eps) * (float(values.max()) if values.numel() else 0.0)


def _times(matrix: Tensor, unit: float) -> Tensor:
    """The product, in which rounding makes no infinity of the largest number."""
    if unit == 1 or matrix.is_complex():
        return unit * matrix
    largest = torch.finfo(matrix.dtype).max
    return (unit * matrix).clamp(-largest, largest)


def _as_real(matrix: Tensor) -> Tensor:
    """A complex matrix as its real and imaginary parts."""
    return torch.view_as_real(matrix) if matrix.is_complex() else matrix
