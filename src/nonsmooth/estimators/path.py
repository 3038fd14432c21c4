"""Solutions along a sequence of penalty strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonsmooth.optim.certificate import Certificate
from nonsmooth.tables import Row, Tabular


@dataclass(frozen=True, eq=False)
class Path(Tabular):
    """One fitted estimator for each λ.

    Attributes:
        strengths: λ, (n,), in the order in which they were fitted.
        models: the fitted estimators, each with its `strength`, `predict`, `coefs_` and so on.
    """

    strengths: NDArray[np.float64]
    models: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{len(self)} solutions, λ from {self.strengths[0]:.4g} to {self.strengths[-1]:.4g}"

    def rows(self) -> list[Row]:
        """A row for each λ."""
        return [
            {
                "λ": float(strength),
                "zeros": certificate.zeros,
                "penalized": certificate.penalized,
                "objective": certificate.objective,
                "residual/λ": certificate.relative_residual,
                "converged": certificate.converged,
                "passes": int(passes),
            }
            for strength, certificate, passes in zip(self.strengths, self.certificates, self.n_iter, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.models)

    @property
    def coefs(self) -> NDArray[np.float64]:
        """`coef_` of each, stacked along a first axis; for linear models."""
        return np.stack([model.coef_ for model in self.models])

    @property
    def intercepts(self) -> NDArray[np.float64]:
        """`intercept_` of each, stacked along a first axis; for linear models."""
        return np.stack([np.asarray(model.intercept_) for model in self.models])

    @property
    def objectives(self) -> NDArray[np.float64]:
        """Loss + λR of each, (n,)."""
        return np.array([certificate.objective for certificate in self.certificates])

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """`certificate_` of each."""
        return tuple(model.certificate_ for model in self.models)

    @property
    def n_iter(self) -> NDArray[np.int64]:
        """Passes over the data that each took, those of a head start included, (n,)."""
        return np.array([model.n_iter_ for model in self.models])


def chosen_strengths(
    strengths: Any, *, linear: bool, largest: float | None, n_strengths: int, ratio: float
) -> NDArray[np.float64]:
    """The sequence of λ in the order in which solutions are found.

    Args:
        strengths: those asked for, or None.
        linear: whether the model is linear: then from the largest down, else from the smallest up.
        largest: λ_max, where no strengths are asked for.
        n_strengths: how many, where none are asked for.
        ratio: the smallest over the largest, where none are asked for.

    Raises:
        ValueError: none is left, one is negative or not finite, or there is no λ_max to start from.
    """
    if strengths is None:
        if largest is None:
            raise ValueError(
                "strengths is None, but a network with hidden layers has no λ_max: with all weights 0 it is stationary "
                "at every λ; accepted there is a sequence of strengths"
            )
        if not 0 < largest < np.inf:
            raise ValueError(
                f"strengths is None, but the smallest λ at which all weights are 0 is {largest} here; accepted there "
                "is a sequence of strengths"
            )
        if not (isinstance(n_strengths, int) and n_strengths >= 1):
            raise ValueError(f"n_strengths is {n_strengths!r}; accepted is a whole number of at least 1")
        if not 0 < ratio < 1:
            raise ValueError(f"ratio is {ratio!r}; accepted is a number in (0, 1)")
        return np.geomspace(largest, largest * ratio, n_strengths)
    wanted = np.asarray(strengths, dtype=np.float64).reshape(-1)
    if not len(wanted) or not np.all(np.isfinite(wanted)) or wanted.min() < 0:
        raise ValueError(f"strengths is {strengths!r}; accepted are one or more finite numbers of at least 0")
    ordered = np.sort(wanted)
    return ordered[::-1].copy() if linear else ordered
