"""How smooth an operation is, from worst to best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Smoothness(Enum):
    """The class of a function, with respect to its tensor arguments, wherever it is defined.

    A boundary of its domain counts where the value is finite and the slope is not: √x at 0, arcsin at ±1. Where the
    value itself is infinite, as log x at 0, it does not.

    Classes compare from worst to best, DISCONTINUOUS < C0 < C1 < SMOOTH. UNKNOWN has no place in that order, and
    comparing it is a TypeError.

    Attributes:
        DISCONTINUOUS: its value jumps.
        C0: continuous, and somewhere not differentiable, or without a Lipschitz gradient near some point.
        C1: differentiable with a Lipschitz gradient on bounded sets, and somewhere not infinitely differentiable: a
            function that is C² or C³ has no class of its own.
        SMOOTH: infinitely differentiable wherever it is defined.
        UNKNOWN: not in the table, or decided by something that cannot be seen.
    """

    DISCONTINUOUS = 0
    C0 = 1
    C1 = 2
    SMOOTH = 3
    UNKNOWN = None

    def __lt__(self, other: object) -> bool:
        return self._place("<") < _of(other, "<")

    def __le__(self, other: object) -> bool:
        return self._place("<=") <= _of(other, "<=")

    def __gt__(self, other: object) -> bool:
        return self._place(">") > _of(other, ">")

    def __ge__(self, other: object) -> bool:
        return self._place(">=") >= _of(other, ">=")

    def _place(self, sign: str) -> int:
        if self.value is None:
            raise TypeError(f"'{sign}' with Smoothness.UNKNOWN; accepted are the classes that are known")
        return int(self.value)

    def __str__(self) -> str:
        return {"C0": "C⁰", "C1": "C¹"}.get(self.name, self.name.lower())


def _of(other: object, sign: str) -> int:
    if not isinstance(other, Smoothness):
        raise TypeError(f"'{sign}' of a Smoothness and {other!r}; accepted is another Smoothness")
    return other._place(sign)


@dataclass(frozen=True)
class Classification:
    """What the table says of one call of an operation.

    Attributes:
        smoothness: its class.
        reason: where it is not smooth, or why that is not known.
    """

    smoothness: Smoothness
    reason: str = ""


SMOOTH = Classification(Smoothness.SMOOTH)


def worst(classes: Iterable[Smoothness]) -> Smoothness:
    """The worst class that is known; SMOOTH of none."""
    return min((c for c in classes if c is not Smoothness.UNKNOWN), default=Smoothness.SMOOTH)
