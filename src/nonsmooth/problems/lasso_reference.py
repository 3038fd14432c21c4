"""What the LASSO penalty should have done: a certified solution of eq. (11) from scikit-learn.

The objective is the paper's, F(β) = ‖y - Wβ‖²/N + λ‖β‖₁. scikit-learn and glmnet minimise ‖y - Wβ‖²/(2N) + α‖β‖₁, so
their α is λ/2. A duality gap bounds F(β) - min F from above, whoever found β.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.extras import require
from nonsmooth.problems.regression import lasso


@dataclass(frozen=True)
class LassoReference:
    """Certified solutions of a batch of LASSO problems.

    Attributes:
        point: β*, shape (instances, variants, features); its zeros are exact.
        value: F(β*), shape (instances, variants).
        gap: the duality gap, an upper bound of F(β*) - min F, same shape.
    """

    point: Tensor
    value: Tensor
    gap: Tensor


def largest_useful_strength(data: Tensor, response: Tensor) -> Tensor:
    """λ_max = (2/N)‖Wᵀy‖_∞: the solution of eq. (11) is zero if and only if λ ≥ λ_max.

    Args:
        data: W, shape (instances, samples, features).
        response: y, shape (instances, samples).

    Returns:
        λ_max, shape (instances,).
    """
    correlations = (data.mT @ response.unsqueeze(-1)).squeeze(-1)
    return 2 / data.shape[-2] * correlations.abs().amax(-1)


def duality_gap(data: Tensor, response: Tensor, strength: float | Tensor, point: Tensor) -> Tensor:
    """F(β) - D(θ), at least F(β) - min F, and zero at the solution.

    The dual of eq. (11) is D(θ) = yᵀθ - (N/4)‖θ‖² over ‖Wᵀθ‖_∞ ≤ λ; θ is the multiple of the residual at β that is
    feasible and makes D largest.

    Args:
        data: W, shape (instances, samples, features).
        response: y, shape (instances, samples).
        strength: λ, broadcasting to (instances, variants).
        point: β, shape (instances, variants, features).

    Returns:
        The gap, shape (instances, variants).
    """
    samples = data.shape[-2]
    strength = torch.as_tensor(strength, dtype=point.dtype, device=point.device)
    residual = response.unsqueeze(1) - point @ data.mT
    largest = (residual @ data).abs().amax(-1)
    aligned, square = (residual * response.unsqueeze(1)).sum(-1), residual.square().sum(-1)
    tiny = torch.finfo(point.dtype).tiny
    scale = 2 * aligned / (samples * square.clamp(min=tiny))
    feasible = strength / largest.clamp(min=tiny)
    scale = torch.minimum(torch.maximum(scale, -feasible), feasible)
    dual = scale * aligned - samples / 4 * scale.square() * square
    return square / samples + strength * point.abs().sum(-1) - dual


def lasso_reference(data: Tensor, response: Tensor, strength: Tensor, tolerance: float = 1e-8) -> LassoReference:
    """Solve every instance at every strength by scikit-learn's coordinate descent, without intercept, and polish.

    Coordinate descent finds the support and the signs; given these the optimality conditions are linear equations, and
    their solution is taken where its duality gap is the smaller one.

    Args:
        data: W, shape (instances, samples, features).
        response: y, shape (instances, samples).
        strength: λ > 0, broadcasting to (instances, variants).
        tolerance: duality gap at which coordinate descent stops, relative to ‖y‖²/N.

    Returns:
        The solutions, with their duality gaps: these, not a warning, say how far a solution may be from the optimum.

    Raises:
        ValueError: a strength is not positive.
    """
    require("sklearn", "The reference solution of a LASSO")
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - heavy, and only this function needs it
    from sklearn.linear_model import Lasso  # noqa: PLC0415

    if not bool((strength > 0).all()):
        raise ValueError(f"strength is {strength}; accepted are positive numbers")
    instances, variants = len(data), torch.as_tensor(strength).shape[-1]
    strengths = strength.broadcast_to(instances, variants)
    point = data.new_zeros(instances, variants, data.shape[-1])
    for i in range(instances):
        # From the largest strength down, each from the solution of the one before: the path that glmnet takes.
        solver = Lasso(fit_intercept=False, tol=tolerance, max_iter=100_000, warm_start=True)
        for j in strengths[i].argsort(descending=True).tolist():
            solver.set_params(alpha=float(strengths[i, j]) / 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                solver.fit(data[i].numpy(), response[i].numpy())
            point[i, j] = _polished(data[i], response[i], strengths[i, j], torch.from_numpy(solver.coef_))
    value = lasso(data, response, strengths).value(point)
    return LassoReference(point, value, duality_gap(data, response, strengths, point))


def _polished(data: Tensor, response: Tensor, strength: Tensor, point: Tensor) -> Tensor:
    """The stationary point with the support and signs of `point`, if there is one and its duality gap is smaller."""
    support = point != 0
    active, signs = data[:, support], torch.sign(point[support])
    target = active.mT @ response - strength * len(data) / 2 * signs
    # Not `lstsq`: PyTorch's differs in its last bits from call to call.
    solution, failed = torch.linalg.solve_ex(active.mT @ active, target)
    if bool(failed):
        return point
    candidate = torch.zeros_like(point)
    candidate[support] = solution
    both = torch.stack([candidate, point])
    gaps = duality_gap(data.unsqueeze(0), response.unsqueeze(0), strength, both.unsqueeze(0))
    return both[int(gaps.argmin())]
