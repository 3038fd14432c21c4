"""The kink curvature gap: what differences of gradients see of the curvature, and autograd's Hessian does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.curvature.probe import Closure, Probe
from nonsmooth.curvature.products import DOUBLE_BACKWARD, HessianOperator, gradient_difference

EPSILONS = (1e-5, 1e-4, 1e-3, 1e-2)
FLOOR = 8.0
"""Times the rounding error of a number, and ‖Hu‖: how well uᵀHu is known, which can be far smaller than ‖Hu‖."""


@dataclass(frozen=True)
class KinkGap:
    """Curvature along a unit vector u, by differences over a range of ε and by autograd.

    Attributes:
        epsilons: ε, lengths of the displacement.
        differences: ⟨∇f(w+εu) - ∇f(w-εu), u⟩/2ε for each, kinks between the two points included.
        hessian: uᵀHu by double backward, kinks excluded.
        gaps: |difference - uᵀHu| over the larger of the two in magnitude, for each ε.
        rounding: how far rounding alone may move each difference, relative likewise; gaps below it say nothing.
        direction: u, shape (coordinates,).
        unused: the numbers of the parameters, counted from 0 among those that require a gradient, that the loss is not
            computed from.
    """

    epsilons: tuple[float, ...]
    differences: tuple[float, ...]
    hessian: float
    gaps: tuple[float, ...]
    rounding: tuple[float, ...]
    direction: Tensor = field(repr=False)
    unused: tuple[int, ...] = ()


def kink_gap(
    closure: Closure,
    parameters: Iterable[Tensor],
    *,
    direction: Tensor | None = None,
    epsilons: Sequence[float] = EPSILONS,
    model: nn.Module | None = None,
    mode: str | None = None,
    seed: int = 0,
) -> KinkGap:
    """Measure how much of the curvature along a direction sits in kinks, which the Hessian does not see.

    Smooth losses have a gap of the order of ε² plus rounding; where a kink lies within ε of the weights, in the sense
    of any of its activations on any of the data, the gradient jumps and the gap stays. Take float64 weights where ε is
    to be small: in float32 rounding reaches a percent at about 1e-4 times ‖w‖.

    Args:
        closure: computes the loss on the data that is meant and returns it, without calling backward.
        parameters: with respect to which; those that require no gradient are left out.
        direction: u of any length, such as the eigenvector of `sharpness` without a preconditioner, shape
            (coordinates,), in the order of the parameters; None for a random one.
        epsilons: lengths of the displacement, in the units of the weights.
        model: whose modes and buffers are meant; needed only where the model is compiled.
        mode: "train", "eval" or "current"; needed where modules compute different things in training and evaluation.
        seed: of the random direction.

    Returns:
        Both curvatures and their gap for each ε; nothing of the run is changed.

    Raises:
        TypeError: the closure cannot be called, a parameter is no whole, real, floating-point leaf, or the direction
            or the epsilons are no such tensor or sequence.
        ValueError: an ε or the direction is out of its range, a mode is unknown or missing, or the loss is no number
            that depends on a parameter, or it is another one when it is computed again.
        RuntimeError: autograd refuses the second derivative, so there is nothing to compare with.
    """
    try:
        lengths = tuple(float(epsilon) for epsilon in epsilons)
    except (TypeError, ValueError):
        raise TypeError(f"epsilons is {epsilons!r}; accepted is a sequence of positive numbers") from None
    if not lengths or not all(0 < epsilon < torch.inf for epsilon in lengths):
        raise ValueError(f"epsilons is {lengths}; accepted are positive numbers")
    probe = Probe(closure, parameters, model=model, mode=mode)
    if direction is None:
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(probe.size, generator=generator, dtype=probe.dtype)
    elif not isinstance(direction, Tensor) or not direction.is_floating_point():
        kind = f"a tensor of {direction.dtype}" if isinstance(direction, Tensor) else f"a {type(direction).__name__}"
        raise TypeError(f"direction is {kind}; accepted is a tensor of real floating-point numbers")
    elif direction.shape != (probe.size,) or not 0 < float(direction.norm()) < torch.inf:
        raise ValueError(
            f"direction has shape {tuple(direction.shape)} and length {float(direction.norm())}; accepted are finite "
            f"vectors of ({probe.size},) that are not 0"
        )
    unit = direction.to(probe.device, probe.dtype)
    unit = unit / unit.norm()
    with probe.preserve_state():
        operator = HessianOperator(probe, None)
        curved = operator.product(unit)
        hessian = float(curved @ unit)
        operator.release()
        if operator.method != DOUBLE_BACKWARD:
            raise RuntimeError(f"autograd gives no Hessian to compare with: {operator.reason}")
        probe.check_repeats(operator.loss)
        differences = tuple(float(gradient_difference(probe, unit, epsilon) @ unit) for epsilon in lengths)
    noise = probe.precision * (float(operator.gradient.norm()) + abs(hessian) * float(probe.weights().norm()))
    # The curvatures themselves are rounded, however small the gradient is and however long ε.
    floor = FLOOR * probe.precision * extremes.largest(float(curved.norm()), abs(hessian))
    sizes = [extremes.largest(abs(difference), abs(hessian)) or 1.0 for difference in differences]
    return KinkGap(
        epsilons=lengths,
        differences=differences,
        hessian=hessian,
        gaps=tuple(abs(each - hessian) / size for each, size in zip(differences, sizes, strict=True)),
        rounding=tuple(
            extremes.largest(noise / epsilon, floor) / size for epsilon, size in zip(lengths, sizes, strict=True)
        ),
        direction=unit,
        unused=probe.unused,
    )
