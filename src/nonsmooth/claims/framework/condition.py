"""Conditions on findings, with four answers, which are executed and printed from the same objects.

A comparison of an estimate is decided only where its whole interval lies on one side: otherwise the answer is open. A
finding that is missing, or not a number, answers nothing. `and`, `or` and `not` go by Kleene's logic, so a condition
is yes or no only if what is open or missing could not change it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from nonsmooth.claims.framework.choice import Choice
from nonsmooth.claims.framework.quantity import Estimate, Fact, Finding, Quantity
from nonsmooth.number_text import format_number


class Answer(Enum):
    """What a condition says of the findings."""

    YES = "yes"
    NO = "no"
    OPEN = "open"
    MISSING = "missing"


@dataclass(frozen=True)
class Scope:
    """What conditions are asked about.

    Attributes:
        findings: by name.
        choices: the values of the choices by name.
        brief: whether words leave out what the choices are.
    """

    findings: Mapping[str, Finding]
    choices: Mapping[str, Any]
    brief: bool = False

    def threshold(self, bound: float | Choice) -> float:
        """A bound's number."""
        return float(self.choices.get(bound.name, bound.value)) if isinstance(bound, Choice) else float(bound)


class Condition(ABC):
    """Something that findings answer; combine with `&`, `|` and `~`."""

    @abstractmethod
    def answer(self, scope: Scope) -> Answer:
        """Yes, no, open or missing."""

    @abstractmethod
    def words(self, scope: Scope, yes: bool = True) -> str:
        """The condition, or its opposite, as a reader sees it."""

    @abstractmethod
    def leaves(self) -> Iterator[Leaf]:
        """The comparisons and facts that it is made of."""

    def __and__(self, other: Condition) -> Condition:
        return Both(self, other)

    def __or__(self, other: Condition) -> Condition:
        return Either(self, other)

    def __invert__(self) -> Condition:
        return Opposite(self)


class Leaf(Condition):
    """A condition on one quantity."""

    def leaves(self) -> Iterator[Leaf]:
        """Itself."""
        yield self

    @abstractmethod
    def reads(self, scope: Scope) -> tuple[object, ...]:
        """All that its answer comes from: what was found, as far as it is looked at, and the bound."""

    @abstractmethod
    def turned(self, scope: Scope) -> Finding:
        """The finding, changed as little as makes a yes a no, or a no a yes."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of the findings that it looks up."""

    @abstractmethod
    def needed(self, scope: Scope) -> str:
        """What would decide it where it is open or missing."""


