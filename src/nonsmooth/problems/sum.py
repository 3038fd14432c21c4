"""The sum of two problems, such as a smooth loss and a penalty that is rounded off."""

from __future__ import annotations

from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem


class Sum(Problem):
    """f + g.

    Args:
        first: f, which may have data.
        second: g, with as many features, and with one instance or as many as f.

    Raises:
        ValueError: the numbers of features or of instances do not fit.
    """

    def __init__(self, first: Problem, second: Problem) -> None:
        if first.features != second.features or second.instances not in (1, first.instances):
            raise ValueError(
                f"second has {second.features} features and {second.instances} instances; accepted are "
                f"{first.features} features, and 1 or {first.instances} instances"
            )
        self._first, self._second = first, second

    @property
    def instances(self) -> int:
        """Those of f."""
        return self._first.instances

    @property
    def features(self) -> int:
        """P."""
        return self._first.features

    @property
    def bytes_per_instance(self) -> int:
        """Of both."""
        return self._first.bytes_per_instance + self._second.bytes_per_instance

    def select(self, instances: slice) -> Sum:
        """The sum of both, restricted."""
        second = self._second if self._second.instances == 1 else self._second.select(instances)
        return Sum(self._first.select(instances), second)

    def evaluate(self, point: Tensor) -> Evaluation:
        """Values and gradients add up; the pre-activation is that of f."""
        one, other = self._first.evaluate(point), self._second.evaluate(point)
        return Evaluation(
            one.value + other.value,
            one.gradient + other.gradient,
            one.subgradient + other.subgradient,
            one.preactivation,
        )

    @property
    def gradient_lipschitz(self) -> Tensor | None:
        """The sum of both constants: an upper bound, which is met where both are most curved along one direction."""
        one, other = self._first.gradient_lipschitz, self._second.gradient_lipschitz
        return None if one is None or other is None else one + other
