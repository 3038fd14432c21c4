"""What the records of claim `ways-forward` say of each method: tables by strength and seed, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonsmooth import extremes
from nonsmooth.claims.framework import Estimate, NotStoredError, Quantity, Runs, format_number, known
from nonsmooth.claims.lasso.lasso_data import FEATURES
from nonsmooth.claims.lasso.sparse_methods import ITERATIVE, PLAIN
from nonsmooth.claims.lasso.sparse_runs import WIDTHS
from nonsmooth.lab import Record

SLOWEST = (0.01,)
"""The strength at which a budget matters: a weight comes αλ nearer to zero in a step."""
STEPS = 5000
BUDGETS = (1000, 2000, STEPS, 10_000)

Table = NDArray[np.float64]


def median(quantity: Quantity, samples: Table) -> Estimate:
    """The median over seeds, of which there is at least one."""
    found = quantity.median(samples)
    assert isinstance(found, Estimate)
    return found


class Methods:
    """The records by part and method.

    Args:
        parts: the runs of each part.
    """

    def __init__(self, parts: Mapping[str, Runs]) -> None:
        self._parts = parts

    def one(self, part: str, **parameters: Any) -> Record:
        """The only record of a part with these parameters.

        Raises:
            NotStoredError: there is none.
        """
        return self._parts[part].one(**parameters)

    def table(self, part: str, method: str, value: str) -> Table:
        """A value by strength and seed."""
        return np.asarray(self.one(part, method=method)[value], dtype=np.float64)

    def medians(self, part: str, method: str, value: str) -> Table:
        """The median over seeds, by strength."""
        medians: Table = np.median(self.table(part, method, value), axis=1)
        return medians

    def labels(self, part: str) -> list[str]:
        """The strengths of a part, as a reader writes them."""
        parameters: Any = self.one(part, method=PLAIN).parameters
        shares = [f"{format_number(share)} λ_max" for share in parameters.get("shares", ())]
        return [format_number(strength) for strength in parameters["strengths"]] + shares

    def zeros_found(self, quantity: Quantity, name: str, budget: int) -> Estimate:
        """The share of the exact solution's zeros that a method finds, at the strength where it is smallest."""
        zeros, exact = (self.table("full batch", name, value) for value in ("zeros", "exact_zeros"))
        if budget != STEPS and name in ITERATIVE:
            record = self.one("budgets", method=name)
            zeros, exact = np.array(record["zeros"])[place(budget, record)], np.array(record["exact_zeros"])
        shares = [median(quantity, z / e) for z, e in zip(zeros, exact, strict=True)]
        return extremes.smallest(shares, key=lambda e: e.value)

    def residuals(self, name: str, budget: int) -> Table:
        """Optimality residuals by strength and seed, at the slowest strength after that budget."""
        table = self.table("full batch", name, "residual")
        if budget != STEPS and name in ITERATIVE:
            record = self.one("budgets", method=name)
            table = np.vstack([np.array(record["residual"])[place(budget, record)], table[len(SLOWEST) :]])
        return table

    def network_zeros(self, quantity: Quantity, name: str, loss: float) -> Estimate:
        """The largest share of zeros on the network at an accuracy of NGDM's less that loss; 0 for none."""
        accuracy, plain = (known(self.medians("network", one, "accuracy")) for one in (name, PLAIN))
        shares = [
            median(quantity, row if good else 0 * row)
            for row, good in zip(self.table("network", name, "zero_share"), accuracy >= plain - loss, strict=True)
        ]
        return extremes.largest(shares, key=lambda e: e.value)

    def rounded(self, width: str, budget: int, residual: Quantity) -> tuple[Estimate, Estimate]:
        """Of the rounded NGDM, wrong entries in the support and residual, each at the strength where it is largest.

        Strengths at which the exact solution is 0 are left out: there every rounding that is wide enough is right.
        """
        record = self.one("rounded")
        useful = [i for i, row in enumerate(record["exact_zeros"]) if (np.array(row) < FEATURES).any()]
        wrong = Quantity("wrong", "NGDM rounded, LASSO: wrong entries in the support, the most at any λ")
        found = []
        for quantity, value in ((wrong, "wrong_in_support"), (residual, "residual")):
            table = np.array(record[value])[place(budget, record), WIDTHS.index(width)]
            found.append(extremes.largest([median(quantity, table[i]) for i in useful], key=lambda e: e.value))
        return found[0], found[1]

    def lead(self, quantity: Quantity, width: str, value: str) -> Estimate:
        """On the network, the rounded NGDM less the proximal step from the same start, at the worse strength."""
        table = np.array(self.one("rounded network")[value])
        leads = [median(quantity, row) for row in table[WIDTHS.index(width)] - table[-1]]
        return extremes.smallest(leads, key=lambda e: e.value)

    def trend(self, reached: Sequence[str]) -> str:
        """The residuals of the methods that are short of the optimum, from the middle budget to the longest."""
        texts = []
        for name in (name for name in ITERATIVE if name not in reached):
            residual = np.median(np.array(self.one("budgets", method=name)["residual"])[:, 0], axis=-1)
            texts.append(f"{name} {residual[BUDGETS.index(STEPS)]:.2g} λ → {residual[-1]:.2g} λ")
        steps: Any = self.one("budgets", method=ITERATIVE[0]).parameters["budgets"]
        return f"at λ = 0.01 from {STEPS:,} to {steps[-1]:,} steps {', '.join(texts)}" if texts else "none is short"


def place(budget: int, record: Record) -> int:
    """Of a budget in a record that holds several.

    Raises:
        NotStoredError: it does not hold this one.
    """
    listed: Any = record.parameters["budgets"]
    if budget not in listed:
        raise NotStoredError(f"no record has {budget:,} steps")
    return list(listed).index(budget)
