"""What the records of claim `ways-forward` say of each method: is it sparse, does it reach the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonsmooth.claims.framework.claim import format_number
from nonsmooth.claims.lasso.lasso_data import FEATURES
from nonsmooth.claims.lasso.sparse_methods import DESCENT, PLAIN
from nonsmooth.lab import Record

TOLERANCE = 0.01
"""Largest optimality residual, in units of λ, that counts as the optimum."""
SPARSE_SHARE = 0.5
NETWORK_SHARE, ACCURACY_LOSS = 0.1, 0.05

Table = NDArray[np.float64]


class Evidence:
    """The records of this claim by part and method.

    Raises:
        ValueError: what is looked up was not measured.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = {(str(r.parameters["part"]), str(r.parameters["method"])): r for r in records}

    def table(self, part: str, method: str, value: str) -> Table:
        """A value by strength and seed."""
        if (part, method) not in self._records:
            raise ValueError(f"no record has method {method!r} in part {part!r}")
        return np.asarray(self._records[part, method][value], dtype=np.float64)

    def medians(self, part: str, method: str, value: str) -> Table:
        """The median over seeds, by strength."""
        medians: Table = np.median(self.table(part, method, value), axis=1)
        return medians

    def labels(self, part: str) -> list[str]:
        """The strengths of a part, as a reader writes them."""
        parameters: Any = self._records[part, PLAIN].parameters
        shares = [f"{format_number(share)} λ_max" for share in parameters.get("shares", ())]
        return [format_number(strength) for strength in parameters["strengths"]] + shares

    def steps(self, part: str) -> int:
        """Number of steps of a part."""
        parameters: Any = self._records[part, PLAIN].parameters
        return int(parameters["steps"])

    def sparse(self, method: str) -> list[bool]:
        """By strength: whether at least half of the exact solution's zeros are exactly zero."""
        found, exact = (self.medians("full batch", method, value) for value in ("zeros", "exact_zeros"))
        return [bool(f >= SPARSE_SHARE * e) for f, e in zip(found, exact, strict=True)]

    def optimal(self, method: str, prefix: str = "") -> list[bool]:
        """By strength: whether the optimality residual is at most 1 % of λ."""
        return [bool(r <= TOLERANCE) for r in self.medians("full batch", method, f"{prefix}residual")]

    def network_sparse(self, method: str) -> bool:
        """Whether at some strength a tenth of the weights are zero and the accuracy is NGDM's less five points."""
        zeros = self.medians("network", method, "zero_share")
        accuracy, plain = (self.medians("network", name, "accuracy") for name in (method, PLAIN))
        return bool(((zeros >= NETWORK_SHARE) & (accuracy >= plain - ACCURACY_LOSS)).any())

    def rounding_suffices(self) -> bool:
        """Whether NGDM's result, rounded at αλ, is optimal with the exact support wherever the solution is not zero."""
        wrong = self.medians("full batch", PLAIN, "rounded_wrong_in_support")
        trivial = self.medians("full batch", DESCENT, "exact_zeros") == FEATURES
        good = np.array(self.optimal(PLAIN, "rounded_")) & (wrong == 0)
        return bool((good | trivial).all())
