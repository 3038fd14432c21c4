"""The rule behind a verdict: a table that is executed and printed.

The rows are asked in their order. A row whose condition is met gives the verdict; one whose condition is not met
passes on; one that the evidence leaves open, or whose finding is missing, makes the claim inconclusive there and then.
So no verdict is given by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nonsmooth.claims.framework.choice import Choice
from nonsmooth.claims.framework.claim import Verdict
from nonsmooth.claims.framework.condition import Answer, Compared, Condition, Leaf, Scope
from nonsmooth.claims.framework.quantity import Finding, Findings

MOST_WORDS = 5
"""Of the plain words that stand beside a claim's name."""

UNDECIDED = "the numbers do not decide"


@dataclass(frozen=True)
class Outcome:
    """What a row gives.

    Attributes:
        verdict: the verdict.
        says: the same in five plain words or fewer, for a table.
        because: why, as a text with findings in braces.
        correction: the statement as it holds, likewise; needed if and only if the verdict asks for it.
        decided_by: for an inconclusive verdict, what would decide it.

    Raises:
        ValueError: more than five words, or a correction or the deciding experiment missing or out of place.
    """

    verdict: Verdict
    says: str
    because: str = ""
    correction: str | None = None
    decided_by: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.says.split()) <= MOST_WORDS:
            raise ValueError(f"says is {self.says!r}; accepted are one to {MOST_WORDS} words")
        if (self.verdict is Verdict.WITH_CORRECTION) != (self.correction is not None):
            raise ValueError(f"verdict is {self.verdict!s} and correction is {self.correction!r}: both or neither")
        if (self.verdict is Verdict.INCONCLUSIVE) != (self.decided_by is not None):
            raise ValueError(f"verdict is {self.verdict!s} and decided_by is {self.decided_by!r}: both or neither")


@dataclass(frozen=True)
class Row:
    """A condition, and what it gives where it is met."""

    when: Condition
    gives: Outcome


@dataclass(frozen=True)
class Decision:
    """What the rule says of the findings; the texts are filled in.

    Attributes:
        gives: the outcome.
        row: number of the row that decided, from 0; that of `otherwise` is the number of rows.
    """

    gives: Outcome
    row: int


@dataclass(frozen=True)
class Reading:
    """What the rule says of the findings, without texts.

    Attributes:
        verdict: the verdict.
        says: in plain words.
        asked: all numbers, facts and bounds of the rows up to the one that decided. Where these are the same the
            verdict cannot be another one.
    """

    verdict: Verdict
    says: str
    asked: str


