"""What a recording keeps: of an operation, of a piece of memory, of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nonsmooth.kinks.recording.place import Place
from nonsmooth.kinks.recording.sets import NO_LEAVES, NO_RECORDS, LeafSet, RecordSet, union
from nonsmooth.kinks.table.rules import at_least_square, is_even
from nonsmooth.kinks.table.signs import Sign, sign_of_constant, sign_of_number, sign_of_result
from nonsmooth.kinks.table.smoothness import Classification


@dataclass
class RecordedOperation:
    """An operation at a place, over all of its calls.

    Attributes:
        name: as it is shown.
        classification: its class.
        place: where it stands.
        bit: the set of it alone.
        calls: number of calls.
        reach: what reaches it.
        gradient: what reaches it with a gradient.
        instead_of: the records that make it void.
        inside: what an `autograd.Function` calls.
        node: the number of the autograd node of that function's last call.
    """

    name: str
    classification: Classification
    place: Place
    bit: RecordSet
    calls: int = 0
    reach: LeafSet = NO_LEAVES
    gradient: LeafSet = NO_LEAVES
    instead_of: RecordSet = NO_RECORDS
    inside: list[str] = field(default_factory=list)
    node: int = -1


@dataclass
class Dependence:
    """What a piece of memory depends on. The weak reference keeps its address from being used again.

    What does not vary is piecewise constant, as a comparison's result is: the jump was recorded where it arose, and
    whatever is computed from it alone adds none. `squared` and `unsquared` are records that count as soon as its
    square, or something else of it, is used.
    """

    alive: StorageWeakRef
    reach: LeafSet
    records: RecordSet
    varies: bool
    sign: Sign = Sign.UNKNOWN
    squared: RecordSet = NO_RECORDS
    unsquared: RecordSet = NO_RECORDS

    def hold(self, sign: Sign, marks: Marks, *, whole: bool) -> None:
        """Note what an operation has written here: to the whole of it, or to a part."""
        self.sign = sign if whole else min(self.sign, sign)
        self.squared = marks.squared if whole else union(self.squared, marks.squared)
        self.unsquared = marks.unsquared if whole else union(self.unsquared, marks.unsquared)

    def deferred(self, use: ArgumentUse) -> RecordSet:
        """The records that count from now on because of how this memory is used."""
        if use is ArgumentUse.POWER:  # a power that is not even helps where the square would still have a kink
            return self.squared or self.unsquared
        return {ArgumentUse.VIEW: NO_RECORDS, ArgumentUse.SQUARE: self.squared, ArgumentUse.OTHER: self.unsquared}[use]


class ArgumentUse(Enum):
    """What a call does with an argument."""

    VIEW = "view"
    SQUARE = "square"
    POWER = "power"
    OTHER = "other"


def use_of(func: Any, name: str, args: Any) -> ArgumentUse:
    """Whether a call squares its argument, or takes another power, only views it, or does something else."""
    if func.is_view:
        return ArgumentUse.VIEW
    if name == "square" or (name == "pow" and is_even(args[1])) or (name == "mul" and args[0] is args[1]):
        return ArgumentUse.SQUARE
    return ArgumentUse.POWER if name == "pow" and at_least_square(args[1]) else ArgumentUse.OTHER


@dataclass(frozen=True)
class Marks:
    """The records that depend on the result of a call from now on.

    Attributes:
        values: of all outputs but those.
        parts: of outputs that have a class of their own.
        squared: of what uses the square of an output.
        unsquared: of what uses it otherwise, where the square is smoother.
    """

    values: RecordSet
    parts: RecordSet
    squared: RecordSet = NO_RECORDS
    unsquared: RecordSet = NO_RECORDS


NO_MARKS = Marks(NO_RECORDS, NO_RECORDS)


class RecordedCall:
    """A call, for the rules of the table.

    Args:
        func: the operator.
        args: its arguments.
        kwargs: its keyword arguments.
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
        return known is not None and known.sign is Sign.POSITIVE

    def sign(self, name: str) -> Sign:
        """The sign of the result, as far as it shows in the call."""
        twice = len(self._args) > 1 and self._args[0] is self._args[1]
        return sign_of_result(name, self.argument, lambda: self._signs(name), twice=twice)

    def _signs(self, name: str) -> list[Sign]:
        """The signs of the operands; constants are read only where they decide."""
        arguments = list(tensors_among(self._args))
        signs, constants = [], []
        for tensor in arguments:
            known = self._dependence(tensor)
            if known is not None and known.reach:
                signs.append(known.sign)
            elif tensor.requires_grad:
                signs.append(Sign.UNKNOWN)
            else:
                constants.append(tensor)
        if name in {"add", "mul", "div"} and len(arguments) == 1:
            signs.append(sign_of_number(self._args[1]))
        if name == "add" and sign_of_number(self.argument("alpha") or 1) is not Sign.POSITIVE:
            return [Sign.UNKNOWN]
        if Sign.UNKNOWN in signs:
            return signs
        return [*signs, *map(sign_of_constant, constants)]


def tensors_among(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments or results, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_among(value)
