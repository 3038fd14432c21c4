"""Smoothness along a step, from what two points have anyway: losses and gradients, no Hessian.

The quantities include what happens at kinks between the points, which no Hessian sees. A step size times the
directional smoothness is 2 at the edge of stability, and in *any* two-cycle, such as one across a kink; only together
with sharpness does it tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.curvature.loss_noise import loss_noise
from nonsmooth.curvature.probe import Closure, Probe

ROUNDING = 64.0
"""Times the rounding error of the losses: how far a sum over a data set may be off."""
NOISE = 10.0
"""Times the measured standard deviation of the rounding in a loss: how far one may be off."""


def directional_smoothness(move: Tensor, change: Tensor) -> Tensor:
    """⟨Δg, Δw⟩/‖Δw‖², the curvature between two points along the line that joins them.

    Args:
        move: Δw, shape (..., coordinates).
        change: Δg = ∇f(w + Δw) - ∇f(w), of the same shape.

    Returns:
        The quotients, shape (...); NaN where Δw is 0.
    """
    quotient: Tensor = (change * move).sum(-1) / (move * move).sum(-1)
    return quotient


def gradient_quotient(move: Tensor, change: Tensor) -> Tensor:
    """‖Δg‖/‖Δw‖: at most L for every pair of points, if the gradient is L-Lipschitz.

    Args:
        move: Δw, shape (..., coordinates).
        change: Δg, likewise.

    Returns:
        The quotients, shape (...); NaN where Δw is 0.
    """
    quotient: Tensor = torch.linalg.vector_norm(change, dim=-1) / torch.linalg.vector_norm(move, dim=-1)
    return quotient


@dataclass(frozen=True)
class Point:
    """A loss and its gradient at the weights of one moment.

    Attributes:
        weights: w, shape (coordinates,).
        gradient: ∇f(w), likewise.
        loss: f(w).
        precision: relative rounding error of the numbers that f was computed in.
        noise: standard deviation of the rounding in f as `evaluate_point` measures it; 0 where it was not measured.
        shapes: of the parameters that the coordinates are of, in their order; () where they are not known.
        unused: the numbers of the parameters, counted from 0 in that order, that the loss is not computed from.
    """

    weights: Tensor = field(repr=False)
    gradient: Tensor = field(repr=False)
    loss: float
    precision: float
    noise: float = 0.0
    shapes: tuple[torch.Size, ...] = ()
    unused: tuple[int, ...] = ()


def evaluate_point(
    closure: Closure, parameters: Iterable[Tensor], *, model: nn.Module | None = None, mode: str | None = None
) -> Point:
    """The loss, the gradient, a copy of the weights and the rounding in the loss; nothing of the run is changed.

    The rounding is measured, by seven more evaluations of the loss a few units in the last place apart: where large
    numbers cancel in a loss, it can be far above what the loss and its precision suggest.

    Args:
        closure: computes the loss on the data that is meant and returns it, having called backward or not.
        parameters: with respect to which; those that require no gradient are left out. Their order is that of the
            coordinates: for an optimiser's preconditioner it has to be that of its groups.
        model: whose modes and buffers are meant; needed only where the model is compiled.
        mode: "train", "eval" or "current"; needed where modules compute different things in training and evaluation.

    Returns:
        The point.

    Raises:
        TypeError: the closure cannot be called, or a parameter is not a whole, real, floating-point leaf.
        ValueError: a mode is unknown or missing, or the loss is not a number that depends on a parameter, or
            another loss is found when it is computed again.
    """
    probe = Probe(closure, parameters, model=model, mode=mode)
    with probe.preserve_state():
        loss, gradient = probe.gradient()
        probe.check_repeats(loss)
        noise = loss_noise(probe)
    shapes = tuple(parameter.shape for parameter in probe.parameters)
    return Point(probe.weights(), gradient, loss, probe.precision, noise, shapes, probe.unused)


@dataclass(frozen=True)
class StepSmoothness:
    """How smooth a loss is between two points.

    Attributes:
        directional: ⟨Δg, Δw⟩/‖Δw‖², or over ⟨Δw, PΔw⟩; times the step size of gradient descent it is 2 at the edge of
            stability and in every two-cycle.
        quotient: ‖Δg‖/‖Δw‖.
        bregman: f(w') - f(w) - ⟨∇f(w), w' - w⟩.
        backward_bregman: the same from w' to w.
        distance: ‖w' - w‖.
        rounding: how far rounding may have moved the two Bregman numbers.
        weight_rounding: how far rounding to their precision moves the weights.
    """

    directional: float
    quotient: float
    bregman: float
    backward_bregman: float
    distance: float
    rounding: float
    weight_rounding: float

    @property
    def smallest_constant(self) -> float:
        """No L below it is a Lipschitz constant of the gradient between the points, rounding aside.

        The largest of ‖Δg‖/‖Δw‖ and of what the descent lemma needs in both directions.
        """
        needed = 2 * extremes.largest(abs(self.bregman), abs(self.backward_bregman)) / self.distance**2
        return extremes.largest(self.quotient, needed)

    def descent_residual(self, constant: float) -> float:
        """|f(w') - f(w) - ⟨∇f(w), w'-w⟩| - L/2·‖w'-w‖² in the worse direction.

        The descent lemma says that it is at most 0 for every function whose gradient is L-Lipschitz (Nesterov 2004,
        Theorem 2.1.5 and Lemma 1.2.3). Far enough above `rounding` it certifies that L fails.

        Args:
            constant: L.

        Returns:
            The residual.
        """
        return extremes.largest(abs(self.bregman), abs(self.backward_bregman)) - constant / 2 * self.distance**2

    def refutes(self, constant: float) -> bool:
        """Whether the descent lemma with L fails between the points by more than rounding.

        Args:
            constant: L.

        Returns:
            True if no gradient with that constant has such losses; False says nothing.
        """
        # The losses and gradients are those of weights that lie as far away as these were rounded, where a gradient
        # with constant L is another by L times as much.
        gradient = constant * self.weight_rounding * self.distance
        return self.descent_residual(constant) > self.rounding + gradient


def step_smoothness(
    before: Point, after: Point, preconditioner: Tensor | Sequence[Tensor] | None = None
) -> StepSmoothness:
    """Compare two points of a run, such as those before and after a step.

    Args:
        before: w, from `evaluate_point`.
        after: w', on the same data.
        preconditioner: P > 0 of the directional smoothness, a flat vector or one tensor for each parameter, in the
            order of the points, such as that of `stability_threshold`, which is in the order of the optimiser's groups;
            None for 1.

    Returns:
        Directional smoothness, gradient quotient, and what the descent lemma takes.

    Raises:
        ValueError: the points are of different parameters, or the same point, or P is of others.
    """
    _check_same_parameters(before=before, after=after)
    move, change = after.weights - before.weights, after.gradient - before.gradient
    distance = float(move.norm())
    if distance == 0:
        raise ValueError("before and after are the same point; accepted are two different points")
    precision = extremes.largest(before.precision, after.precision)
    # In double precision, and rounded as each of their terms is: they can be far larger than their sum.
    ahead, back = (point.gradient.double() * move.double() for point in (before, after))
    size = extremes.largest(abs(before.loss), abs(after.loss), float(ahead.abs().sum()), float(back.abs().sum()))
    noise = NOISE * extremes.largest(before.noise, after.noise)
    return StepSmoothness(
        directional=float(change @ move) / _squared_length(move, preconditioner, after.shapes),
        quotient=float(gradient_quotient(move, change)),
        bregman=after.loss - before.loss - float(ahead.sum()),
        backward_bregman=before.loss - after.loss + float(back.sum()),
        distance=distance,
        rounding=extremes.largest(ROUNDING * precision * size, noise),
        weight_rounding=precision * float(torch.maximum(before.weights.abs(), after.weights.abs()).norm()),
    )


@dataclass(frozen=True)
class OscillationSmoothness:
    """The curvature along what alternates between two steps.

    Attributes:
        value: ⟨Δ²g, Δ²w⟩/⟨Δ²w, PΔ²w⟩, to be compared with an optimiser's `stability_threshold`; where it decays the
            weights by their gradient, with its `for_loss`.
        rounding: how far rounding may have moved it. A run that does not oscillate has little to measure.
    """

    value: float
    rounding: float


def oscillation_smoothness(
    first: Point, second: Point, third: Point, preconditioner: Tensor | Sequence[Tensor] | None = None
) -> OscillationSmoothness:
    """Compare three points in a row: the curvature along what alternates between two steps.

    A step is drift and oscillation in one. Momentum strengthens the drift up to (1 + β)/(1 - β) times against the
    oscillation, so that the directional smoothness along a step of Nesterov's method or Adam lies far below their
    threshold even where they sit at the edge of stability. In the second difference Δ²w = w'' - 2w' + w a constant
    drift cancels, and a period of two doubles. Kinks between the points count, as they do in `step_smoothness`.

    Args:
        first: w, from `evaluate_point`.
        second: w', after a step from w, on the same data.
        third: w'', after one more.
        preconditioner: P > 0, as in `step_smoothness`; None for 1.

    Returns:
        The quotient and its rounding.

    Raises:
        ValueError: the points are of different parameters, or the two steps are the same, or P is of others.
    """
    _check_same_parameters(first=first, second=second, third=third)
    move = third.weights - 2 * second.weights + first.weights
    if not bool(move.any()):
        raise ValueError("the steps from first to second and from second to third are the same; accepted are two")
    change = third.gradient - 2 * second.gradient + first.gradient
    length, squared = float(move.norm()), _squared_length(move, preconditioner, third.shapes)
    value = float(change @ move) / squared
    # Three gradients are rounded, and three points: those by the weights' precision, times the curvature.
    points, precision = (first, second, third), torch.finfo(move.dtype).eps
    gradients = extremes.largest(point.precision * float(point.gradient.norm()) for point in points)
    places = precision * extremes.largest(float(point.weights.norm()) for point in points)
    rounding = 4 * gradients * length / squared + 8 * abs(value) * places / length
    return OscillationSmoothness(value, rounding)


def _check_same_parameters(**points: Point) -> None:
    """Raise ValueError, with the points' names, unless all have as many coordinates of one type."""
    shapes = [tuple(point.weights.shape) for point in points.values()]
    if len(set(shapes)) > 1:
        names, found = (" and ".join(map(str, part)) for part in (points, shapes))
        raise ValueError(f"{names} have {found} coordinates; accepted are points of the same parameters")
    orders = {point.shapes for point in points.values() if point.shapes}
    if len(orders) > 1:
        listed = " and ".join(str([*map(tuple, order)]) for order in orders)
        raise ValueError(f"{' and '.join(points)} are of parameters of shapes {listed}; accepted is one order")
    kinds = {str(point.weights.dtype) for point in points.values()}
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(points)} are in {' and '.join(sorted(kinds))}; accepted is one type")


def _squared_length(
    move: Tensor, preconditioner: Tensor | Sequence[Tensor] | None, shapes: tuple[torch.Size, ...]
) -> float:
    """⟨Δw, PΔw⟩, in which a coordinate that does not move counts nothing, however large its P."""
    if preconditioner is None:
        return float(move @ move)
    if not isinstance(preconditioner, Tensor):
        found = [tuple(part.shape) for part in preconditioner]
        if shapes and found != [*map(tuple, shapes)]:
            raise ValueError(
                f"preconditioner has parts of shapes {found}; accepted are those of the points, in their order, "
                f"{[*map(tuple, shapes)]}: evaluate points on the parameters in the order of the optimiser's groups"
            )
        preconditioner = torch.cat([part.flatten().to(move) for part in preconditioner])
    if preconditioner.shape != move.shape:
        shape = tuple(preconditioner.shape)
        raise ValueError(f"preconditioner has shape {shape}; accepted are {tuple(move.shape)}")
    if not bool((preconditioner > 0).all()):
        raise ValueError(f"preconditioner has the entry {float(preconditioner.min())}; accepted are positive numbers")
    return float(torch.where(move == 0, 0.0, preconditioner.to(move) * move.square()).sum())