class Rule:
    """Rows, and what holds where none of them is met.

    Args:
        rows: in the order in which they are asked.
        otherwise: where every row's condition is decided and not met.
        always: begins every `because`: the numbers that a reader needs in any case.
    """

    def __init__(self, *rows: Row, otherwise: Outcome, always: str = "") -> None:
        self.rows, self.otherwise, self.always = rows, otherwise, always

    def decide(self, findings: Findings, choices: Mapping[str, Any]) -> Decision:
        """The first row that is met, open or missing."""
        scope = Scope(findings, choices)
        number, answer = self._stop(scope)
        if answer is Answer.YES:
            return Decision(self._filled(self._outcome(number), findings, self.always), number)
        undecided = [
            leaf for leaf in self.rows[number].when.leaves() if leaf.answer(scope) in (Answer.OPEN, Answer.MISSING)
        ]
        needed = "; ".join(dict.fromkeys(leaf.needed(scope) for leaf in undecided))
        asked = "; ".join(dict.fromkeys(leaf.words(scope) for leaf in undecided))
        says = "not measured" if answer is Answer.MISSING else UNDECIDED
        because = _literal(f"It is {'not known' if answer is Answer.MISSING else 'open'} whether {asked}.")
        outcome = Outcome(Verdict.INCONCLUSIVE, says, because, decided_by=_literal(needed))
        # What is missing may be what the beginning of every reason speaks of.
        always = self.always if answer is Answer.OPEN else ""
        return Decision(self._filled(outcome, findings, always), number)

    def verdict(self, findings: Mapping[str, Finding], choices: Mapping[str, Any]) -> Verdict:
        """The verdict alone, without its texts."""
        return self.read(findings, choices).verdict

    def read(self, findings: Mapping[str, Finding], choices: Mapping[str, Any]) -> Reading:
        """What it says, and what that comes from."""
        scope = Scope(findings, choices)
        number, answer = self._stop(scope)
        asked = repr([leaf.reads(scope) for row in self.rows[: number + 1] for leaf in row.when.leaves()])
        if answer is not Answer.YES:
            return Reading(Verdict.INCONCLUSIVE, UNDECIDED, asked)
        outcome = self._outcome(number)
        return Reading(outcome.verdict, outcome.says, asked)

    def _stop(self, scope: Scope) -> tuple[int, Answer]:
        """The row at which asking ends, and its answer; `otherwise` answers yes."""
        for number, row in enumerate(self.rows):
            answer = row.when.answer(scope)
            if answer is not Answer.NO:
                return number, answer
        return len(self.rows), Answer.YES

    def _outcome(self, number: int) -> Outcome:
        return self.otherwise if number == len(self.rows) else self.rows[number].gives

    def _filled(self, outcome: Outcome, findings: Findings, always: str) -> Outcome:
        because = " ".join(text for text in (_literal(findings.fill_known(always)), outcome.because) if text)
        texts = {
            name: None if text is None else findings.fill(text)
            for name, text in (("correction", outcome.correction), ("decided_by", outcome.decided_by))
        }
        return Outcome(outcome.verdict, outcome.says, findings.fill(because), **texts)

    def words(self, choices: Mapping[str, Any]) -> list[str]:
        """The rule as a reader sees it, a line for each row."""
        scope = Scope({}, choices)
        lines = [f"{row.gives.verdict}: {row.when.words(scope)}." for row in self.rows]
        return [*lines, f"{self.otherwise.verdict}: none of these."]

    def quantities(self) -> tuple[str, ...]:
        """Names of the findings that it asks for, in its order."""
        return tuple(dict.fromkeys(name for leaf in self._leaves() for name in leaf.names()))

    def choices(self) -> tuple[Choice, ...]:
        """Those that it compares with."""
        bounds = (leaf.bound for leaf in self._leaves() if isinstance(leaf, Compared))
        return tuple(dict.fromkeys(bound for bound in bounds if isinstance(bound, Choice)))

    def _leaves(self) -> Iterable[Leaf]:
        return (leaf for row in self.rows for leaf in row.when.leaves())

    def would_change(self, findings: Findings, choices: Mapping[str, Any]) -> list[str]:
        """Which single findings, were they just on the other side, would give another verdict, and which one."""
        scope = Scope(findings, choices)
        number, answer = self._stop(scope)
        if answer is not Answer.YES:
            return []
        verdict, changes = self._outcome(number).verdict, []
        for leaf in self._leaves():
            observed = leaf.answer(scope)
            if observed not in (Answer.YES, Answer.NO):
                continue
            opposite = Answer.NO if observed is Answer.YES else Answer.YES
            turned = leaf.turned(scope)
            changed = Scope({**findings, turned.name: turned}, choices, brief=True)
            other, answer = self._stop(changed)
            if answer is Answer.YES and (found := self._outcome(other).verdict) is not verdict:
                now = ", ".join(str(findings[name]) for name in leaf.names() if name in findings)
                changes.append(f"{found}, if {leaf.words(changed, opposite is Answer.YES)} (now {now})")
        return list(dict.fromkeys(changes))


def _literal(text: str) -> str:
    """A text that a template leaves as it is."""
    return text.replace("{", "{{").replace("}", "}}")
