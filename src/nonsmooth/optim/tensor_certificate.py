"""One parameter's part of a certificate: its distance from stationarity, in units that a reader can judge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.extremes import largest
from nonsmooth.optim.evaluation import whole
from nonsmooth.penalties import Penalty
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.torch_optimizers import AdaptiveStep, rule_of

LONGEST_STEP = 2.0
"""Step sizes by which an adaptive optimiser moves a coordinate at most, once its averages follow the gradient."""


@dataclass(frozen=True)
class TensorCertificate:
    """One parameter's part of a certificate.

    Attributes:
        name: of the parameter, where the optimiser knows it, else "group.index".
        shape: of the parameter.
        penalty: the penalty's name, None without one.
        strength: λ, the largest where λ is a tensor; None without a penalty.
        residual: the largest distance of -∇f from λ∂R over its coordinates or groups; NaN where a weight or a gradient
            is not finite.
        relative_residual: the largest of these distances, each over the largest pull that the penalty has at zero on
            that coordinate or group; where there is none, over the largest λ of all parameters.
        zeros: number of entries that are exactly 0.
        parameters: number of entries.
        distances: the distance of each coordinate or group.
        support: where the parameter is not 0, bool, of its shape.
        movement: ‖change‖/‖w‖ of one more step of the optimiser on this gradient, its averages being settled; None
            where its step is not known, or not yet, or its step size is 0.
    """

    name: str
    shape: tuple[int, ...]
    penalty: str | None
    strength: float | None
    residual: float
    relative_residual: float
    zeros: int
    parameters: int
    distances: Tensor = field(repr=False)
    support: Tensor = field(repr=False)
    movement: float | None = None


@dataclass(frozen=True)
class Distances:
    """Where a parameter stands, before it is known what the others are measured in.

    Attributes:
        values: the distance of each coordinate or group; NaN in all where a weight or a gradient is not finite.
        pulls: the largest pull of the penalty on each, 0 where it has none.
        scale: λ by coordinate, 0 without a penalty.
    """

    values: Tensor
    pulls: Tensor
    scale: float

    @classmethod
    def of(cls, point: Tensor, gradient: Tensor, penalty: Penalty | None) -> Distances:
        """Measure them.

        Args:
            point: w.
            gradient: ∇f, weight decay included.
            penalty: λR.
        """
        finite = bool(torch.isfinite(point).all() and torch.isfinite(gradient).all())
        if not finite:
            # A sign of NaN is 0, and a maximum with 0 is a number: a distance would lose what it was made of.
            point, gradient = torch.zeros_like(point), torch.zeros_like(gradient)
        values = gradient.abs() if penalty is None else penalty.subdiff_distance(point, gradient)
        if not finite:
            values = torch.full_like(values, torch.nan)
        if penalty is None or not values.numel() or not point.numel():
            return cls(values, torch.zeros_like(values), 0.0)
        pulls = tensor_like(penalty.largest_pull(point), values)
        if not bool(torch.isfinite(pulls).all()):  # a jump at zero, which λ is the height of
            strength = tensor_like(penalty.strength, values)
            pulls = torch.where(torch.isfinite(pulls), pulls, strength)
        pulls = pulls.expand_as(values)
        return cls(values, pulls, float(pulls.max()) * math.sqrt(pulls.numel() / point.numel()))

    def relative(self, scale: float) -> Tensor:
        """Each distance over its pull, or over the scale where there is no pull."""
        return self.values / torch.where(self.pulls > 0, self.pulls, scale)


def tensor_certificate(
    name: str, point: Tensor, penalty: Penalty | None, distances: Distances, relative: Tensor, movement: float | None
) -> TensorCertificate:
    """The certificate of one parameter.

    Args:
        name: of the parameter.
        point: w.
        penalty: λR.
        distances: of this parameter.
        relative: the same in units of λ.
        movement: of this parameter.
    """
    return TensorCertificate(
        name=name,
        shape=tuple(point.shape),
        penalty=None if penalty is None else type(penalty).__name__,
        strength=None if penalty is None else largest_strength(penalty),
        residual=float(distances.values.max()) if distances.values.numel() else 0.0,
        relative_residual=float(relative.max()) if relative.numel() else 0.0,
        zeros=int((point == 0).sum()),
        parameters=point.numel(),
        distances=distances.values,
        support=point != 0,
        movement=movement,
    )


def largest_strength(penalty: Penalty) -> float:
    """λ, the largest where it is a tensor."""
    return float(penalty.strength.max()) if isinstance(penalty.strength, Tensor) else float(penalty.strength)


@torch.no_grad()
def next_change(
    optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor, gradient: Tensor, penalty: Penalty | None
) -> Tensor | None:
    """prox_D(w - D∇f) - w, what one more step would change; None where D is not known, or 0.

    Args:
        optimizer: whose metric D is.
        group: the parameter's.
        parameter: w.
        gradient: ∇f, whole, weight decay included.
        penalty: λR.
    """
    try:
        step = rule_of(type(optimizer)).step(group, optimizer.state.get(parameter, {}))
    except (ValueError, KeyError):  # an optimiser of another kind, or one that has not stepped yet
        return None
    if float(group["lr"]) == 0:  # as at the end of a schedule, where stillness says nothing
        return None
    point = whole(parameter.detach())
    if not bool(torch.isfinite(point).all() and torch.isfinite(gradient).all()):
        return torch.full_like(point, torch.nan)
    precision = torch.promote_types(point.dtype, torch.float32)
    point, gradient = point.to(precision), gradient.to(precision)
    if not isinstance(step, AdaptiveStep):
        length = torch.as_tensor(step, dtype=precision.to_real(), device=point.device)
    elif point.is_complex() or not (penalty is None or penalty.separable or hasattr(penalty, "groups")):
        return None
    else:
        # A gradient that the averages have not seen would count as a huge step, and the optimiser takes none such.
        rate = float(group["lr"]) / (1 - float(group.get("momentum", 0) or 0))
        pull = gradient.abs() + (0.0 if penalty is None else largest_strength(penalty))
        bound = LONGEST_STEP * rate / pull.clamp(min=torch.finfo(precision).tiny)
        length = torch.minimum(whole(step()).to(precision), bound)
    if penalty is not None and penalty.largest_step < math.inf and bool((length >= penalty.largest_step).any()):
        return None
    forward = point - length * gradient
    return (forward if penalty is None else penalty.proximal_map(forward, length)) - point


def share_moved(changes: list[tuple[Tensor, Tensor | None]]) -> float | None:
    """‖change‖/‖w‖ over the parameters whose change is known, None if there is none; infinite from w = 0.

    Args:
        changes: each parameter and its change.
    """
    known = [(point, change) for point, change in changes if change is not None]
    if not known:
        return None
    moved, size = (
        math.sqrt(sum(float(tensor.abs().to(torch.float64).square().sum()) for tensor in tensors))
        for tensors in zip(*((change, point) for point, change in known), strict=True)
    )
    return moved / size if size else 0.0 if moved == 0 else largest(moved, math.inf)


def root_mean_square(tensors: list[Tensor]) -> float:
    """√mean of the squares of all entries, 0 where there are none."""
    count = sum(tensor.numel() for tensor in tensors)
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors) / count) if count else 0.0
