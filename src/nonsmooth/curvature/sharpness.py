"""Sharpness: the largest eigenvalue of the Hessian of a closure's loss, with the evidence that it is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.curvature.lanczos import Eigenpair, largest_eigenpair
from nonsmooth.curvature.probe import Closure
from nonsmooth.curvature.products import DIFFERENCES, DOUBLE_BACKWARD, HessianOperator, hessian_operator

NOISE = 0.1
"""How much of a warm start is random, relative to it."""
FEWEST, FEWEST_FINE = 10, 18
"""Products before convergence is believed, for tolerances from `COARSE` on and for finer ones.

A start that has little of the eigenvector first converges to another one that is close, a warm start to the one that
has been overtaken. On networks at their edge of stability, where several eigenvalues are close, 1 of 124 warm starts
was more than 1 % too low with 6 products, 2 with 8 and none with 10. The finer the tolerance, the closer the eigenvalue
that hides another: on five spectra with pairs 0.1 to 1 % apart, up to 40 % of cold starts took the smaller one for the
largest with 10 products, with 13 one in 300 on one of the spectra, and with 16 none.
"""
COARSE = 1e-2
ASYMMETRY = 1e-2
"""Relative: what is farther from symmetric is no Hessian, in numbers of single precision."""
ROUNDED = 0.25
"""Times the precision: what rounding leaves of an eigenvalue, about. Autocast to bfloat16 moved one by a sixteenth."""
FLOOR = 16.0
"""Times the rounding error of a number, and the largest eigenvalue in magnitude: no error is said to be below it. In
single precision, eigenvalues of 25 networks lay up to 10 times that from those in double precision."""
SHORTENING = 2.0
"""By what ε is divided to see whether differences depend on it."""


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of H, or of P^(-1/2) H P^(-1/2).

    Attributes:
        value: λ_max, the most positive one, which may be negative; NaN where the loss, or H, is not finite.
        eigenvector: a unit vector, shape (coordinates,), in the order of the parameters; with a preconditioner it is
            P^(1/2) times a direction of the weights. None with NaN.
        second: the Ritz vector of the second largest eigenvalue, from which the next measurement starts too.
        lowest: the smallest Ritz value, a byproduct: λ_min is at most that.
        residual: ‖Hv - λv‖, and no less than rounding: an eigenvalue lies that close.
        error: a bound of the distance to that eigenvalue, at most the residual, and no less than rounding; with finite
            differences plus an estimate, and no bound, of what depends on their ε, which on functions with kinks is
            most of it. That no larger eigenvalue is hidden is likely, and not bounded by it.
        converged: the error is at most a third of the tolerance, relative, or down to rounding; with finite
            differences at most the tolerance.
        products: Hessian-vector products that were used.
        method: "double backward" or "finite differences", which on functions with kinks are different quantities.
        reason: why differences were taken; None with double backward.
        mode: of the modules, as asked for.
        loss: at the same weights.
        unused: the numbers of the parameters, counted from 0 among those that require a gradient, that the loss is not
            computed from, as frozen branches and heads of other tasks: its curvature there is 0.
    """

    value: float
    eigenvector: Tensor | None = field(repr=False)
    second: Tensor | None = field(repr=False)
    lowest: float
    residual: float
    error: float
    converged: bool
    products: int
    method: str
    reason: str | None
    mode: str | None
    loss: float
    unused: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The eigenvalue, its error, and whether the search has converged."""
        state = "" if self.converged else ", not converged"
        if self.unused:
            state += f"; the loss does not use {len(self.unused)} of the parameters"
        return f"sharpness {self.value:.4g} ± {self.error:.1g} ({self.products} products, {self.method}{state})"


def sharpness(
    closure: Closure,
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
    mode: str | None = None,
    method: str | None = None,
    tolerance: float = 1e-2,
    max_products: int = 15,
    start: Sharpness | Tensor | None = None,
    preconditioner: Tensor | Sequence[Tensor] | None = None,
    seed: int = 0,
) -> Sharpness:
    """Measure the largest eigenvalue of the Hessian of a loss at the present weights.

    Lanczos with full reorthogonalisation, from a random vector plus the gradient, or from `start` plus a little noise;
    of the memory of `max_products` vectors. Nothing of the run is changed (see `hessian_operator`).

    Args:
        closure: computes the loss on the data that is meant and returns it, without calling backward.
        parameters: with respect to which; those that require no gradient are left out.
        model: whose modes and buffers are meant; needed only where the model is compiled.
        mode: "train", "eval" or "current"; needed where modules compute different things in training and evaluation.
        method: "double backward", "finite differences", or None for the first where autograd can and the second where
            it cannot.
        tolerance: of the eigenvalue, relative. 1e-6 wants float64 and some ten times as many products as 1e-2.
        max_products: after which to stop; what is reached by then is reported.
        start: the last measurement, or an eigenvector alone, shape (coordinates,); of a measurement the second Ritz
            vector is started from too, since its eigenvalue may have overtaken.
        preconditioner: P > 0, a flat vector or one tensor for each parameter that requires a gradient: the eigenvalue
            is then that of P^(-1/2) H P^(-1/2), and so are the vectors.
        seed: of the random part of the start.

    Returns:
        The eigenvalue with its evidence.

    Raises:
        TypeError: the closure cannot be called, or a parameter is not a whole, real, floating-point leaf.
        ValueError: an argument is out of its range or of another shape, a mode is missing where it matters, or the
            loss is not a number that depends on one of the parameters, or finite differences find another loss when
            they compute it again.
        RuntimeError: double backward was asked for and autograd refuses it.
    """
    check_search(tolerance, max_products)
    with hessian_operator(closure, parameters, model=model, mode=mode, method=method) as operator:
        scale = None if preconditioner is None else _scale(operator, preconditioner)
        product = operator.product if scale is None else _scaled(operator.product, scale)
        return search(
            operator, product, scale, mode, tolerance=tolerance, max_products=max_products, start=start, seed=seed
        )


def search(
    operator: HessianOperator,
    product: Callable[[Tensor], Tensor],
    scale: Tensor | None,
    mode: str | None,
    *,
    tolerance: float,
    max_products: int,
    start: Sharpness | Tensor | None,
    seed: int,
    moving: Tensor | None = None,
) -> Sharpness:
    """The largest eigenvalue of a product that is made of an operator's, in coordinates scaled by P^(-1/2).

    With `moving`, 1 where a coordinate counts and 0 elsewhere, that of the block of coordinates that count.
    """
    first = _start(operator, scale, start, seed)
    if moving is not None:
        first = first * moving
    fewest = FEWEST if tolerance >= COARSE else FEWEST_FINE
    if not (isfinite(operator.loss) and bool(torch.isfinite(operator.gradient).all())):
        pair: dict[str, Any] = dict.fromkeys(("value", "lowest", "residual", "error"), nan)
        pair |= {"eigenvector": None, "second": None, "converged": False}
    else:
        found = _largest(operator, product, first, tolerance, max_products, fewest)
        if operator.method == DOUBLE_BACKWARD and found.asymmetry > max(ASYMMETRY, 16 * operator.precision):
            operator.refuse(
                f"its products are not symmetric, by {found.asymmetry:.1g}: the backward pass of some function is not "
                "differentiable, and does not say so"
            )
            found = _largest(operator, product, first, tolerance, max_products, fewest)
        pair = {name: getattr(found, name) for name in ("value", "lowest", "residual", "error", "converged")}
        pair |= {"eigenvector": found.vector, "second": found.second}
    return Sharpness(
        **pair,
        products=operator.products,
        method=operator.method,
        reason=operator.reason,
        mode=mode,
        loss=operator.loss,
        unused=operator.unused,
    )


def _largest(
    operator: HessianOperator,
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    tolerance: float,
    max_products: int,
    fewest: int,
) -> Eigenpair:
    """The pair; by differences with what depends on their ε in its error: truncation, rounding, and jumps at kinks."""
    differences = operator.method == DIFFERENCES and max_products > 1
    found = largest_eigenpair(
        product, start, tolerance=tolerance, max_products=max_products - differences, fewest_products=fewest
    )
    if found.vector is None:
        return found
    vector = found.vector
    # Rounding moves each product by a part of the largest eigenvalue in magnitude, whatever the residual says.
    limits = torch.finfo(operator.dtype)
    size = extremes.largest(abs(found.value), abs(found.lowest))
    floor = FLOOR * limits.eps * extremes.largest(size, limits.tiny) if size else 0.0
    error, residual = extremes.largest(found.error, floor), extremes.largest(found.residual, floor)
    found = replace(found, error=error, residual=residual)
    if operator.method == DOUBLE_BACKWARD:
        if operator.precision <= limits.eps:
            return found
        # The loss computes in coarser numbers than Lanczos does, as under autocast.
        coarse = ROUNDED * operator.precision * abs(found.value)
        fine_enough = coarse <= tolerance * abs(found.value)
        return replace(found, error=extremes.largest(found.error, coarse), converged=found.converged and fine_enough)
    operator.check_repeats()
    with operator.shortened(SHORTENING):
        other = float(product(vector) @ vector)
    # Of a smooth loss it is three quarters of the truncation at the longer ε.
    error = found.error + abs(found.value - other) * 4 / 3
    return replace(found, error=error, converged=found.converged and error <= tolerance * abs(found.value))


def _start(operator: HessianOperator, scale: Tensor | None, start: Sharpness | Tensor | None, seed: int) -> Tensor:
    """A random vector, and what is known: the last eigenvectors, or else the gradient."""
    if isinstance(start, Sharpness):
        # One of which nothing is known, as after a loss that was not finite, is no start.
        vectors = [vector for vector in (start.eigenvector, start.second) if vector is not None]
        start = torch.stack(vectors).sum(0) if vectors else None
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(operator.size, generator=generator, dtype=operator.dtype).to(operator.device)
    noise /= noise.norm()
    if start is not None:
        if not isinstance(start, Tensor):
            raise TypeError(
                f"start is a {type(start).__name__}; accepted are a Sharpness and a tensor of ({operator.size},)"
            )
        if start.shape != (operator.size,) or not bool(torch.isfinite(start).all()):
            raise ValueError(f"start has shape {tuple(start.shape)}; accepted are finite vectors of ({operator.size},)")
        known, share = start.to(noise), NOISE
    else:
        # Alone it can lie almost within one other eigenspace; with noise it saves a product or two.
        known, share = (operator.gradient if scale is None else operator.gradient * scale), 1.0
    length = known.norm()
    return known / length + share * noise if bool(length > 0) and bool(torch.isfinite(length)) else noise


def _scale(operator: HessianOperator, preconditioner: Tensor | Sequence[Tensor]) -> Tensor:
    """P^(-1/2) as one vector."""
    flat = operator.flat(preconditioner)
    if not bool((flat > 0).all()):
        raise ValueError(f"preconditioner has the entry {float(flat.min())}; accepted are positive numbers")
    return flat.rsqrt()


def _scaled(product: Callable[[Tensor], Tensor], scale: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda vector: scale * product(scale * vector)


def check_search(tolerance: float, max_products: int) -> None:
    """Raise a ValueError unless there is something to search for."""
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; accepted are positive numbers")
    if not isinstance(max_products, Integral) or max_products < 1:
        raise ValueError(f"max_products is {max_products}; accepted are whole numbers of at least 1")