@dataclass(frozen=True, eq=False)
class Compared(Leaf):
    """A quantity against a number, a choice or another quantity: below it, or above it.

    Attributes:
        quantity: what is compared.
        below: whether the condition is "below" (<), else "above" (>).
        bound: a number, a choice that is one, or a quantity.
        typical: whether the number alone is compared, without its interval.
    """

    quantity: Quantity
    below: bool
    bound: float | Choice | Quantity
    typical: bool = False

    def names(self) -> tuple[str, ...]:
        """Of the quantity, and of the other one."""
        other = (self.bound.name,) if isinstance(self.bound, Quantity) else ()
        return (self.quantity.name, *other)

    def reads(self, scope: Scope) -> tuple[object, ...]:
        """The interval, or the number alone; and that of the bound."""
        found = [scope.findings.get(name) for name in self.names()]
        ends = [(*self._ends(f), float(f.value)) if isinstance(f, Estimate) else type(f).__name__ for f in found]
        return (*ends, None if isinstance(self.bound, Quantity) else scope.threshold(self.bound))

    def turned(self, scope: Scope) -> Finding:
        """The number that is just on the other side of the bound, for certain."""
        found, (low, high) = scope.findings[self.quantity.name], self._bound(scope)
        assert isinstance(found, Estimate)
        if self.answer(scope) is Answer.YES:
            value = high if self.below else low
        else:
            value = math.nextafter(low, -math.inf) if self.below else math.nextafter(high, math.inf)
        return replace(found, value=value, low=None, high=None)

    def answer(self, scope: Scope) -> Answer:
        """Yes if the whole interval is on the asked side, no if it is on the other, bound included."""
        found = [scope.findings.get(name) for name in self.names()]
        if not all(isinstance(f, Estimate) and not math.isnan(f.value) for f in found):
            return Answer.MISSING
        low, high = self._ends(found[0])
        bound_low, bound_high = self._bound(scope)
        if (math.isnan(low + high) and not math.isinf(low)) or math.isnan(bound_low) or math.isnan(bound_high):
            return Answer.MISSING
        if high < bound_low if self.below else low > bound_high:
            return Answer.YES
        if low >= bound_high if self.below else high <= bound_low:
            return Answer.NO
        return Answer.OPEN

    def _ends(self, found: Finding | None) -> tuple[float, float]:
        assert isinstance(found, Estimate)
        return (float(found.value),) * 2 if self.typical else (found.lower, found.upper)

    def _bound(self, scope: Scope) -> tuple[float, float]:
        if isinstance(self.bound, Quantity):
            return self._ends(scope.findings.get(self.bound.name))
        return (scope.threshold(self.bound),) * 2

    def words(self, scope: Scope, yes: bool = True) -> str:
        """Such as "starts that end in the two-cycle: below 0.99"."""
        side = "below" if self.below == yes else "above"
        reach = "" if yes else ", or equal to,"
        if isinstance(self.bound, Quantity):
            bound = f"that of {self.bound.label}"
        else:
            bound = format_number(scope.threshold(self.bound))
            bound += f" ({self.bound.label})" if isinstance(self.bound, Choice) and not scope.brief else ""
        what = f"the value of {self.quantity.label}" if self.typical else self.quantity.label
        return f"{what}: {side}{reach} {bound}"

    def needed(self, scope: Scope) -> str:
        """How many repetitions would make the interval short enough, or what is missing."""
        for name in self.names():
            found = scope.findings.get(name)
            if not isinstance(found, Estimate) or math.isnan(found.value):
                return _absent(name, found, self.quantity.label if name == self.quantity.name else name)
        found = scope.findings[self.quantity.name]
        assert isinstance(found, Estimate)
        bound = self._bound(scope)
        target = sum(bound) / 2
        text = f"{self.quantity.label} is {found}, which does not lie on one side of {format_number(target)}"
        reach = abs(found.value - target)
        half = found.upper - found.value if target > found.value else found.value - found.lower
        if found.count and reach > 0 and math.isfinite(half) and not isinstance(self.bound, Quantity):
            wanted = max(found.count + 1, math.ceil(found.count * (half / reach) ** 2))
            text += f": about {wanted:,} repetitions would tell, where there were {found.count:,}"
        return text


def _absent(name: str, found: Finding | None, label: str) -> str:
    if found is None:
        return f"{label} was not measured"
    if isinstance(found, Estimate):
        return f"{found.label} is not a number"
    return f"{found.label} {getattr(found, 'reason', 'is no number')}"


@dataclass(frozen=True, eq=False)
class Holds(Leaf):
    """A quantity that is a yes or a no."""

    quantity: Quantity

    def names(self) -> tuple[str, ...]:
        """Of the quantity."""
        return (self.quantity.name,)

    def reads(self, scope: Scope) -> tuple[object, ...]:
        """Its value."""
        found = scope.findings.get(self.quantity.name)
        return (found.value if isinstance(found, Fact) else type(found).__name__,)

    def turned(self, scope: Scope) -> Finding:
        """The other fact."""
        found = scope.findings[self.quantity.name]
        assert isinstance(found, Fact)
        return replace(found, value=not found.value)

    def answer(self, scope: Scope) -> Answer:
        """Its value; missing if it is no fact."""
        found = scope.findings.get(self.quantity.name)
        if not isinstance(found, Fact):
            return Answer.MISSING
        return Answer.YES if found.value else Answer.NO

    def words(self, scope: Scope, yes: bool = True) -> str:
        """Such as "the proximal step keeps the cycle: yes"."""
        return f"{self.quantity.label}: {'yes' if yes else 'no'}"

    def needed(self, scope: Scope) -> str:
        """What is missing."""
        return _absent(self.quantity.name, scope.findings.get(self.quantity.name), self.quantity.label)


