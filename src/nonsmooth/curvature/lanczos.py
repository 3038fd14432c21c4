"""The largest eigenvalue of a symmetric operator by the Lanczos method with full reorthogonalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth import extremes

SAFETY = 3.0
"""How far the error has to be below the tolerance: its bound presumes that no eigenvalue is hidden from the start."""
ROUNDING = 100.0
"""Times the rounding error of a number: what counts as none, relative to the largest eigenvalue in magnitude."""


@dataclass(frozen=True)
class Eigenpair:
    """What the Lanczos method found.

    Attributes:
        value: θ, the largest Ritz value; NaN where a product was not finite.
        vector: the unit vector to it, shape (size,); None where a product was not finite.
        second: that of the second largest Ritz value; None where there is none.
        lowest: the smallest Ritz value, never below the smallest eigenvalue.
        residual: ‖Hv - θv‖: an eigenvalue lies that close.
        error: a bound of the distance to that eigenvalue: the residual, or the square of it over the gap to the other
            Ritz values, where that is smaller.
        converged: the error is at most a third of the tolerance times |θ|, or down to rounding.
        products: how many.
        asymmetry: how far H is from symmetric on the vectors that were tried, relative to its largest Ritz value.
    """

    value: float
    vector: Tensor | None
    second: Tensor | None
    lowest: float
    residual: float
    error: float
    converged: bool
    products: int
    asymmetry: float


def largest_eigenpair(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    tolerance: float,
    max_products: int,
    fewest_products: int = 10,
) -> Eigenpair:
    """The largest eigenvalue, the most positive one, and its vector.

    Args:
        product: v → Hv, both of shape (size,); H symmetric.
        start: any vector that is not orthogonal to the eigenvector, such as one with a random part.
        tolerance: of the eigenvalue, relative.
        max_products: after which to stop. The basis takes as many vectors of memory.
        fewest_products: before convergence is believed. A start that has little of the eigenvector first converges to
            another one.

    Returns:
        The pair, with its evidence.
    """
    size = start.numel()
    steps = min(max_products, size)
    basis = torch.zeros(steps, size, dtype=start.dtype, device=start.device)
    basis[0] = start / start.norm()
    precision = ROUNDING * torch.finfo(start.dtype).eps
    diagonal: list[float] = []
    beside: list[float] = []
    lopsided = 0.0
    for count in range(1, steps + 1):
        vector = product(basis[count - 1])
        diagonal.append(float(vector @ basis[count - 1]))
        known = basis[:count]
        if count > 1:  # ⟨q₍ₖ₋₁₎, Hqₖ⟩, which is ⟨qₖ, Hq₍ₖ₋₁₎⟩ if H is symmetric
            lopsided = extremes.largest(lopsided, abs(float(vector @ basis[count - 2]) - beside[-1]))
        for _ in range(2):  # once is not enough in rounded arithmetic, twice is
            vector = vector - known.T @ (known @ vector)
        beside.append(_length(vector))
        if not (math.isfinite(diagonal[-1]) and math.isfinite(beside[-1])):
            return Eigenpair(torch.nan, None, None, torch.nan, torch.nan, torch.nan, False, count, torch.nan)
        values, vectors = _tridiagonal(diagonal, beside)
        residual, error = _bounds(values, vectors, beside[-1])
        rounding = precision * float(values.abs().max())
        converged = error <= extremes.largest(tolerance * abs(float(values[-1])) / SAFETY, rounding)
        # Nothing is left outside the span: the eigenvalues of the span are all that the start has a part in.
        exhausted = beside[-1] <= rounding
        if count == steps or exhausted or (converged and count >= fewest_products):
            break
        basis[count] = vector / beside[-1]
    found, second = (known.T @ column for column in vectors[:, [-1, max(-2, -count)]].to(start).T)
    largest = float(values.abs().max())
    return Eigenpair(
        value=float(values[-1]),
        vector=found / found.norm(),
        second=second / second.norm() if count > 1 else None,
        lowest=float(values[0]),
        residual=residual,
        error=error,
        converged=converged or exhausted,
        products=count,
        asymmetry=lopsided / largest if largest > 0 else 0.0,
    )


def _length(vector: Tensor) -> float:
    """‖v‖, also where the squares of its entries vanish or overflow: a flat loss would seem to have no curvature."""
    length, limits = float(vector.norm()), torch.finfo(vector.dtype)
    if (limits.tiny / limits.eps) ** 0.5 < length < torch.inf:
        return length
    largest = float(vector.abs().max())
    return largest * float((vector / largest).norm()) if 0 < largest < torch.inf else largest


def _tridiagonal(diagonal: list[float], beside: list[float]) -> tuple[Tensor, Tensor]:
    """The eigenvalues, ascending, and eigenvectors of T."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if len(diagonal) > 1:
        off = torch.tensor(beside[:-1], dtype=torch.float64)
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def _bounds(values: Tensor, vectors: Tensor, remainder: float) -> tuple[float, float]:
    """The residual of the largest Ritz pair, and a bound of its value's error (Parlett 1998, 11.7)."""
    residuals = remainder * vectors[-1].abs()
    residual = float(residuals[-1])
    if len(values) == 1:
        return residual, residual
    gap = float(values[-1] - values[-2] - residuals[-2])
    return residual, extremes.smallest(residual, residual * (residual / gap)) if gap > 0 else residual
