"""What a recording keeps: of an operation, of a piece of memory, of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nonsmooth.kinks.place import Place
from nonsmooth.kinks.rules import KEEPS_SIGN, POSITIVE, is_even
from nonsmooth.kinks.smoothness import Verdict


@dataclass
class Record:
    """An operation at a place, over all of its calls; `instead_of` has the records that make it void."""

    name: str
    verdict: Verdict
    place: Place
    bit: int
    calls: int = 0
    reach: int = 0
    gradient: int = 0
    instead_of: int = 0
    inside: list[str] = field(default_factory=list)


@dataclass
class Dependence:
    """What a piece of memory depends on. The weak reference keeps its address from being used again.

    What does not vary is piecewise constant, as a comparison's result is: the jump was recorded where it arose, and
    whatever is computed from it alone adds none. `squared` and `unsquared` are records that count as soon as its
    square, or something else of it, is used.
    """

    alive: StorageWeakRef
    reach: int
    records: int
    varies: bool
    positive: bool = False
    squared: int = 0
    unsquared: int = 0

    def deferred(self, use: Use) -> int:
        """The records that count from now on because of how this memory is used."""
        return {Use.VIEW: 0, Use.SQUARE: self.squared, Use.OTHER: self.unsquared}[use]


class Use(Enum):
    """What a call does with an argument."""

    VIEW = "view"
    SQUARE = "square"
    OTHER = "other"


def use_of(func: Any, name: str, args: Any) -> Use:
    """Whether a call squares its argument, or takes another even power, only views it, or does something else."""
    if func.is_view:
        return Use.VIEW
    square = name == "square" or (name == "pow" and is_even(args[1])) or (name == "mul" and args[0] is args[1])
    return Use.SQUARE if square else Use.OTHER


@dataclass(frozen=True)
class Marks:
    """The bits of records that depend on the result of a call from now on.

    Attributes:
        values: of all outputs but positions.
        indices: of positions.
        squared: of what uses the square of an output.
        unsquared: of what uses it otherwise, where the square is smoother.
    """

    values: int
    indices: int
    squared: int = 0
    unsquared: int = 0


NO_MARKS = Marks(0, 0)


class RecordedCall:
    """A call, for the rules of the table.

    Args:
        func: the operator.
        args: its arguments.
        kwargs: likewise.
        dependence: what is known of the memory of a tensor.
    """

    recorded = True

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        dependence: Callable[[Tensor], Dependence | None] = lambda tensor: None,
    ) -> None:
        self._func, self._args, self._kwargs, self._dependence = func, args, kwargs, dependence

    def argument(self, name: str) -> Any:
        """The value of an argument, or its default."""
        if name in self._kwargs:
            return self._kwargs[name]
        for position, argument in enumerate(self._func._schema.arguments):
            if argument.name == name:
                if position < len(self._args):
                    return self._args[position]
                return argument.default_value if argument.has_default_value() else None
        return None

    def depends(self, position: int) -> bool:
        """Whether something that the recording follows reaches a tensor argument."""
        tensors = [argument for argument in self._args if isinstance(argument, Tensor)]
        if position >= len(tensors):
            return False
        known = self._dependence(tensors[position])
        return tensors[position].requires_grad or (known is not None and known.reach != 0)

    def positive(self) -> bool:
        """Whether the first argument was made positive."""
        known = self._dependence(self._args[0]) if isinstance(self._args[0], Tensor) else None
        return known is not None and known.positive

    def makes_positive(self, name: str) -> bool:
        """Whether the result stays away from 0."""
        if name in POSITIVE:
            return True
        if name == "add":
            other = self._args[1] if len(self._args) > 1 else None
            if isinstance(other, Real):
                return float(other) > 0
            return not (self.depends(0) and self.depends(1))
        if name in {"clamp", "clamp_min"}:
            least = self.argument("min")
            return isinstance(least, Real) and float(least) > 0
        if name not in KEEPS_SIGN or not self._args or not isinstance(self._args[0], Tensor):
            return False
        known = [self._dependence(argument) for argument in self._args if isinstance(argument, Tensor)]
        factor = self._args[1] if name in {"mul", "div"} else 1
        return all(k is not None and k.positive for k in known) and not (
            isinstance(factor, Real) and float(factor) <= 0
        )
