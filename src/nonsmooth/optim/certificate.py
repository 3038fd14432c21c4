"""How far a trained model is from the optimum of what it was trained for: loss plus penalty, on the data of a closure.

The distance of -∇f from λ∂R is zero at a stationary point and nowhere else, for networks as for linear models. Where
the loss is quadratic and the penalty convex, a duality gap bounds the objective's distance from its minimum as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.foreign_text import visible
from nonsmooth.optim.evaluation import Evaluation, evaluate, unwrapped, whole
from nonsmooth.optim.metric import AdaptiveStep, unit_step_of
from nonsmooth.optim.quadratic_gap import quadratic_gap
from nonsmooth.penalties import Penalty, from_specification


@dataclass(frozen=True)
class TensorCertificate:
    """One parameter's part of a certificate.

    Attributes:
        name: of the parameter, where the optimiser knows it, else "group.index".
        shape: of the parameter.
        penalty: the penalty's name, None without one.
        strength: λ, the largest where λ is a tensor; None without a penalty.
        residual: the largest distance of -∇f from λ∂R over its coordinates or groups.
        relative_residual: that over λ.
        zeros: number of entries that are exactly 0.
        parameters: number of entries.
        distances: the distance of each coordinate or group.
        support: where the parameter is not 0, bool, of its shape.
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


@dataclass(frozen=True)
class Certificate:
    """What `certify` found, in the units of the objective: loss (negated under `maximize`) + weight decay + λR.

    Attributes:
        objective: loss + weight decay + penalty.
        loss: what the closure returned.
        penalty: ΣλR(w).
        weight_decay: Σ wd‖w‖²/2 of the optimiser's weight decay; a decoupled one counts as the quadratic whose fixed
            points are those of the optimiser, weighted by √v̂ + ε.
        residual: the largest distance of -∇f from λ∂R over all parameters.
        relative_residual: the largest over λ; where a parameter has no penalty, over the largest λ there is.
        converged: whether that is at most `tolerance`.
        tolerance: as asked for.
        zeros: number of penalised entries that are exactly 0.
        penalised: number of penalised entries.
        gap: an upper bound of objective - minimum, None where it was not asked for or there is no formula.
        tensors: each parameter's part.
        notes: what a reader should know.
    """

    objective: float
    loss: float
    penalty: float
    weight_decay: float
    residual: float
    relative_residual: float
    converged: bool
    tolerance: float
    zeros: int
    penalised: int
    gap: float | None
    tensors: tuple[TensorCertificate, ...] = field(repr=False)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        word = "converged" if self.converged else "not converged"
        lines = [
            f"{word}: residual/λ {self.relative_residual:.3g} (tolerance {self.tolerance:g})",
            f"objective {self.objective:.10g} = loss {self.loss:.10g} + penalty {self.penalty:.10g}"
            + (f" + weight decay {self.weight_decay:.10g}" if self.weight_decay else "")
            + (f", at most {self.gap:.3g} above the minimum" if self.gap is not None else ""),
            f"{self.zeros:,} of {self.penalised:,} penalised weights are exactly 0",
        ]
        worst = sorted(self.tensors, key=lambda tensor: -tensor.relative_residual)[:5]
        lines += [
            f"  {visible(t.name)} {t.shape}: residual/λ {t.relative_residual:.3g}, {t.zeros:,} zeros" for t in worst
        ]
        return "\n".join([*lines, *self.notes])


