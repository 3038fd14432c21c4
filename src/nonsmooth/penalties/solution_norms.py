"""The norms of the groups of a prox in a diagonal metric: one equation per group, solved by Newton's method.

With d = λ_g D the norm θ of a group that is not zero is the root of N(θ) = ‖w/(θ + d)‖ = 1. Since 1/N is concave and
increasing, Newton's method on 1/N = 1 never gets above the root (Moré & Sorensen 1983, on the same equation in trust
regions; for this prox Deleu & Bengio 2021, ProxSSI). Its step from infinity is ‖w‖ minus the mean of d that w² weighs:
the root itself where d is the same in all of the group, and the start here.

|1/N - 1| is the residual of the optimality condition over λ_g, so that it decides when a group is done.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.penalties.groups import Groups, within_range

FIXED_ITERATIONS = 16
"""Newton steps where looking whether more are needed would make the host wait for the device."""

LARGEST_ITERATIONS = 100
NEAR = 0.1
"""A residual up to which the step is governed by curvature at the present point."""

ROUNDINGS = 8
"""A residual below this many roundings counts as zero: the sums are no more exact."""

Buffers = tuple[Tensor, Tensor]
"""Memory for two tensors of the point's shape; on a CPU it costs as much to get as several passes over it."""


def solution_norms(point: Tensor, scaled: Tensor, groups: Groups) -> Tensor:
    """θ_g, 0 where the group's prox is zero, (G,).

    NaN in a group is NaN; where a norm is infinite, so that nothing is shrunk, it is the largest number of the type.

    Args:
        point: w, real.
        scaled: d = λ_g D ≥ 0, of the shape of `point`.
        groups: the partition.
    """
    if groups.count == point.numel() and not groups.shared:  # of one coordinate each
        return groups.total((point.abs() - scaled).clamp(0, torch.finfo(point.dtype).max))
    with torch.no_grad():
        fixed = point.detach(), scaled.detach()
        norms = _norms(*fixed, groups, (torch.empty_like(point), torch.empty_like(point)))
    if torch.is_grad_enabled() and (point.requires_grad or scaled.requires_grad):
        return _with_gradient(norms, point, scaled, groups)
    return norms


def _norms(point: Tensor, scaled: Tensor, groups: Groups, buffers: Buffers) -> Tensor:
    square_sum, weighed = _sums(torch.mul(point, point, out=buffers[0]), scaled, groups)
    # What one process sees may not decide how often it communicates.
    if point.device.type != "cpu" or torch.compiler.is_compiling() or groups.shared:
        start, floor = _start(square_sum, weighed)
        for _ in range(FIXED_ITERATIONS):
            start = _next(point, scaled, start, floor, groups, buffers)[0]
        return torch.where(torch.isinf(square_sum), torch.finfo(point.dtype).max, start * (start - floor).sign_())
    if not square_sum.numel():
        return square_sum
    if not within_range(square_sum) and groups.largest is not None:
        return _norms_in_range(point, scaled, groups, buffers, groups.largest(point.abs()))
    return _newton(point, scaled, *_start(square_sum, weighed), groups, buffers)


def _norms_in_range(point: Tensor, scaled: Tensor, groups: Groups, buffers: Buffers, size: Tensor) -> Tensor:
    """Where squares of some group leave the range of the type: each group's largest |w| is its unit of length."""
    unit = torch.where((size > 0) & torch.isfinite(size), size, 1)
    largest = torch.finfo(point.dtype).max
    point, scaled = point / groups.spread(unit), (scaled / groups.spread(unit)).clamp_(max=largest)
    square_sum, weighed = _sums(torch.mul(point, point, out=buffers[0]), scaled, groups)
    found = unit * _newton(point, scaled, *_start(square_sum, weighed), groups, buffers)
    return torch.where(torch.isfinite(size), found, torch.where(torch.isnan(size), size, largest)).clamp(max=largest)


