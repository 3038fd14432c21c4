"""How far a trained model is from the optimum of what it was trained for: loss plus penalty, on the data of a closure.

The distance of -∇f from λ∂R is zero at a stationary point and nowhere else, for networks as for linear models. Where
the loss is quadratic and the penalty convex, a duality gap bounds the objective's distance from its minimum as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from nonsmooth.deprecation import renamed_attribute
from nonsmooth.extremes import largest
from nonsmooth.foreign_text import visible
from nonsmooth.optim.embeddings.missed_steps import catch_up
from nonsmooth.optim.evaluation import ClosureResult, evaluate, unwrapped, whole
from nonsmooth.optim.parameter_groups import named_parameters, penalty_of
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.optim.prox_taken import prox_notes
from nonsmooth.optim.quadratic_gap import quadratic_gap
from nonsmooth.optim.target_state import keeps_zeros
from nonsmooth.optim.tensor_certificate import (
    Distances,
    TensorCertificate,
    next_change,
    root_mean_square,
    share_moved,
    tensor_certificate,
)
from nonsmooth.penalties import Penalty
from nonsmooth.tables import Row, Tabular
from nonsmooth.torch_optimizers import AdaptiveStep, rule_of

ROUNDINGS = 16
"""Roundings of the objective's largest part that a sum over data may be off by, times what the next line says."""

SHOWN = 5
"""Parameters that a certificate prints, those with the largest residuals."""

LOW_PRECISION = 1e-4
"""Of types in which orthogonal vectors are no more so than random ones."""


