"""The prox of λ_g‖w_g‖₂, where the step is a number and where each coordinate has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.penalties.groups import Groups
from nonsmooth.penalties.penalty import Step

FIXED_ITERATIONS = 24
"""Newton steps where looking whether more are needed would make the host wait for the device."""


def block_soft_threshold(point: Tensor, threshold: Tensor, groups: Groups) -> Tensor:
    """w_g·max(1 - t_g/‖w_g‖, 0).

    Args:
        point: w, real or complex.
        threshold: t_g ≥ 0, one per group, (G,).
        groups: the partition.
    """
    norms = groups.norms(point)
    # A norm that overflows belongs to a group that a finite threshold does not move: its factor is 1.
    factor = (1 - threshold / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(min=0)
    return torch.where(groups.spread(factor == 0), torch.zeros_like(point), point * groups.spread(factor))


def metric_block_threshold(point: Tensor, strength: Tensor, step: Tensor, groups: Groups) -> Tensor:
    """Argmin over z of Σ_g λ_g‖z_g‖ + Σⱼ (zⱼ - wⱼ)²/(2Dⱼ), in which each group has one unknown, θ = ‖z_g‖.

    The group is 0 if and only if ‖w/D‖ ≤ λ_g. Else zⱼ = wⱼθ/(θ + λ_g Dⱼ), and N(θ) = ‖w/(θ + λ_g D)‖ = 1. Since 1/N is
    concave and increasing, Newton's method on 1/N = 1 comes from below after its first step and does not overshoot
    (Moré & Sorensen 1983, on the same equation in trust regions; for this prox Deleu & Bengio 2021, ProxSSI).

    Args:
        point: w, real.
        strength: λ_g ≥ 0, one per group, (G,).
        step: D ≥ 0, of the shape of `point`.
        groups: the partition.
    """
    tiny = torch.finfo(point.dtype).tiny
    scaled, square = groups.spread(strength) * step, point.square()
    norm_square, reach_square, weighed = groups.totals(square, (point / step.clamp(min=tiny)).square(), square * scaled)
    kept = reach_square.sqrt() > strength
    # With one D for all, θ = ‖w‖ - λD; the mean of D that the group's weights weigh is exact to first order.
    mean = weighed / norm_square.clamp(min=tiny)
    norm = norm_square.sqrt()
    floor = norm * torch.finfo(point.dtype).eps ** 2 + tiny
    theta = torch.where(kept, torch.maximum(norm - mean, floor), torch.ones_like(norm))
    # What one process sees may not decide how often it communicates.
    may_look = point.device.type == "cpu" and not torch.compiler.is_compiling() and not groups.shared
    tolerance = 4 * torch.finfo(point.dtype).eps
    for _ in range(200 if may_look else FIXED_ITERATIONS):
        inverse = (scaled + groups.spread(theta)).reciprocal()
        ratio = (point * inverse).square()
        total, slope = groups.totals(ratio, ratio * inverse)
        moved = theta + (total.pow(1.5) - total) / slope.clamp(min=tiny)
        # A step that is not finite comes from numbers beyond the range of the type; the group then stays as it is.
        moved = torch.where(torch.isfinite(moved) & kept, torch.maximum(moved, floor), theta)
        done = may_look and bool(((moved - theta).abs() <= tolerance * theta).all())
        theta = moved
        if done:
            break
    whole = groups.spread(theta)
    solution = point * (whole / (whole + scaled))
    solution = torch.where(groups.spread(kept), solution, torch.zeros_like(point))
    # An infinite weight is not moved, nor is a group whose norm overflows; NaN in a group is NaN in all of it.
    solution = torch.where(groups.spread(torch.isinf(norm)), point, solution)
    return torch.where(groups.spread(torch.isnan(norm)), torch.nan, solution)


def one_for_all(step: Step, groups: Groups) -> bool:
    """Whether a step is one number; where processes share the groups, their answers agree."""
    return not isinstance(step, Tensor) or step.ndim == 0 or (step.numel() == 1 and not groups.shared)


def group_prox(point: Tensor, strength: Tensor, step: Step, groups: Groups) -> Tensor:
    """The prox of Σ λ_g‖w_g‖: closed form for one step, Newton's method for a step per coordinate."""
    if one_for_all(step, groups):
        return block_soft_threshold(point, strength * step, groups)
    return metric_block_threshold(point, strength, torch.as_tensor(step).expand_as(point), groups)
