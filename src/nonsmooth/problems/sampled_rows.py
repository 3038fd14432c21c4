"""Stochastic gradients of a regression: each evaluation sees a few rows, drawn anew."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem
from nonsmooth.problems.regression import Regression


class SampledRows(Problem):
    """A regression of which each evaluation uses `rows` rows, drawn with replacement, the same for all instances.

    Values and gradients are unbiased estimates of the regression's own. Successive evaluations differ, so an ensemble
    has to be run as one block if its instances are to see the same draws whatever their number.

    Args:
        problem: the regression.
        rows: how many rows an evaluation draws.
        generator: where the draws come from.

    Raises:
        ValueError: `rows` is less than 1.
    """

    def __init__(self, problem: Regression, rows: int, generator: torch.Generator) -> None:
        if rows < 1:
            raise ValueError(f"rows is {rows}; accepted are numbers of at least 1")
        self._problem, self._rows, self._generator = problem, rows, generator

    @property
    def instances(self) -> int:
        """Number of data sets."""
        return self._problem.instances

    @property
    def features(self) -> int:
        """P."""
        return self._problem.features

    @property
    def bytes_per_instance(self) -> int:
        """Size of one Z: all of its rows are read sooner or later."""
        return self._problem.bytes_per_instance

    def select(self, instances: slice) -> SampledRows:
        """The same for some of the instances; the generator is shared."""
        return SampledRows(self._problem.select(instances), self._rows, self._generator)

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient on freshly drawn rows."""
        whole = self._problem
        drawn = torch.randint(whole.samples, (self._rows,), generator=self._generator)
        part = Regression(
            whole.data[:, drawn],
            whole.response[:, drawn],
            l1=whole.l1,
            l2=whole.l2,
            link=whole.link,
            loss=whole.loss,
            scale=whole.scale * whole.samples / self._rows,
            sign_at_zero=whole.sign_at_zero,
        )
        return part.evaluate(point)
