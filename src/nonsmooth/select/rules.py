"""Rules that choose one model of a path, by what validation says of each and by its size."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

CRITERIA = ("validation", "one-standard-error", "knee", "size")


def choose(criterion: str, *, scores: Any, errors: Any, sizes: Any, size: float | None = None) -> int:
    """The place of the model that a criterion picks.

    Models come in the order of falling λ, so that of two that are equal in all else the one with the larger λ wins. A
    model whose score is infinite or not a number is not picked.

    - "validation": the best score; of equal ones the smallest model.
    - "one-standard-error": the smallest model of those whose score is at most one standard error, that of the best
      one, below the best (Breiman et al. 1984, section 3.4.3). Where models shrink as λ grows this is the largest such
      λ, `lambda.1se` of glmnet.
    - "knee": where the score stops rising with the logarithm of 1 + size, the point farthest above the chord between
      the smallest model and the largest (Satopää et al. 2011). On this axis a factor in size counts the same among
      large models as among small ones, as it does for λ along a geometric path; with the size itself all sparse models
      would lie in one corner. The units of the axes have no influence, the ends of the path do. Where no point is above
      the chord there is no knee, and the pick is that of "validation".
    - "size": the best score among models of at most `size`; of equal ones the smallest.

    Args:
        criterion: one of `CRITERIA`.
        scores: mean validation score of each model, (n,); higher is better.
        errors: standard error of each score, (n,).
        sizes: how many parameters or groups of each model are not zero, (n,); may be means.
        size: the largest size that "size" accepts.

    Returns:
        The index of the model.

    Raises:
        ValueError: the criterion is unknown, arrays differ in shape or hold what they cannot, no score is finite, the
            best one's standard error is not a number under "one-standard-error", or `size` is missing under "size", too
            small for every model, or given elsewhere.
    """
    check_criterion(criterion, size)
    values, spreads, extents = _checked(scores, errors, sizes)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        raise ValueError(f"scores are {values.tolist()}; accepted is at least one that is finite")
    best = _best(finite, values, extents)
    if criterion == "one-standard-error":
        if not np.isfinite(spreads[best]):
            raise ValueError(
                f"errors[{best}] is {spreads[best]}, that of the best score; accepted is a finite number of at least 0"
            )
        within = finite[values[finite] >= values[best] - spreads[best]]
        return int(within[np.argmin(extents[within])])
    if criterion == "knee":
        return _knee(finite, values, extents, best)
    if size is not None:
        fitting = finite[extents[finite] <= size]
        if not len(fitting):
            raise ValueError(f"size is {size}; accepted is at least {extents[finite].min():g}, the smallest there is")
        return _best(fitting, values, extents)
    return best


def check_criterion(criterion: str, size: float | None, *, argument: str = "criterion") -> None:
    """Check what can be checked before there is any model.

    Args:
        criterion: one of `CRITERIA`.
        size: as in `choose`.
        argument: what messages call the criterion.

    Raises:
        ValueError: the criterion is unknown, or `size` is missing under "size", no number, or given elsewhere.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"{argument} is {criterion!r}; accepted are {', '.join(map(repr, CRITERIA))}")
    if criterion != "size" and size is not None:
        raise ValueError(f"size is {size}, but {argument} is {criterion!r}; accepted there is None")
    if criterion == "size" and not (isinstance(size, Real) and size >= 0):
        raise ValueError(f"size is {size}, but {argument} is 'size'; accepted there is a number of at least 0")


def _checked(scores: Any, errors: Any, sizes: Any) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(each, dtype=np.float64) for each in (scores, errors, sizes)]
    values, spreads, extents = arrays
    if values.ndim != 1 or not len(values):
        raise ValueError(f"scores has shape {values.shape}; accepted is (n,) with at least one model")
    for name, array in (("errors", spreads), ("sizes", extents)):
        if array.shape != values.shape:
            raise ValueError(f"{name} has shape {array.shape}; accepted is that of scores, {values.shape}")
        if np.any(array < 0):
            raise ValueError(f"{name} is {array.tolist()}; accepted are numbers of at least 0")
    if not np.all(np.isfinite(extents)):
        raise ValueError(f"sizes is {extents.tolist()}; accepted are finite numbers")
    return arrays


def _best(among: NDArray[np.intp], scores: NDArray[np.float64], sizes: NDArray[np.float64]) -> int:
    """The best score, of equal ones the smallest model, of equally small ones the first."""
    return int(among[np.lexsort((sizes[among], -scores[among]))[0]])


def _knee(
    among: NDArray[np.intp], scores: NDArray[np.float64], sizes: NDArray[np.float64], otherwise: int
) -> int:  # fmt: skip
    """The point farthest above the chord, in the order of size, and of equally large models the better one first."""
    order = among[np.lexsort((-scores[among], sizes[among]))]
    place, height = np.log1p(sizes[order]), scores[order]
    last = int(np.searchsorted(place, place[-1]))  # of the largest models the best
    if last == 0:
        return otherwise
    chord = height[0] + (height[last] - height[0]) * (place - place[0]) / (place[last] - place[0])
    # The ends lie on the chord, whatever rounding makes of it.
    above = (height - chord)[1:last]
    if not len(above) or not above.max() > 0:
        return otherwise
    return int(order[1 + int(np.argmax(above))])
