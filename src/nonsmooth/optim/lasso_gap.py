"""The duality gap of a LASSO solution from data, response and coefficients, in the convention that you name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.deprecation import renamed_arguments
from nonsmooth.extremes import largest
from nonsmooth.problems.lasso_reference import duality_gap

ROUNDINGS = 4
CONVENTIONS = ("1/2N", "1/N")


@renamed_arguments(lam="strength")
def lasso_gap(
    X: Any,
    y: Any,
    w: Any,
    strength: float,
    *,
    convention: str = "1/2N",
    intercept: float | None = None,
) -> float:
    """F(w) - D(θ) ≥ F(w) - min F for F(w) = c·‖y - Xw - b‖² + λ‖w‖₁.

    Args:
        X: data, (N, features), a tensor, or anything that NumPy takes for an array of real numbers.
        y: response, (N,).
        w: coefficients, (features,).
        strength: λ ≥ 0.
        convention: what c is: "1/2N", as in scikit-learn, glmnet, celer and skglm, or "1/N", as in eq. (11) of Kumar
            (2024). The same solution has twice the λ and twice the gap under the second.
        intercept: b where the model has one; it carries no penalty, and a gap that it leaves counts. None for a model
            without.

    Returns:
        The gap, in units of F, computed in float64, with what rounding can hide.

    Raises:
        ValueError: shapes do not fit, something is not made of real numbers, λ is negative, or the convention is not
            known.
    """
    data, response, point = (_numbers(name, value) for name, value in (("X", X), ("y", y), ("w", w)))
    if not data.numel() or data.ndim != 2 or response.shape != data.shape[:1] or point.shape != data.shape[1:]:
        raise ValueError(
            f"X, y and w have the shapes {tuple(data.shape)}, {tuple(response.shape)} and {tuple(point.shape)}; "
            "accepted are (N, features), (N,) and (features,), none of them empty"
        )
    strength = _number("strength", strength)
    if not strength >= 0:
        raise ValueError(f"strength is {strength}; accepted is a number of at least 0")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}; accepted are {', '.join(CONVENTIONS)}")
    factor = 0.5 if convention == "1/2N" else 1.0
    excess = 0.0
    if intercept is not None:
        intercept = _number("intercept", intercept)
        # The best intercept given w centres the residual; what another one costs is the square of the difference.
        residual = response - data @ point
        excess = float((residual.mean() - intercept) ** 2)
        data, response = data - data.mean(0), response - response.mean()
    gap: Tensor = duality_gap(data.unsqueeze(0), response.unsqueeze(0), strength / factor, point.expand(1, 1, -1))
    # A difference of sums: below their rounding it would be no bound.
    residual, size = (response - data @ point).abs(), response.abs() + data.abs() @ point.abs()
    largest_sum = (residual.square() + 2 * residual * size).mean() + strength / factor * point.abs().sum()
    rounding = ROUNDINGS * torch.finfo(torch.float64).eps * float(largest_sum)
    return factor * (largest(float(gap), 0.0) + excess + rounding)


def _numbers(name: str, values: Any) -> Tensor:
    """Values in double precision, whatever their strides, byte order and type."""
    if isinstance(values, Tensor):
        values = (
            values.detach().to("cpu", torch.complex128 if values.is_complex() else torch.float64).to_dense().numpy()
        )
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    try:
        # Of a complex number only the real part would be left.
        real = None if array.dtype.kind == "c" else np.array(array, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        real = None
    if real is None:
        raise ValueError(f"{name} has dtype {array.dtype}; accepted are real numbers")
    return torch.from_numpy(real)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}; accepted is a number") from None
