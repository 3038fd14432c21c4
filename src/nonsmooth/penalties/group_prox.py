"""The prox of λ_g‖w_g‖₂, where the step is a number and where each coordinate has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.penalties.groups import Groups
from nonsmooth.penalties.penalty import Step
from nonsmooth.penalties.solution_norms import solution_norms


def block_soft_threshold(point: Tensor, threshold: Tensor, groups: Groups) -> Tensor:
    """w_g·max(1 - t_g/‖w_g‖, 0).

    Args:
        point: w, real or complex.
        threshold: t_g ≥ 0, one per group, (G,).
        groups: the partition.
    """
    return point * groups.spread(_kept_share(groups.norms(point), threshold))


def _kept_share(norms: Tensor, threshold: Tensor) -> Tensor:
    """max(1 - t/‖w‖, 0), and 1 without a threshold."""
    # A norm that overflows belongs to a group that a finite threshold does not move: its share is 1.
    share = (1 - threshold / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(min=0)
    return torch.where(threshold == 0, torch.where(torch.isnan(norms), norms, 1), share)


def metric_block_threshold(point: Tensor, strength: Tensor, step: Tensor, groups: Groups) -> Tensor:
    """Argmin over z of Σ_g λ_g‖z_g‖ + Σⱼ (zⱼ - wⱼ)²/(2Dⱼ).

    The group is 0 if and only if ‖w/D‖ ≤ λ_g. Else zⱼ = wⱼθ/(θ + λ_g Dⱼ), in which θ = ‖z_g‖ is the one unknown.

    Args:
        point: w, real.
        strength: λ_g ≥ 0, one per group, (G,).
        step: D ≥ 0, of the shape of `point`.
        groups: the partition.
    """
    scaled = groups.spread(strength) * step
    norms = solution_norms(point, scaled, groups)
    # θ/(θ + d) is 0 for a group that is zero, even where d is 0 as well.
    scaled = scaled + groups.spread(torch.where(norms == 0, 1, norms))
    return point * (groups.spread(norms) / scaled)


def one_for_all(step: Step, groups: Groups) -> bool:
    """Whether a step is one number; where processes share the groups, their answers agree."""
    return not isinstance(step, Tensor) or step.ndim == 0 or (step.numel() == 1 and not groups.shared)


def group_prox(point: Tensor, strength: Tensor, step: Step, groups: Groups) -> Tensor:
    """The prox of Σ λ_g‖w_g‖: closed form for one step, Newton's method for a step per coordinate."""
    if one_for_all(step, groups):
        return block_soft_threshold(point, strength * step, groups)
    return metric_block_threshold(point, strength, torch.as_tensor(step).expand_as(point), groups)


def group_prox_(point: Tensor, strength: Tensor, step: Step, groups: Groups) -> None:
    """Overwrite a real point by its prox: no buffer for one step, three for a step per coordinate."""
    if one_for_all(step, groups):
        threshold = strength * step
        point.mul_(groups.spread(_kept_share(groups.norms(point), threshold)))
        return
    scaled = groups.spread(strength) * torch.as_tensor(step).expand_as(point)
    norms = solution_norms(point, scaled, groups)
    scaled.add_(groups.spread(torch.where(norms == 0, 1, norms)))
    point.mul_(torch.div(groups.spread(norms), scaled, out=scaled))