def certify(
    optimizer: Optimizer, closure: Callable[[], Any], *, tolerance: float = 1e-6, quadratic: bool = False
) -> Certificate:
    """Measure how far an optimiser's parameters are from a stationary point of loss + penalty.

    Nothing is changed: gradients, weights and the state of the random number generators are as before. Buffers that
    the model itself updates in its forward pass, such as the statistics of batch normalisation in training mode, are
    the closure's business: put the model in the mode that you mean.

    Args:
        optimizer: one of this package, one that `attach` was used on, or any of torch's, whose penalty is then 0.
        closure: computes the loss without its penalty on the data that the certificate is to be about, and returns
            it, having called backward or not.
        tolerance: largest residual, relative to λ, that counts as converged.
        quadratic: the loss is a sum of squares of functions linear in the parameters, such as a linear model's mean
            squared error; the duality gap is then computed, and the statement checked along a random line.

    Returns:
        The certificate.

    Raises:
        ValueError: the tolerance is negative, no parameter has a gradient, the loss is not one number, or it is said to
            be quadratic and is not.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; accepted is a number of at least 0")
    optimizer = unwrapped(optimizer)
    found = evaluate(optimizer, closure)
    parts, decays, penalties = [], [], []
    scale = max((_largest(p.strength) for p in (_penalty(group) for group in optimizer.param_groups) if p), default=0.0)
    for index, group in enumerate(optimizer.param_groups):
        penalty = _penalty(group)
        for name, parameter in _named(index, group):
            if parameter not in found.gradients:
                continue
            point, gradient = whole(parameter.detach()), found.gradients[parameter]
            slope, decay = _weight_decay(optimizer, group, parameter, point)
            gradient = gradient + slope if slope is not None else gradient
            found.gradients[parameter] = gradient
            decays.append(decay)
            penalties.append(0.0 if penalty is None else float(penalty.value(point)))
            parts.append(_part(name, point, gradient, penalty, scale))
    penalised = [part for part in parts if part.penalty is not None]
    relative = max(part.relative_residual for part in parts)
    loss, decay, value = found.loss, sum(decays), sum(penalties)
    gap, notes = None, _notes(optimizer, found)
    if quadratic:
        gap, reason = quadratic_gap(optimizer, closure, found, found.signed_loss + decay)
        notes += (reason,) if reason else ()
    return Certificate(
        objective=found.signed_loss + decay + value,
        loss=loss,
        penalty=value,
        weight_decay=decay,
        residual=max(part.residual for part in parts),
        relative_residual=relative,
        converged=relative <= tolerance,
        tolerance=tolerance,
        zeros=sum(part.zeros for part in penalised),
        penalised=sum(part.parameters for part in penalised),
        gap=gap,
        tensors=tuple(parts),
        notes=notes,
    )


def _penalty(group: dict[str, Any]) -> Penalty | None:
    specification = group.get("penalty")
    return None if specification is None else from_specification(specification)


def _largest(strength: float | Tensor) -> float:
    return float(strength.max()) if isinstance(strength, Tensor) else float(strength)


def _named(index: int, group: dict[str, Any]) -> list[tuple[str, Tensor]]:
    names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
    return list(zip(names, group["params"], strict=True))


def _weight_decay(
    optimizer: Optimizer, group: dict[str, Any], parameter: Tensor, point: Tensor
) -> tuple[Tensor | None, float]:
    """The gradient and the value of what an optimiser's weight decay adds to the objective."""
    decay = float(group.get("weight_decay", 0) or 0)
    if decay == 0:
        return None, 0.0
    slope = decay * point
    if group.get("decoupled_weight_decay", False):
        if not optimizer.state.get(parameter):
            return None, 0.0
        # w ← w(1 - α·wd), then a step D for a unit of gradient: as if the gradient were larger by wd·w·α/D.
        step = unit_step_of(type(optimizer))({**group, "lr": 1.0}, optimizer.state[parameter])
        slope = slope / whole(step() if isinstance(step, AdaptiveStep) else torch.as_tensor(step))
    return slope, float((slope * point.conj()).real.sum()) / 2


def _part(name: str, point: Tensor, gradient: Tensor, penalty: Penalty | None, scale: float) -> TensorCertificate:
    """The certificate of one parameter; without a penalty its residual is compared with the largest λ there is."""
    strength = None if penalty is None else _largest(penalty.strength)
    distances = gradient.abs() if penalty is None else penalty.subdiff_distance(point, gradient)
    residual = float(distances.max()) if distances.numel() else 0.0
    return TensorCertificate(
        name=name,
        shape=tuple(point.shape),
        penalty=None if penalty is None else type(penalty).__name__,
        strength=strength,
        residual=residual,
        relative_residual=residual / (strength or scale or 1.0),
        zeros=int((point == 0).sum()),
        parameters=point.numel(),
        distances=distances,
        support=point != 0,
    )


def _notes(optimizer: Optimizer, found: Evaluation) -> tuple[str, ...]:
    """What the numbers leave out."""
    notes = []
    names = [
        name
        for index, group in enumerate(optimizer.param_groups)
        for name, parameter in _named(index, group)
        if parameter not in found.gradients
    ]
    if names:
        notes.append(f"without a gradient, so neither moved nor certified: {', '.join(map(visible, names))}")
    if any(
        group.get("decoupled_weight_decay", False) and group.get("weight_decay", 0) for group in optimizer.param_groups
    ):
        notes.append("decoupled weight decay is counted as it acts in the metric of the optimiser's present state")
    if any((penalty := _penalty(group)) is not None and not penalty.convex for group in optimizer.param_groups):
        notes.append("a penalty is not convex: the residual certifies a stationary point, not a minimum")
    return tuple(notes)
