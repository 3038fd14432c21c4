"""What a penalty can do: the verbs that methods, certificates and reports use, and how a penalty is written down.

A strength λ and a step are numbers, or tensors that broadcast against the point; a step per coordinate is the
diagonal of the metric in which the prox is taken.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar, TypeGuard

import numpy as np
import torch
from torch import Tensor

from nonsmooth.foreign_text import visible
from nonsmooth.penalties.names import check_is_the_one, classes_below, named_class, note_definition, written_name

Strength = float | Tensor
"""λ ≥ 0: a number, or a tensor that broadcasts against the point."""

Step = float | Tensor
"""α ≥ 0: a number, or the diagonal of a metric as a tensor that broadcasts against the point."""


class Penalty(ABC):
    """λR(w), a function that need not be differentiable.

    A subclass is a frozen dataclass whose fields are numbers, strings, tensors or None: that is what makes it a name
    and numbers (`specification`), which lie in an optimiser's `param_groups` and in its checkpoints.
    """

    convex: ClassVar[bool]
    """Whether R is convex."""

    separable: ClassVar[bool] = False
    """Whether R is a sum over coordinates, so that a prox of a part is a part of the prox."""

    is_norm: ClassVar[bool] = False
    """Whether R is a norm, weighted or not: `lam_max` is then its dual norm, and a duality gap needs no more."""

    strength: Strength
    """λ."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        note_definition(cls)

    @abstractmethod
    def value(self, point: Tensor, dim: int | None = None) -> Tensor:
        """λR(w), a real number; for a sum over coordinates also the sums over dimension `dim` alone."""

    @abstractmethod
    def proximal_map(self, point: Tensor, step: Step) -> Tensor:
        """What `prox` returns, without looking at `step` first: optimisers call this, with steps of their own."""

    @abstractmethod
    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The distance of -`gradient` from λ∂R(w), by coordinate or by group; zero everywhere at a stationary point."""

    def largest_pull(self, point: Tensor) -> Strength:
        """The largest norm in λ∂R(0), by coordinate or by group: what `subdiff_distance` is to be compared with.

        A property of the function, so it does not depend on how λ and weights share in it. λ, unless a penalty knows
        better; 0 or infinity where R has no kink at zero.
        """
        del point
        return self.strength

    @abstractmethod
    def subgradient(self, point: Tensor) -> Tensor:
        """An element of λ∂R(w), the gradient of λR where there is one, 0 in coordinates or groups that are 0."""

    @abstractmethod
    def lam_max(self, gradient_at_zero: Tensor) -> Tensor:
        """The smallest λ at which w = 0 is stationary, given the gradient of the loss there."""

    def conjugate(self, dual: Tensor) -> Tensor | None:
        """The conjugate function sup over w of ⟨dual, w⟩ - λR(w), for a duality gap; None where there is no formula."""
        del dual
        return None

    def free_coordinates(self, point: Tensor) -> Tensor | None:
        """Where R does not depend on the point, as with weights of 0: bool, of its shape; None if nowhere."""
        del point
        return None

    def units(self, shape: torch.Size) -> int:
        """How many parts of a tensor of that shape R can set to zero, each as one: its coordinates.

        A penalty that zeroes something else, such as groups or singular values, says so here and in the next methods.
        """
        return math.prod(shape)

    def unit_sizes(self, point: Tensor) -> Tensor:
        """How large each of these parts is, (units,): the magnitude of each coordinate."""
        return point.abs().flatten()

    def zero_units(self, point: Tensor) -> Tensor:
        """How many of the parts in `unit_sizes` are zero, an integer tensor without dimensions."""
        return point.numel() - torch.count_nonzero(point)

    def above(self, point: Tensor, size: float) -> Tensor | None:
        """Where the parts are whose `unit_sizes` exceed `size`, or are NaN: bool, broadcasts against the point.

        None where parts are no sets of coordinates.
        """
        return ~(point.abs() <= size)

    def cut_(self, point: Tensor, chosen: Tensor) -> None:
        """Set parts to zero, in place.

        Args:
            point: w.
            chosen: which, bool, (units,), as `unit_sizes` orders them.
        """
        point.masked_fill_(chosen.reshape(point.shape), 0)

    def zero_keeper(self, point: Tensor) -> Callable[[Tensor], object]:
        """What puts back to zero, in place, the parts of another tensor that are zero here: single coordinates."""
        zero = point == 0
        return lambda other: other.masked_fill_(zero, 0)

    def along_zeros(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The part of a gradient along which the parts that are zero stay zero."""
        return torch.where(point == 0, 0, gradient)

    @property
    def largest_step(self) -> float:
        """The step below which the prox is a single point; infinite where a closed form holds for every step."""
        return math.inf

    def prox(self, point: Tensor, step: Step) -> Tensor:
        """Argmin over z of λR(z) + Σⱼ (zⱼ - wⱼ)²/(2·stepⱼ), of the shape of `point`.

        Args:
            point: w.
            step: α ≥ 0, a number, or one per coordinate as a tensor that broadcasts against the point. For a complex
                point it may be complex: the steps of the real and of the imaginary part.

        Raises:
            ValueError: a step is negative or not a number, or so large that the minimiser is not unique; the message
                has the largest step allowed.
        """
        if isinstance(step, Tensor):
            by_parts = step.is_complex() and point.is_complex()
            check_not_negative("step", torch.view_as_real(step) if by_parts else step)
            kind = point.real.dtype if point.is_complex() and not by_parts else point.dtype
            step = step.to(point.device, torch.promote_types(kind, torch.float32))
        else:
            check_not_negative("step", step)
        self.check_step(step)
        if point.dtype in (torch.float16, torch.bfloat16):
            # Else the threshold would be rounded to three digits; the result still is.
            return self.proximal_map(point.float(), step).to(point.dtype)
        return self.proximal_map(point, step)

    def prox_(self, point: Tensor, step: Step) -> None:
        """Overwrite `point` by `proximal_map`; where that needs less memory, a penalty says how."""
        point.copy_(self.proximal_map(point, step))

    def limited_prox_(self, point: Tensor, step: Tensor, limit: Tensor) -> None:
        """Overwrite `point` by its prox, but move no coordinate further than its limit.

        Args:
            point: w.
            step: α ≥ 0 by coordinate, as for `proximal_map`; overwritten.
            limit: ≥ 0, of the point's shape; for a complex point with Re and Im in a last dimension; overwritten.
        """
        parts = torch.view_as_real(point) if point.is_complex() else point
        lowest, highest = parts - limit, torch.add(limit, parts, out=limit)
        self.prox_(point, step)
        torch.clamp(parts, lowest, highest, out=parts)

    def sliced_along(self, ndim: int) -> int | None:
        """A dimension of a tensor of `ndim` dimensions over whose slices R is a sum of one and the same function.

        So a prox of a slice is a slice of the prox, and a large tensor can be done part by part. None where there is
        no such dimension.
        """
        del ndim
        return None

    def check_step(self, step: Step) -> None:
        """Raise if a step is so large that this penalty's prox is not a single point.

        Raises:
            ValueError: a step is not below `largest_step`.
        """
        limit = self.largest_step
        if limit == math.inf:
            return
        if isinstance(step, Tensor):
            parts = torch.view_as_real(step) if step.is_complex() else step
            largest: Any = float(parts.max()) if step.numel() else None
        else:
            largest = step
        if _is_number(largest) and largest >= limit:
            raise ValueError(
                f"step is {largest:g}; {type(self).__name__} is not convex, and its prox is a single point only for "
                f"steps below {limit:g}"
            )

    def check_metric(self, *, by_parts: bool) -> None:
        """Raise unless complex numbers have a prox where each coordinate has a step of its own.

        Args:
            by_parts: whether the steps of the real and of the imaginary part differ, as in adaptive optimisers.

        Raises:
            ValueError: they have none.
        """
        del by_parts

    def check_shape(self, shape: torch.Size) -> None:
        """Raise unless this penalty can be put on a tensor of that shape.

        Raises:
            ValueError: it cannot.
        """
        for name, value in self.fields().items():
            if isinstance(value, Tensor) and name in ("strength", "weights"):
                trailing = zip(reversed(value.shape), reversed(shape), strict=False)
                if value.ndim > len(shape) or any(own not in (1, theirs) for own, theirs in trailing):
                    raise ValueError(
                        f"{name} has shape {tuple(value.shape)}; accepted is one that broadcasts to the parameter's "
                        f"shape {tuple(shape)}"
                    )

    def fields(self) -> dict[str, Any]:
        """The fields by name, as they were given."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def specification(self) -> dict[str, Any]:
        """This penalty as a name and numbers, which `from_specification` reads.

        The name of a class that the package does not have begins with its module.

        Raises:
            ValueError: the name would be read as another class, or a field is called "name".
        """
        check_is_the_one(type(self), Penalty)
        if "name" in self.fields():
            raise ValueError(
                f"{type(self).__name__} has a field 'name', which is that of the class; accepted are others"
            )
        return {"name": written_name(type(self)), **{name: _plain(value) for name, value in self.fields().items()}}


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a real number, of Python or of NumPy, which a tensor can be multiplied by."""
    whole = isinstance(value, Integral) and abs(int(value)) <= sys.float_info.max
    return whole or isinstance(value, float | np.floating)


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python's: `torch.load` with `weights_only=True` accepts no other."""
    if _is_number(value) and type(value) not in (bool, int, float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def known_penalties() -> dict[str, type[Penalty]]:
    """Every penalty by its name, those that are defined elsewhere by module and name."""
    return classes_below(Penalty)


def from_specification(specification: Mapping[str, Any], *, kind: type[Penalty] | None = None) -> Penalty:
    """The penalty that `Penalty.specification` wrote down.

    Args:
        specification: its name and numbers.
        kind: the class, where it is known already.

    Raises:
        ValueError: no penalty has the name, or several have, or it has not these numbers.
    """
    numbers = dict(specification)
    name = numbers.pop("name", None)
    kind = named_class(Penalty, name) if kind is None else kind
    name = kind.__name__
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(map(str, numbers)) - fields):
        raise ValueError(
            f"{name} was given {', '.join(map(visible, unknown))}; accepted are {', '.join(sorted(fields))}"
        )
    if "strength" not in numbers:
        raise ValueError(f"{name} was given no strength")
    return kind(**numbers)


