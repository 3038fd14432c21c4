"""What every problem offers: value and subgradient on a batch of instances, and what is known of it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nonsmooth.deprecation import renamed_attribute


@dataclass(frozen=True)
class Evaluation:
    """A problem at a point; all tensors lie on the batch (instances, variants).

    Attributes:
        value: f, shape (instances, variants).
        gradient: the (sub)gradient of f without its L1 term, shape (instances, variants, features).
        subgradient: the (sub)gradient of the whole of f, same shape.
        preactivation: Zβ, shape (instances, variants, samples); None where the problem has no data.
    """

    value: Tensor
    gradient: Tensor
    subgradient: Tensor
    preactivation: Tensor | None = None


class Problem(ABC):
    """A function on R^P, in many instances (different data) and variants (same data, other settings) at once."""

    @property
    @abstractmethod
    def instances(self) -> int:
        """Number of instances; 1 broadcasts against any."""

    @property
    @abstractmethod
    def features(self) -> int:
        """P, the dimension of a point."""

    @abstractmethod
    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient at `point`, shape (instances, variants, features)."""

    @abstractmethod
    def select(self, instances: slice) -> Problem:
        """The problem restricted to some of its instances."""

    @property
    @abstractmethod
    def bytes_per_instance(self) -> int:
        """Bytes of data that one evaluation of one instance reads; decides how many fit a cache."""

    @property
    def minimizer(self) -> Tensor | None:
        """A minimiser, shape (instances, variants or 1, features), or None where no closed form is known."""
        return None

    minimiser = renamed_attribute("minimiser", "minimizer")

    def __init_subclass__(cls, **options: Any) -> None:
        """Take the old name of `minimizer` in a subclass for the new one, with a DeprecationWarning."""
        super().__init_subclass__(**options)
        old = vars(cls).get("minimiser")
        if old is not None and "minimizer" not in vars(cls):
            warnings.warn(f"{cls.__name__}.minimiser is now called 'minimizer'", DeprecationWarning, stacklevel=3)
            cls.minimizer = old  # type: ignore[method-assign]

    @property
    def minimum(self) -> Tensor | None:
        """The minimum of f, shape (instances, variants or 1), or None where no closed form is known."""
        minimizer = self.minimizer
        return None if minimizer is None else self.value(minimizer)

    @property
    def lipschitz(self) -> Tensor | None:
        """A Lipschitz constant of f in the Euclidean norm (eq. 6), shape (instances, 1 or variants), or None."""
        return None

    @property
    def gradient_lipschitz(self) -> Tensor | None:
        """A Lipschitz constant of ∇f in the Euclidean norm (eq. 5), same shape, or None where ∇f jumps."""
        return None

    def value(self, point: Tensor) -> Tensor:
        """F at `point`, shape (instances, variants)."""
        return self.evaluate(point).value

    def subgradient(self, point: Tensor) -> Tensor:
        """An element of the subdifferential of f at `point`, of the same shape."""
        return self.evaluate(point).subgradient
