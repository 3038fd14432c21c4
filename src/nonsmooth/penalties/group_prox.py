"""The prox of λ_g‖w_g‖₂, where the step is a number and where each coordinate has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import product
from nonsmooth.penalties.groups import Groups
from nonsmooth.penalties.penalty import Step, Strength
from nonsmooth.penalties.solution_norms import solution_norms


def block_soft_threshold(point: Tensor, threshold: Strength, groups: Groups) -> Tensor:
    """w_g·max(1 - t_g/‖w_g‖, 0).

    Args:
        point: w, real or complex.
        threshold: t_g ≥ 0, one per group, (G,), or one for all.
        groups: the partition.
    """
    share = groups.spread(_kept_share(groups.norms(point), threshold))
    if point.is_complex():  # a complex product would make NaN of infinity times 0j
        return torch.view_as_complex(torch.view_as_real(point) * share.unsqueeze(-1))
    return point * share


def _kept_share(norms: Tensor, threshold: Strength) -> Tensor:
    """max(1 - t/‖w‖, 0), and 1 without a threshold or where the norm overflows."""
    if not isinstance(threshold, Tensor):
        # A number over a tensor is computed as a product with the inverse, which overflows for a small norm.
        threshold = norms.new_full((), threshold)
    return (1 - threshold / torch.where(norms == 0, 1, norms)).clamp(min=0)


def metric_block_threshold(point: Tensor, strength: Strength, step: Tensor, groups: Groups) -> Tensor:
    """Argmin over z of Σ_g λ_g‖z_g‖ + Σⱼ (zⱼ - wⱼ)²/(2Dⱼ).

    The group is 0 if and only if ‖w/D‖ ≤ λ_g. Else zⱼ = wⱼθ/(θ + λ_g Dⱼ), in which θ = ‖z_g‖ is the one unknown.

    Args:
        point: w, real.
        strength: λ_g ≥ 0, one per group, (G,), or one for all.
        step: D ≥ 0, of the shape of `point`.
        groups: the partition.
    """
    scaled = _scaled(strength, step, groups)
    norms = solution_norms(point, scaled, groups)
    return point * (groups.spread(norms) / (scaled + groups.spread(_divisible(norms))))


def _divisible(norms: Tensor) -> Tensor:
    """θ, but not 0: where a group is zero, d may be as well, and θ/(θ + d) has to be 0."""
    return norms.clamp(min=torch.finfo(norms.dtype).tiny * torch.finfo(norms.dtype).eps)


def _scaled(strength: Strength, step: Tensor, groups: Groups) -> Tensor:
    """The product λ_g D."""
    return groups.spread(strength) * step if isinstance(strength, Tensor) else step * strength


def one_for_all(step: Step, groups: Groups) -> bool:
    """Whether a step is one number; where processes share the groups, their answers agree."""
    return not isinstance(step, Tensor) or step.ndim == 0 or (step.numel() == 1 and not groups.shared)


def _number(step: Step) -> Step:
    """A step that is one number, without dimensions."""
    return step.reshape(()) if isinstance(step, Tensor) else step


def _threshold(strength: Strength, step: Step, point: Tensor) -> Strength:
    """λ_g·step, not infinite, since the norm may be."""
    step = _number(step)
    return strength * step if isinstance(step, Tensor) and step.is_complex() else product(strength, step, point)


def group_prox(point: Tensor, strength: Strength, step: Step, groups: Groups) -> Tensor:
    """The prox of Σ λ_g‖w_g‖: closed form for one step, Newton's method for a step per coordinate."""
    if one_for_all(step, groups):
        return block_soft_threshold(point, _threshold(strength, step, point), groups)
    return metric_block_threshold(point, strength, torch.as_tensor(step, device=point.device).expand_as(point), groups)


def group_prox_(point: Tensor, strength: Strength, step: Step, groups: Groups) -> None:
    """Overwrite a real point by its prox."""
    if one_for_all(step, groups):
        point.mul_(groups.spread(_kept_share(groups.norms(point), _threshold(strength, step, point))))
        return
    scaled = _scaled(strength, torch.as_tensor(step, device=point.device).expand_as(point), groups)
    norms = solution_norms(point, scaled, groups)
    scaled.add_(groups.spread(_divisible(norms)))
    point.mul_(torch.div(groups.spread(norms), scaled, out=scaled))