@dataclass(frozen=True, eq=False)
class Both(Condition):
    """And."""

    first: Condition
    second: Condition

    def answer(self, scope: Scope) -> Answer:
        """No if one is no; else the less certain of the two."""
        return _worst((self.first.answer(scope), self.second.answer(scope)), Answer.NO, Answer.YES)

    def words(self, scope: Scope, yes: bool = True) -> str:
        """Joined by "and"; the opposite by "or"."""
        return _joined((self.first, self.second), " and " if yes else " or ", scope, yes)

    def leaves(self) -> Iterator[Leaf]:
        """Of both."""
        yield from self.first.leaves()
        yield from self.second.leaves()


@dataclass(frozen=True, eq=False)
class Either(Condition):
    """Or."""

    first: Condition
    second: Condition

    def answer(self, scope: Scope) -> Answer:
        """Yes if one is yes; else the less certain of the two."""
        return _worst((self.first.answer(scope), self.second.answer(scope)), Answer.YES, Answer.NO)

    def words(self, scope: Scope, yes: bool = True) -> str:
        """Joined by "or"; the opposite by "and"."""
        return _joined((self.first, self.second), " or " if yes else " and ", scope, yes)

    def leaves(self) -> Iterator[Leaf]:
        """Of both."""
        yield from self.first.leaves()
        yield from self.second.leaves()


def _worst(answers: tuple[Answer, ...], decisive: Answer, neutral: Answer) -> Answer:
    for answer in (decisive, Answer.MISSING, Answer.OPEN):
        if answer in answers:
            return answer
    return neutral


def _joined(parts: tuple[Condition, ...], word: str, scope: Scope, yes: bool) -> str:
    return word.join(
        text if _joiner(part, yes) in ("", word) else f"({text})"
        for part in parts
        for text in (part.words(scope, yes),)
    )


def _joiner(part: Condition, yes: bool) -> str:
    """The word that joins the parts of a condition, or of its opposite; "" for one without parts."""
    if isinstance(part, Opposite):
        return _joiner(part.part, not yes)
    if isinstance(part, Both | Either):
        return " and " if isinstance(part, Both) is yes else " or "
    return ""


@dataclass(frozen=True, eq=False)
class Opposite(Condition):
    """Not."""

    part: Condition

    def answer(self, scope: Scope) -> Answer:
        """Yes for no, no for yes."""
        return {Answer.YES: Answer.NO, Answer.NO: Answer.YES}.get(found := self.part.answer(scope), found)

    def words(self, scope: Scope, yes: bool = True) -> str:
        """The opposite's."""
        return self.part.words(scope, not yes)

    def leaves(self) -> Iterator[Leaf]:
        """Of what it denies."""
        return self.part.leaves()


@dataclass(frozen=True, eq=False)
class Surely(Condition):
    """A condition that must be decided to count: where it is open, the answer is no. What is missing stays missing."""

    part: Condition

    def answer(self, scope: Scope) -> Answer:
        """No where it is open."""
        found = self.part.answer(scope)
        return Answer.NO if found is Answer.OPEN else found

    def words(self, scope: Scope, yes: bool = True) -> str:
        """With the word "surely", and what it is said of in brackets where that has parts."""
        text = self.part.words(scope)
        return f"{'' if yes else 'not '}surely {f'({text})' if _joiner(self.part, True) else text}"

    def leaves(self) -> Iterator[Leaf]:
        """Of what must be sure."""
        return self.part.leaves()


def below(quantity: Quantity, bound: float | Choice | Quantity) -> Compared:
    """The quantity lies below the bound, with its whole interval."""
    return Compared(quantity, True, bound)


def above(quantity: Quantity, bound: float | Choice | Quantity) -> Compared:
    """The quantity lies above the bound, with its whole interval."""
    return Compared(quantity, False, bound)


def typically_below(quantity: Quantity, bound: float | Choice | Quantity) -> Compared:
    """The quantity's number lies below the bound; its interval is not asked."""
    return Compared(quantity, True, bound, typical=True)


def typically_above(quantity: Quantity, bound: float | Choice | Quantity) -> Compared:
    """The quantity's number lies above the bound; its interval is not asked."""
    return Compared(quantity, False, bound, typical=True)


def within(quantity: Quantity, low: float | Choice, high: float | Choice) -> Condition:
    """The quantity lies between the two, with its whole interval."""
    return ~below(quantity, low) & ~above(quantity, high)


def holds(quantity: Quantity) -> Holds:
    """The fact is a yes."""
    return Holds(quantity)


def surely(condition: Condition) -> Surely:
    """The condition, where being undecided is not enough."""
    return Surely(condition)