def check_not_negative(name: str, value: Any) -> None:
    """Raise unless every entry is a finite number of at least 0.

    Raises:
        ValueError: an entry is negative, infinite or not a number.
    """
    if isinstance(value, Tensor):
        good = not value.is_complex() and bool(((value >= 0) & torch.isfinite(value)).all())
    else:
        good = _is_number(value) and 0 <= value < math.inf
    if not good:
        raise ValueError(f"{name} is {value!r}; accepted are finite numbers of at least 0")


def check_weights(weights: Any) -> None:
    """Raise unless weights are None or a tensor of finite numbers of at least 0.

    Raises:
        ValueError: they are not.
    """
    if weights is not None and not isinstance(weights, Tensor):
        raise ValueError(f"weights is {weights!r}; accepted is a torch.Tensor, or None")
    if weights is not None:
        check_not_negative("weights", weights)


def check_above(name: str, value: Any, bound: float) -> None:
    """Raise unless a number is finite and above a bound.

    Raises:
        ValueError: it is not.
    """
    if not (_is_number(value) and bound < value < math.inf):
        raise ValueError(f"{name} is {value!r}; accepted is a finite number above {bound:g}")


def check_share(name: str, value: Any) -> None:
    """Raise unless a number lies in [0, 1].

    Raises:
        ValueError: it does not.
    """
    if not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name} is {value!r}; accepted is a number in [0, 1]")