@dataclass(frozen=True)
class Certificate(Tabular):
    """What `certify` found, in the units of the objective: loss (negated under `maximize`) + weight decay + λR.

    Attributes:
        objective: loss + weight decay + penalty.
        loss: what the closure returned.
        penalty: ΣλR(w).
        weight_decay: Σ wd‖w‖²/2 of the optimiser's weight decay; a decoupled one counts as the quadratic whose fixed
            points are those of the optimiser, weighted by √v̂ + ε.
        residual: the largest distance of -∇f from λ∂R over all parameters.
        relative_residual: the largest of these distances, each over the largest pull that its penalty has at zero: λ
            for the L1 norm, λ_g for a group, so 1 means as much as the penalty itself. A parameter without a penalty
            counts against the largest λ there is.
        converged: whether that is at most `tolerance`, and loss, weights and gradients are finite, all of them.
        tolerance: as asked for.
        zeros: number of penalised entries that are exactly 0.
        penalized: number of penalised entries.
        gap: an upper bound of objective - minimum, what rounding can hide included; None where it was not asked for or
            there is no formula.
        tensors: each parameter's part.
        notes: what a reader should know.
        typical_residual: the root mean square of what `relative_residual` is the largest of. A network seldom comes
            near a tolerance; this number falls with the step size, and is comparable between runs.
        movement: ‖change‖/‖w‖ of all parameters in one more step of the optimiser on this gradient, its averages being
            settled. None where the optimiser's step is not known, it has not stepped, or its step size is 0.
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
    penalized: int
    gap: float | None
    tensors: tuple[TensorCertificate, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    typical_residual: float = math.nan
    movement: float | None = None

    penalised = renamed_attribute("penalised", "penalized")

    def __str__(self) -> str:
        word = "converged" if self.converged else "not converged"
        lines = [
            f"{word}: residual/λ {self.relative_residual:.3g} at most (tolerance {self.tolerance:g}), "
            f"{self.typical_residual:.3g} in the root mean square",
            f"objective {self.objective:.10g} = loss {self.loss:.10g} + penalty {self.penalty:.10g}"
            + (f" + weight decay {self.weight_decay:.10g}" if self.weight_decay else "")
            + (f", at most {self.gap:.3g} above the minimum" if self.gap is not None else ""),
            f"{self.zeros:,} of {self.penalized:,} penalised weights are exactly 0" + self._share(),
        ]
        if self.movement is not None:
            lines.append(f"one more step on this data would move the weights by {self.movement:.2g} of their norm")
        # Those first that are not a number.
        worst = sorted(self.tensors, key=lambda t: (t.relative_residual == t.relative_residual, -t.relative_residual))
        lines += [
            f"  {visible(t.name)} {t.shape}: residual/λ {t.relative_residual:.3g}, {t.zeros:,} zeros"
            + (f", moves by {t.movement:.2g}" if t.movement is not None else "")
            for t in worst[:SHOWN]
        ]
        if len(worst) > SHOWN:
            lines.append(f"  and {len(worst) - SHOWN} more with smaller residuals")
        return "\n".join([*lines, *self.notes])

    def _share(self) -> str:
        """The zeros in percent, and λ where it is one number."""
        strengths = {t.strength for t in self.tensors if t.penalty is not None}
        one = f"; λ = {strengths.pop():.4g}" if len(strengths) == 1 and None not in strengths else ""
        return (f" ({self.zeros / self.penalized:.1%})" if self.penalized else "") + one

    def rows(self) -> list[Row]:
        """A row for each parameter."""
        return [
            {
                "parameter": t.name,
                "shape": t.shape,
                "penalty": t.penalty,
                "λ": t.strength,
                "zeros": t.zeros,
                "entries": t.parameters,
                "residual": t.residual,
                "residual/λ": t.relative_residual,
                "movement": t.movement,
            }
            for t in self.tensors
        ]


def certify(
    optimizer: Optimizer, closure: Callable[[], Any], *, tolerance: float = 1e-6, quadratic: bool = False
) -> Certificate:
    """Measure how far an optimiser's parameters are from a stationary point of loss + penalty.

    Nothing is changed: weights, gradients, random number generators, and the modes, attributes and buffers of all
    modules that the closure calls are as before, also after an exception. One measurement runs at a time. Set the
    model's mode before: the loss is that of the mode which it is in.

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
    catch_up(optimizer)
    notes = prox_notes(optimizer)
    optimizer = unwrapped(optimizer)
    found = evaluate(optimizer, closure)
    measured, decays, penalties, unfelt, kept = [], [], [], [], []
    for index, group in enumerate(optimizer.param_groups):
        penalty = penalty_of(group)
        for name, parameter in named_parameters(index, group):
            if parameter not in found.gradients:
                continue
            point, gradient = whole(parameter.detach()), found.gradients[parameter]
            if penalty is not None and not is_off(penalty) and (part := _unfelt(point, gradient)) is not None:
                unfelt.append(part + name)
            slope, decay = _weight_decay(optimizer, group, parameter, point)
            gradient = gradient + slope if slope is not None else gradient
            if penalty is not None and keeps_zeros(optimizer, group):
                gradient = penalty.along_zeros(point, gradient)
                kept.append(name)
            found.gradients[parameter] = gradient
            decays.append(decay)
            penalties.append(0.0 if penalty is None else _value(penalty, point))
            change = next_change(optimizer, group, parameter, gradient, penalty)
            measured.append((name, point, penalty, Distances.of(point, gradient, penalty), change))
    scale = largest((distances.scale for *_, distances, _ in measured), default=0.0) or 1.0
    ratios = [distances.relative(scale) for *_, distances, _ in measured]
    parts = [
        tensor_certificate(name, point, penalty, distances, ratio, share_moved([(point, change)]))
        for (name, point, penalty, distances, change), ratio in zip(measured, ratios, strict=True)
    ]
    with_penalty = [part for part in parts if part.penalty is not None]
    relative = largest(part.relative_residual for part in parts)
    loss, decay, value = found.loss, sum(decays), sum(penalties)
    objective = found.signed_loss + decay + value
    wrong = _not_finite(optimizer, found, objective)
    notes += (*wrong, *_notes(optimizer, found, relative))
    if unfelt:
        notes += (
            f"the loss does not feel the norm of {', '.join(unfelt)}, as where a model divides by it or "
            "normalises the output: only the penalty acts on it, and λ says nothing about it",
        )
    if kept:
        notes += (f"what is zero stays zero in {', '.join(kept)}: certified is the loss of the other weights, λ is 0",)
    gap = None
    if quadratic and not wrong:
        gap, reason = quadratic_gap(optimizer, closure, found, found.signed_loss + decay)
        notes += (reason,) if reason else ()
        if gap is not None:
            rounding = _rounding(found, objective, value)
            notes += (f"the gap is what rounding can hide, {rounding:.2g}",) if gap <= rounding else ()
            gap = largest(gap, 0.0) + rounding
    return Certificate(
        objective=objective,
        loss=loss,
        penalty=value,
        weight_decay=decay,
        residual=largest(part.residual for part in parts),
        relative_residual=relative,
        converged=relative <= tolerance and not wrong,
        tolerance=tolerance,
        zeros=sum(part.zeros for part in with_penalty),
        penalized=sum(part.parameters for part in with_penalty),
        gap=gap,
        tensors=tuple(parts),
        notes=tuple(map(visible, notes)),
        typical_residual=root_mean_square(ratios),
        movement=share_moved([(point, change) for _, point, _, _, change in measured]),
    )


