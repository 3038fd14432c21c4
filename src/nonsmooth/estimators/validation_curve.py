"""What validation says of each strength of a penalty, and which was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonsmooth.figures import Axis, Figure, Panel, Series
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True, eq=False)
class ValidationCurve(Tabular):
    """Scores of cross-validation and sizes by λ.

    Attributes:
        strengths: λ, (n,), falling.
        fold_scores: the score of each fold on its test samples, (folds, n); higher is better.
        scores: their mean over folds, weighted by the folds' samples, (n,).
        errors: standard error of the mean, (n,); NaN with one fold.
        sizes: penalised weights that are not zero in the fit to all data, (n,).
        choice: the rule.
        best_index: what it chose.
    """

    strengths: NDArray[np.float64]
    fold_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    errors: NDArray[np.float64]
    sizes: NDArray[np.int64]
    choice: str
    best_index: int

    def __str__(self) -> str:
        best = self.best_index
        return (
            f"λ = {self.strengths[best]:.4g} by {self.choice}: score {self.scores[best]:.4g} "
            f"± {self.errors[best]:.2g} in {len(self.fold_scores)} folds, {self.sizes[best]:,} weights"
        )

    def rows(self) -> list[Row]:
        """A row for each λ."""
        return [
            {
                "λ": float(strength),
                "score": float(score),
                "standard error": float(error),
                "not zero": int(size),
                "chosen": index == self.best_index,
            }
            for index, (strength, score, error, size) in enumerate(
                zip(self.strengths, self.scores, self.errors, self.sizes, strict=True)
            )
        ]

    def plot(self) -> Figure:
        """The scores with their standard errors, and the sizes, over λ."""
        places = self.strengths.tolist()
        chosen = Series("vertical", "chosen", x=(places[self.best_index],), tone="theory", dashed=True)
        scores = Series(
            "points",
            "mean ± standard error",
            x=places,
            y=self.scores.tolist(),
            low=(self.scores - self.errors).tolist(),
            high=(self.scores + self.errors).tolist(),
        )
        sizes = Series("line", "all data", x=places, y=self.sizes.tolist())
        axis = Axis("λ", log=True)
        return Figure(
            title="Cross-validation over λ",
            caption=f"{self}. To the right of the broken line models are sparser.",
            panels=(
                Panel("Validation", axis, Axis("score, higher is better"), (scores, chosen)),
                Panel("Size", axis, Axis("weights that are not zero"), (sizes, chosen)),
            ),
        )


def mean_and_error(
    fold_scores: NDArray[np.float64], fold_weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of scores over folds and its standard error, as glmnet has them (`cvm` and `cvsd`).

    Args:
        fold_scores: (folds, n).
        fold_weights: what each fold's test samples weigh together, (folds,).

    Returns:
        Means and standard errors, (n,) each; the errors are NaN with one fold.
    """
    folds = len(fold_scores)
    with np.errstate(invalid="ignore"):  # of scores that are infinite
        means = np.average(fold_scores, axis=0, weights=fold_weights)
        spread = np.average((fold_scores - means) ** 2, axis=0, weights=fold_weights)
    return means, np.sqrt(spread / (folds - 1)) if folds > 1 else np.full_like(means, np.nan)
