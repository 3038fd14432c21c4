"""The norms of the groups of a prox in a diagonal metric: one equation per group, solved by Newton's method.

With d = λ_g D the norm θ of a group that is not zero is the root of N(θ) = ‖w/(θ + d)‖ = 1. Since 1/N is concave and
increasing, Newton's method on 1/N = 1 comes from below after its first step and does not overshoot (Moré & Sorensen
1983, on the same equation in trust regions; for this prox Deleu & Bengio 2021, ProxSSI). Its step from infinity is
‖w‖ minus the mean of d that w² weighs: the root itself where d is the same in the group, and the start here.

|1/N - 1| is the residual of the optimality condition over λ_g, so that it decides when a group is done.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.penalties.groups import Groups

FIXED_ITERATIONS = 16
"""Newton steps where looking whether more are needed would make the host wait for the device."""

LARGEST_ITERATIONS = 100
ROUNDINGS = 8
"""A residual of so many roundings is none: the sums are no more exact."""


def solution_norms(point: Tensor, scaled: Tensor, groups: Groups) -> Tensor:
    """θ_g, 0 where the group's prox is zero, (G,).

    NaN in a group is NaN; infinity, where no shrinkage is left, is the largest number of the type.

    Args:
        point: w, real.
        scaled: d = λ_g D ≥ 0, of the shape of `point`.
        groups: the partition.
    """
    with torch.no_grad():
        norms = _norms(point.detach(), scaled.detach(), groups)
    if torch.is_grad_enabled() and (point.requires_grad or scaled.requires_grad):
        return _with_gradient(norms, point, scaled, groups)
    return norms


def _norms(point: Tensor, scaled: Tensor, groups: Groups) -> Tensor:
    square = point.square()
    square_sum, weighed = groups.totals(square, square.mul(scaled))
    del square
    # What one process sees may not decide how often it communicates.
    may_look = point.device.type == "cpu" and not torch.compiler.is_compiling() and not groups.shared
    largest = torch.finfo(point.dtype).max
    unit = _unit(point, square_sum, groups) if may_look else None
    if unit is not None:
        point, scaled = point / groups.spread(unit), scaled / groups.spread(unit)
        square = point.square()
        square_sum, weighed = groups.totals(square, square.mul(scaled))
    norms = square_sum.sqrt()
    floor = norms * _floor(point.dtype) + torch.finfo(point.dtype).tiny
    start = norms - weighed / square_sum.clamp(min=torch.finfo(point.dtype).tiny)
    start = torch.where(start > ROUNDINGS * torch.finfo(point.dtype).eps * norms, start, floor)
    found = _newton(point, scaled, start, floor, groups) if may_look else _unwatched(point, scaled, start, floor, groups)
    found = torch.where(found <= floor, 0, found)
    found = torch.where(torch.isnan(norms), norms, torch.where(torch.isinf(norms), largest, found))
    return found if unit is None else (found * unit).clamp(max=largest)


def _floor(dtype: torch.dtype) -> float:
    """The norm, over that of the point, from which on a group counts as zero; its inverse may be squared."""
    return float(torch.finfo(dtype).tiny ** 0.4)


def _unit(point: Tensor, square_sum: Tensor, groups: Groups) -> Tensor | None:
    """The largest |w| of groups whose squares leave the range of the type, 1 for the others; None if all are in it."""
    kind = torch.finfo(point.dtype)
    outside = ~((square_sum >= kind.tiny / kind.eps**2) & (square_sum <= kind.max))
    if groups.largest is None or not bool(outside.any()):
        return None
    size = groups.largest(point.abs())
    size = torch.where(outside & (size > 0) & torch.isfinite(size), size, 1)
    return size if bool((size != 1).any()) else None


def _next(point: Tensor, scaled: Tensor, theta: Tensor, floor: Tensor, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """The next θ, N, and -N'/N³ at the present one."""
    inverse = (scaled + groups.spread(theta)).reciprocal_()
    square = torch.mul(point, inverse).square_()
    if groups.shared:
        total, slope = groups.totals(square, inverse.mul_(square))
    else:
        total, slope = groups.total(square), groups.total(inverse.mul_(square))
    root = total.sqrt()
    moved = theta + (total * root - total) / slope.clamp(min=torch.finfo(theta.dtype).tiny)
    # Since N(cθ) ≥ N(θ)/c for c ≥ 1, the root is at least θN(θ): much more, where d is 0 for a coordinate.
    moved = torch.maximum(moved, torch.where(root > 1, theta * root, floor))
    return moved, root, slope


def _unwatched(point: Tensor, scaled: Tensor, theta: Tensor, floor: Tensor, groups: Groups) -> Tensor:
    for _ in range(FIXED_ITERATIONS):
        theta = _next(point, scaled, theta, floor, groups)[0]
    return theta


def _newton(point: Tensor, scaled: Tensor, theta: Tensor, floor: Tensor, groups: Groups) -> Tensor:
    """Iterate until every group is done; those that are leave, once they are most."""
    result, places = theta, None
    tolerance = ROUNDINGS * torch.finfo(theta.dtype).eps
    for iteration in range(LARGEST_ITERATIONS):
        moved, root, slope = _next(point, scaled, theta, floor, groups)
        residual = (root - 1).abs()
        # After the next step it is (3/2)V of its square, V ≤ 1/(θ E) - 1 the squared coefficient of variation, and E
        # the mean, of 1/(θ + d) with the weights w²/(θ + d)² (Bhatia & Davis 2000 bound V by mean and range).
        following = 1.5 * (root.square() / (theta * slope) - 1) * residual.square()
        going_on = (torch.minimum(residual, following) > tolerance) & ~((theta <= floor) & (root <= 1))
        if iteration > 1:
            going_on &= moved > theta  # else there is nothing left but rounding
        theta = moved
        if places is None:
            result = theta
        else:
            result[places] = theta
        left = int(going_on.sum())
        if left == 0:
            break
        if groups.subset is not None and 2 * left <= groups.count:
            take, groups = groups.subset(going_on)
            point, scaled, theta, floor = take(point), take(scaled), theta[going_on], floor[going_on]
            result = result.clone() if places is None else result
            places = going_on.nonzero().reshape(-1) if places is None else places[going_on]
    return result


def _with_gradient(norms: Tensor, point: Tensor, scaled: Tensor, groups: Groups) -> Tensor:
    """One more step of Newton's method on the graph: its derivative at the root is that of the root."""
    kept = (norms > 0) & (norms < torch.finfo(norms.dtype).max)
    theta = torch.where(kept, norms, 1)
    inverse = (scaled + groups.spread(theta)).reciprocal()
    square = (point * inverse).square()
    total, slope = groups.totals(square, (square * inverse).detach())
    change = (total.pow(1.5) - total) / slope.clamp(min=torch.finfo(norms.dtype).tiny)
    return torch.where(kept, theta + change, norms)