def _value(penalty: Penalty, point: Tensor) -> float:
    """λR(w), NaN where w is not finite: singular values of such a matrix are an error."""
    return float(penalty.value(point)) if _is_finite(point) else math.nan


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
        step = rule_of(type(optimizer)).step({**group, "lr": 1.0}, optimizer.state[parameter])
        slope = slope / whole(step() if isinstance(step, AdaptiveStep) else torch.as_tensor(step, device=slope.device))
    return slope, float((slope * point.conj()).real.sum()) / 2


def _not_finite(optimizer: Optimizer, found: ClosureResult, objective: float) -> tuple[str, ...]:
    """What is infinite or not a number, of parameters without a gradient as well."""
    groups = enumerate(optimizer.param_groups)
    named = [each for index, group in groups for each in named_parameters(index, group) if not is_lazy(each[1])]
    weights = [name for name, parameter in named if not _is_finite(parameter.detach())]
    gradients = [name for name, parameter in named if not _is_finite(found.gradients.get(parameter, torch.zeros(())))]
    notes = [f"{what} not finite in {', '.join(names)}" for what, names in
             (("weights are", weights), ("gradients are", gradients)) if names]  # fmt: skip
    if not (math.isfinite(found.loss) and math.isfinite(objective)):
        notes.insert(0, f"the loss is {found.loss:g}, the objective {objective:g}")
    return tuple(notes)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(whole(tensor)).all())


def _unfelt(point: Tensor, gradient: Tensor) -> str | None:
    """What the gradient is orthogonal to, so that the loss does not depend on its norm: each row, "rows of ", or all.

    None where it is neither; where precision is low, which leaves an angle between them, nothing is said.
    """
    precision = float(torch.finfo(point.dtype).eps)
    if point.ndim < 2 or not point.numel() or precision > LOW_PRECISION:
        return None
    inner = (gradient * point.conj()).real.flatten(1).sum(1, dtype=torch.float64)
    # Where weights are zero the gradient says nothing; where they are not it may have vanished, as at a minimum.
    felt = torch.linalg.vector_norm(torch.where(point == 0, 0, gradient).flatten(1), dim=1)
    sizes = felt * torch.linalg.vector_norm(point.flatten(1), dim=1)
    tolerance = precision**0.5
    if not bool((felt > tolerance * torch.linalg.vector_norm(gradient.flatten(1), dim=1)).any()):
        return None
    if bool((inner.abs() <= tolerance * sizes).all()):
        return "rows of "
    # A chance angle of as many coordinates as a large weight has is small as well.
    product = float(torch.linalg.vector_norm(felt)) * float(torch.linalg.vector_norm(point))
    return "" if abs(float(inner.sum())) <= largest(64 * precision, 2e-12) * product else None


def _rounding(found: ClosureResult, objective: float, penalty: float) -> float:
    """What the gap may be off by: it is a difference of sums as large as loss, penalty and Σ|∇f·w|."""
    products = sum(float((whole(p.detach()) * g).abs().sum()) for p, g in found.gradients.items())
    return ROUNDINGS * found.precision * (2 * abs(objective) + abs(penalty) + products)


def _notes(optimizer: Optimizer, found: ClosureResult, relative: float) -> tuple[str, ...]:
    """What the numbers leave out."""
    notes = []
    names = [
        name
        for index, group in enumerate(optimizer.param_groups)
        for name, parameter in named_parameters(index, group)
        if parameter not in found.gradients
    ]
    if names:
        notes.append(f"without a gradient, so neither moved nor certified: {', '.join(map(visible, names))}")
    if any(
        group.get("decoupled_weight_decay", False) and group.get("weight_decay", 0) for group in optimizer.param_groups
    ):
        notes.append("decoupled weight decay is counted as it acts in the metric of the optimiser's present state")
    if any((penalty := penalty_of(group)) is not None and not penalty.convex for group in optimizer.param_groups):
        notes.append("a penalty is not convex: the residual certifies a stationary point, not a minimum")
    rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    if rates and all(rate == 0 for rate in rates):
        notes.append("every lr is 0, as after a schedule that has ended, so nothing would move")
    if found.precision > relative:
        notes.append(f"residual/λ is less than rounding leaves of a gradient, {found.precision:.2g}")
    return tuple(notes)
