"""The duality gap of a quadratic loss with a convex penalty, from the loss and its gradient alone.

For f(w) = c‖Aw - y‖²/2 the dual points that are multiples s of the residual give the lower bound
D(s) = s(2f - ⟨∇f, w⟩) - s²f - (λR)*(-s∇f), in which neither A nor y appears. Where R is a norm the last term is 0 as
long as s times the dual norm of ∇f is at most λ, so that the best s is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth import extremes
from nonsmooth.optim.evaluation import ClosureResult, add_whole_, evaluate, whole
from nonsmooth.optim.parameter_groups import penalty_of
from nonsmooth.optim.penalty_reader import is_off
from nonsmooth.optim.unpenalized import minimized_over
from nonsmooth.penalties import Penalty, SeparablePenalty

PROBE_SEED = 0


def quadratic_gap(
    optimizer: Optimizer, closure: Callable[[], Any], found: ClosureResult, loss: float
) -> tuple[float | None, str | None]:
    """An upper bound of the objective's distance from its minimum, or the reason why there is none.

    Args:
        optimizer: holds parameters and penalties.
        closure: as for `certify`.
        found: loss and gradients at the present parameters, weight decay included.
        loss: the loss with weight decay.

    Raises:
        ValueError: the loss is negative, or not a convex quadratic along a random line.
    """
    size = check_quadratic(optimizer, closure)
    if loss < 0:
        raise ValueError(f"quadratic is True, but the loss is {loss:g}; a sum of squares is at least 0")
    penalties = _penalties(optimizer, found)
    value = sum(0.0 if p is None else float(p.value(whole(parameter.detach()))) for parameter, p in penalties.items())
    free = {parameter: mask for parameter, p in penalties.items() if (mask := _free(p, parameter)) is not None}
    gradients, upper, moves = found.gradients, loss + value, dict[Tensor, Tensor]()
    unpenalized = _largest_entry(gradients, free)
    decays = any(group.get("weight_decay", 0) for group in optimizer.param_groups)
    if unpenalized > 0 and not decays:
        # The dual asks that these gradients vanish, as they do where the loss is least over these coordinates.
        settled = minimized_over(optimizer, closure, found, free, size)
        if settled is not None:
            gradients, moves, loss, unpenalized = settled[0].gradients, settled[1], settled[0].signed_loss, 0.0
    if unpenalized == 0:
        gradients = _without(gradients, free)  # which leaves out rounding
    inner = sum(_inner(gradients[p], whole(p.detach()), moves.get(p)) for p in penalties)
    largest, smooth = math.inf, []
    for parameter, penalty in penalties.items():
        if penalty is None or is_off(penalty):
            continue
        gradient = _without(gradients, free)[parameter]
        if penalty.is_norm:
            largest = extremes.smallest(largest, largest_multiple(penalty, gradient))
        elif penalty.conjugate(-gradient) is None:
            return None, f"no duality gap: {type(penalty).__name__} has no conjugate function"
        else:
            smooth.append((penalty, gradient))
    if unpenalized > 0:
        # Only the multiple 0 is feasible.
        largest = 0.0
    best = 1.0 if smooth else (2 * loss - inner) / (2 * loss) if loss > 0 else 0.0
    multiple = extremes.largest(-largest, extremes.smallest(best, largest))
    conjugates = 0.0
    for penalty, gradient in smooth:
        conjugate = penalty.conjugate(-multiple * gradient)
        conjugates += 0.0 if conjugate is None else float(conjugate)
    dual = multiple * (2 * loss - inner) - multiple**2 * loss - conjugates
    reason = None
    if unpenalized > 0:
        reason = (
            f"the duality gap is loose: a weight without penalty has a gradient of {unpenalized:.3g}, and the dual "
            "asks for 0; centre the data, or use lasso_gap, which takes an intercept out exactly"
        )
    return upper - dual, reason


def _penalties(optimizer: Optimizer, found: ClosureResult) -> dict[Tensor, Penalty | None]:
    """The penalty of each parameter that has a gradient."""
    return {
        parameter: penalty_of(group)
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter in found.gradients
    }


def _free(penalty: Penalty | None, parameter: Tensor) -> Tensor | None:
    """Which coordinates of a parameter carry no penalty; None for none."""
    point = whole(parameter.detach())
    if penalty is None or is_off(penalty):
        return torch.ones_like(point, dtype=torch.bool)
    return penalty.free_coordinates(point)


def _without(gradients: dict[Tensor, Tensor], free: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """Gradients that are 0 in the free coordinates."""
    return {p: torch.where(free[p], 0, gradient) if p in free else gradient for p, gradient in gradients.items()}


def _inner(gradient: Tensor, point: Tensor, move: Tensor | None) -> float:
    """The real inner product of a gradient and where it was taken."""
    return float((gradient * (point if move is None else point + move).conj()).real.sum())


def _largest_entry(gradients: dict[Tensor, Tensor], free: dict[Tensor, Tensor]) -> float:
    """The largest gradient of a free coordinate."""
    sizes = [float(gradients[parameter][mask].abs().max()) for parameter, mask in free.items() if bool(mask.any())]
    return float(torch.tensor(sizes).max()) if sizes else 0.0


def largest_multiple(penalty: Penalty, gradient: Tensor) -> float:
    """The largest s for which w = 0 would be stationary if the gradient there were s·g."""
    if isinstance(penalty, SeparablePenalty):
        size = gradient.abs()
        slope = penalty.magnitude_slope(torch.zeros_like(size), penalty.scaled_strength(gradient))
        ratios = torch.where(size == 0, math.inf, slope / size)
        return float(ratios.min()) if ratios.numel() else math.inf
    needed = float(penalty.lam_max(gradient))
    return float(penalty.strength) / needed if needed > 0 else math.inf


@torch.no_grad()
def check_quadratic(optimizer: Optimizer, closure: Callable[[], Any]) -> float:
    """Raise unless the gradient is linear, and increasing, along a random line through the parameters.

    Returns:
        The size of gradients on that line, which says how exact a gradient can be.

    Raises:
        ValueError: it is not.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    kept = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(PROBE_SEED)
    moves = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64).to(device=p.device, dtype=p.dtype)
        * (whole(p.detach()).abs().mean() + 1)
        for p in parameters
    ]
    seen = []
    try:
        for _ in range(3):
            seen.append(evaluate(optimizer, closure).gradients)
            for parameter, move in zip(parameters, moves, strict=True):
                add_whole_(parameter, move)
    finally:
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.copy_(before)
    moved = [(p, m) for p, m in zip(parameters, moves, strict=True) if p in seen[0]]
    bend = sum(float((seen[0][p] - 2 * seen[1][p] + seen[2][p]).abs().square().sum()) for p, _ in moved) ** 0.5
    size: float = sum(float(seen[i][p].abs().square().sum()) for p, _ in moved for i in range(3)) ** 0.5
    rise = sum(float(((seen[1][p] - seen[0][p]) * m.conj()).real.sum()) for p, m in moved)
    precision = max(torch.finfo(p.dtype).eps for p in parameters)
    # Written like this, NaN is refused.
    if not (bend <= 1e4 * precision * size and rise >= -1e4 * precision * size):
        raise ValueError(
            "quadratic is True, but the gradient of the loss is not linear and increasing along a line through the "
            f"parameters (second difference {bend:.3g} of gradients of size {size:.3g}); accepted is a loss that is a "
            "sum of squares of functions linear in the parameters"
        )
    return size
