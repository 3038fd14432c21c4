"""The laws of a penalty, as one function for the tests of penalties that the package does not have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Penalty, from_specification

_TOLERANCE = 1e-7
_SCALES = (0.3, 1.0, 3.0)
_STEPS = (0.05, 0.5, 1.3)
_GRID = 201


def check_penalty(penalty: Penalty, shape: Sequence[int] = (4, 3)) -> None:
    """Check the laws that optimisers and certificates rely on, on random points in float64.

    The prox is compared with brute force: no point of a grid in one coordinate, and no random point near or far, may
    have a smaller λR(z) + ‖z - w‖²/(2·step). Its result is a fixed point, where the certificate `subdiff_distance` is
    zero. The prox of a convex penalty brings no two points further apart. The penalty is the same after a round trip
    through its specification.

    Args:
        penalty: the penalty, with a strength above 0.
        shape: of the points; one that the penalty accepts.

    Raises:
        AssertionError: a law does not hold; the message says which, and where.
    """
    try:
        penalty.check_shape(torch.Size(shape))
    except ValueError as error:
        raise AssertionError(f"the penalty accepts no point of shape {tuple(shape)}, give another: {error}") from error
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(*shape, generator=generator, dtype=torch.float64) * scale for scale in _SCALES]
    zero = torch.zeros(*shape, dtype=torch.float64)
    _check_value(penalty, [zero, *points])
    for step in _STEPS:
        if step >= penalty.largest_step:
            continue
        where = f"step {step:g}"
        for point in points:
            found = penalty.prox(point, step)
            _require(
                found.shape == point.shape and found.dtype == point.dtype,
                f"the prox of a point of {_kind(point)} is of {_kind(found)}; both must be the same",
            )
            _check_minimizer(penalty, point, found, step, generator)
            _check_certificate(penalty, point, found, step)
            copied = point.clone()
            penalty.prox_(copied, step)
            _require(_close(copied, found), f"prox_ gives another point than prox ({where})")
            if penalty.convex:
                _check_distances(penalty, point, found, step, generator)
        if penalty.separable:
            _check_not_a_number(penalty, points[0], step)
    _check_round_trip(penalty, points[1])


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _kind(point: Tensor) -> str:
    return f"shape {tuple(point.shape)} and {point.dtype}"


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=_TOLERANCE)


def _check_value(penalty: Penalty, points: Sequence[Tensor]) -> None:
    for point in points:
        value = penalty.value(point)
        _require(value.numel() == 1, f"value gives {tuple(value.shape)}; it must give one number")
        _require(0 <= float(value) < math.inf, f"value gives {float(value):g}; it must be finite and at least 0")
        slope = penalty.subgradient(point)
        _require(slope.shape == point.shape, f"subgradient gives {tuple(slope.shape)}; it must have the point's shape")


def _objective(penalty: Penalty, candidate: Tensor, point: Tensor, step: float) -> float:
    return float(penalty.value(candidate)) + float((candidate - point).square().sum()) / (2 * step)


def _check_minimizer(penalty: Penalty, point: Tensor, found: Tensor, step: float, generator: torch.Generator) -> None:
    own = _objective(penalty, found, point, step)
    for candidate in _candidates(point, found, generator):
        better = _objective(penalty, candidate, point, step)
        _require(
            own <= better + _TOLERANCE * (1 + abs(better)),
            f"the prox is not a minimiser: at step {step:g} it reaches {own:.8g}, and brute force finds {better:.8g} "
            f"at {candidate.flatten().tolist()}",
        )


def _candidates(point: Tensor, found: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Zero, the point, random points near and far, and a grid in each of the first coordinates."""
    yield torch.zeros_like(point)
    yield point
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(25):
            yield found + scale * torch.randn(point.shape, generator=generator, dtype=point.dtype)
    for place in range(min(6, point.numel())):
        reach = 1.5 * float(point.flatten()[place].abs())
        for value in torch.linspace(-reach, reach, _GRID, dtype=point.dtype):
            candidate = found.clone()
            candidate.view(-1)[place] = value
            yield candidate


def _check_certificate(penalty: Penalty, point: Tensor, found: Tensor, step: float) -> None:
    distance = float(penalty.subdiff_distance(found, (found - point) / step).max())
    _require(
        distance <= _TOLERANCE,
        f"the certificate is not zero at a fixed point of the prox: at step {step:g} subdiff_distance is "
        f"{distance:.3g}",
    )


def _check_distances(penalty: Penalty, point: Tensor, found: Tensor, step: float, generator: torch.Generator) -> None:
    for scale in (1e-2, 1.0):
        other = point + scale * torch.randn(point.shape, generator=generator, dtype=point.dtype)
        before, after = float((other - point).norm()), float((penalty.prox(other, step) - found).norm())
        _require(
            after <= before * (1 + _TOLERANCE),
            f"the prox of a convex penalty must not bring points further apart: at step {step:g} two at distance "
            f"{before:.6g} come to {after:.6g}; is `convex` right?",
        )


def _check_not_a_number(penalty: Penalty, point: Tensor, step: float) -> None:
    spoilt = point.clone()
    spoilt.view(-1)[0] = math.nan
    _require(
        bool(penalty.prox(spoilt, step).view(-1)[0].isnan()),
        f"the prox of NaN must be NaN, so that a failed run is seen (step {step:g})",
    )


def _check_round_trip(penalty: Penalty, point: Tensor) -> None:
    again = from_specification(penalty.specification())
    _require(type(again) is type(penalty), f"from_specification gives a {type(again).__name__}")
    _require(
        float(again.value(point)) == float(penalty.value(point)),
        "the penalty has another value after a round trip through its specification; is each number a field?",
    )