def _sums(values: Tensor, factor: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """The sums over groups of values, which are overwritten, and of values times a factor."""
    if groups.shared:
        first, second = groups.totals(values, values * factor)
        return first, second
    return groups.total(values), groups.total(values.mul_(factor))


def _start(square_sum: Tensor, weighed: Tensor) -> tuple[Tensor, Tensor]:
    """A norm that is not above the root, and the one from which on a group counts as zero."""
    kind = torch.finfo(square_sum.dtype)
    norms = square_sum.sqrt()
    # The power is such that the floor may be squared.
    floor = (norms * kind.tiny**0.4).add_(kind.tiny)
    start = norms.mul_(1 - ROUNDINGS * kind.eps).sub_(weighed / square_sum.clamp(min=kind.tiny))
    return torch.maximum(start, floor), floor


def _next(
    point: Tensor, scaled: Tensor, theta: Tensor, floor: Tensor, groups: Groups, buffers: Buffers
) -> tuple[Tensor, Tensor, Tensor]:
    """The next θ; and at the present one N - 1, and the inverse of the mean of θ/(θ + d) with weights w²/(θ + d)²."""
    square, share = buffers
    whole = groups.spread(theta)
    # By way of wθ/(θ + d) no number leaves the range, whatever the range of d.
    torch.div(whole, torch.add(scaled, whole, out=share), out=share)
    torch.mul(point, share, out=square).square_()
    total, weighed = _sums(square, share, groups)
    stretch = total / weighed.clamp(min=torch.finfo(theta.dtype).tiny)
    excess = total.sqrt().div_(theta).sub_(1)
    following = torch.addcmul(theta, theta, excess * stretch)
    # Since N(cθ) ≥ N(θ)/c for c ≥ 1, the root is at least θN(θ): much more, where d is 0 for a coordinate.
    following = torch.maximum(torch.maximum(following, torch.addcmul(theta, theta, excess)), floor)
    return following, excess, stretch


def _newton(point: Tensor, scaled: Tensor, theta: Tensor, floor: Tensor, groups: Groups, buffers: Buffers) -> Tensor:
    """Iterate until every group is done; those that are leave, once they are most."""
    result, lowest, places = theta, floor, None
    tolerance = ROUNDINGS * torch.finfo(theta.dtype).eps
    for iteration in range(LARGEST_ITERATIONS):
        following, excess, stretch = _next(point, scaled, theta, floor, groups, buffers)
        # Near the root the next residual is (3/2)V of the square of this one, where the squared coefficient of
        # variation V of 1/(θ + d) is at most stretch - 1 (Bhatia & Davis 2000); twice that, since V changes on the way.
        # A group that is zero is at the floor, with N below 1.
        predicted = (stretch - 1).mul_(excess.square())
        going_on = (excess > tolerance) & ((predicted > tolerance / 3) | (excess > NEAR))
        if iteration > 2:
            going_on &= following > theta  # else there is nothing left but rounding
        theta = following
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
            buffers = (torch.empty_like(point), torch.empty_like(point))
            result = result.clone() if places is None else result
            places = going_on.nonzero().reshape(-1) if places is None else places[going_on]
    return result * (result - lowest).sign_()  # 0 for a group at the floor


def _with_gradient(norms: Tensor, point: Tensor, scaled: Tensor, groups: Groups) -> Tensor:
    """One more step of Newton's method on the graph: its derivative at the root is that of the root."""
    kept = (norms > 0) & (norms < torch.finfo(norms.dtype).max)
    theta = torch.where(kept, norms, 1)
    inverse = (scaled + groups.spread(theta)).reciprocal()
    square = (point * inverse).square()
    total, slope = groups.totals(square, (square * inverse).detach())
    change = (total.pow(1.5) - total) / slope.clamp(min=torch.finfo(norms.dtype).tiny)
    return torch.where(kept, theta + change, norms)
