"""Which features were chosen how often, and what that says of the false ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nonsmooth.figures import Figure
from nonsmooth.tables import Row, Tabular

USUAL_THRESHOLD = 0.6
SHOWN = 10
"""Features that a result prints."""


@dataclass(frozen=True)
class StabilitySelection(Tabular):
    """Which features are chosen on how many of the subsamples.

    Attributes:
        probabilities: the share of subsamples in which each feature is chosen, the largest over λ, (features,).
        frequencies: the same at each λ, (λ, features).
        selected: the features whose probability is at least the threshold, by number.
        threshold: π, in (0.5, 1]; NaN where no threshold bounds the false selections as asked for.
        mean_selected: q, the mean number of features chosen in a subsample, at any λ.
        bound: q²/((2π - 1)p), of the expected number of false selections; NaN without a threshold.
        false_positives: the bound that was asked for, None where a threshold was.
        subsamples: number of them.
        complementary: whether they are pairs of disjoint halves.
        names: of the features.
    """

    probabilities: NDArray[np.float64]
    frequencies: NDArray[np.float64] = field(repr=False)
    selected: tuple[int, ...]
    threshold: float
    mean_selected: float
    bound: float
    false_positives: float | None
    subsamples: int
    complementary: bool
    names: tuple[str, ...] = field(repr=False)

    @property
    def selected_names(self) -> tuple[str, ...]:
        """The names of the selected features."""
        return tuple(self.names[place] for place in self.selected)

    def __str__(self) -> str:
        count = len(self.names)
        q = f"{self.mean_selected:.3g} of {count:,} are chosen on average"
        if math.isnan(self.threshold):
            most = math.sqrt((self.false_positives or 0) * count)
            return (
                f"no threshold up to 1 bounds the false selections by {self.false_positives:g}: {q}, and at most "
                f"{most:.3g} may be; take larger λ only"
            )
        head = (
            f"{len(self.selected)} of {count:,} features selected: chosen in at least {100 * self.threshold:.0f} % of "
            f"{self.subsamples} subsamples"
        )
        bound = f"at most {self.bound:.2g} of them false in expectation ({q})"
        lines = [f"  {self.names[i]}: {self.probabilities[i]:.2f}" for i in self._ordered() if i in set(self.selected)]
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        return "\n".join([head, bound, *lines[:SHOWN], *more])

    def _ordered(self) -> list[int]:
        return [int(place) for place in np.argsort(-self.probabilities, kind="stable")]

    def rows(self) -> list[Row]:
        """A row for each feature, the one chosen most often first."""
        chosen = set(self.selected)
        return [
            {
                "feature": self.names[place],
                "probability": float(self.probabilities[place]),
                "selected": place in chosen,
                "at λ number": int(self.frequencies[:, place].argmax()),
            }
            for place in self._ordered()
        ]

    def plot(self) -> Figure:
        """How often each feature is chosen, the threshold, and which are selected."""
        from nonsmooth.select.figures import stability_figure  # noqa: PLC0415  draws this class

        return stability_figure(self)


def selection_from(
    masks: NDArray[np.bool_],
    threshold: float | None,
    false_positives: float | None,
    names: Sequence[str] | None,
    *,
    complementary: bool,
) -> StabilitySelection:
    """What follows from what was chosen.

    Args:
        masks: what was, (subsamples, λ, features).
        threshold: π; None for 0.6.
        false_positives: the bound that the threshold is to meet, in its place.
        names: of the features.
        complementary: whether the subsamples are pairs.

    Raises:
        ValueError: there are not as many names as features.
    """
    features = masks.shape[2]
    labels = tuple(map(str, range(features) if names is None else names))
    if len(labels) != features:
        raise ValueError(f"names has {len(labels)} names; accepted are {features}, one for each feature")
    frequencies = masks.mean(0)
    probabilities, mean_selected = frequencies.max(0), float(masks.any(1).sum(1).mean())
    if false_positives is None:
        chosen = USUAL_THRESHOLD if threshold is None else threshold
    else:
        chosen = threshold_for(mean_selected, features, false_positives)
    return StabilitySelection(
        probabilities=probabilities,
        frequencies=frequencies,
        # A share of subsamples is a quotient of whole numbers, which may be a rounding below the threshold.
        selected=tuple(np.flatnonzero(probabilities >= chosen - 1e-12).tolist()),
        threshold=chosen,
        mean_selected=mean_selected,
        bound=false_selection_bound(mean_selected, features, chosen),
        false_positives=false_positives,
        subsamples=len(masks),
        complementary=complementary,
        names=labels,
    )


def false_selection_bound(mean_selected: float, features: int, threshold: float) -> float:
    """q²/((2π - 1)p), which bounds the expected number of false selections.

    Args:
        mean_selected: q.
        features: p.
        threshold: π in (0.5, 1], or NaN.
    """
    return mean_selected**2 / ((2 * threshold - 1) * features)


def threshold_for(mean_selected: float, features: int, false_positives: float) -> float:
    """The smallest threshold whose bound is at most a number; NaN where none up to 1 has one.

    Args:
        mean_selected: q.
        features: p.
        false_positives: what E[V] is to be bounded by.
    """
    found = (1 + mean_selected**2 / (features * false_positives)) / 2
    return found if found <= 1 else math.nan
