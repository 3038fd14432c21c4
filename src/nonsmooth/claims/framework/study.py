"""A study of a claim: experiments, findings, a rule and figures, each a small function or a table.

study = Study(CLAIM, rule=RULE, choices=(REQUIRED,), headline=Headline("alternates", "{cycles.hits} do", "..."))

@study.experiment(part="kink", seed_axes={"alternates": 0})
def kink(run, *, features, strength, seeds): ...

@study.planned
def plan(scale): ...

@study.findings
def findings(evidence, choices): ...

@study.figures
def draw(evidence, findings): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nonsmooth.claims.framework.choice import Afterthought, Choice, Choices, in_words
from nonsmooth.claims.framework.claim import Alternative, Claim, Headline, Judgement, Robustness, Settings, Verdict
from nonsmooth.claims.framework.evidence import Evidence, NotStoredError
from nonsmooth.claims.framework.experiment import Experiment, Scale
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.framework.quantity import Findings
from nonsmooth.claims.framework.rule import Reading, Rule
from nonsmooth.lab import Cell, Context, Record, Scalar

FindingsOf = Callable[[Evidence, Choices], Findings]


_PARTS = {"planned": "plan", "findings": "findings", "figures": "figures"}


class Study:
    """What `nonsmooth.claims.framework.registry` runs: `plan`, `measure`, `judge` and `draw` of a claim.

    Args:
        claim: what the paper says.
        rule: by which findings become a verdict.
        headline: the row of the summary table, as texts with findings in braces.
        choices: what the verdict rests on besides the evidence.
        afterthoughts: choices that were made after looking.

    Raises:
        ValueError: the rule compares with a choice that is not among `choices`, so no alternative of it is judged.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        rule: Rule,
        headline: Headline,
        choices: Sequence[Choice] = (),
        afterthoughts: Sequence[Afterthought] = (),
    ) -> None:
        self.CLAIM, self.rule, self.headline = claim, rule, headline
        self.choices, self.afterthoughts = tuple(choices), tuple(afterthoughts)
        undeclared = [choice.name for choice in rule.choices() if choice not in self.choices]
        if undeclared:
            raise ValueError(
                f"{claim.id}: the rule compares with {', '.join(undeclared)}, which is not among its choices"
            )
        self.experiments: list[Experiment] = []
        self._plan: Callable[[Scale], Iterable[Cell]]
        self._findings: FindingsOf
        self._figures: Callable[[Evidence, Findings], list[Figure]]

    def experiment(
        self, *, seed_axes: Mapping[str, int] | None = None, version: int = 1, **marks: Scalar
    ) -> Callable[[Callable[..., Mapping[str, Any]]], Experiment]:
        """Make a function an experiment; see `Experiment`. `marks` are the fixed parameters of its cells."""

        def register(function: Callable[..., Mapping[str, Any]]) -> Experiment:
            experiment = Experiment(self.CLAIM.id, function, marks, seed_axes or {}, version)
            self.experiments.append(experiment)
            return experiment

        return register

    def planned(self, function: Callable[[Scale], Iterable[Cell]]) -> Callable[[Scale], Iterable[Cell]]:
        """Make a function the plan: scale → cells."""
        self._plan = function
        return function

    def findings(self, function: FindingsOf) -> FindingsOf:
        """Make a function that which turns evidence into findings, under given choices."""
        self._findings = function
        return function

    def figures(
        self, function: Callable[[Evidence, Findings], list[Figure]]
    ) -> Callable[[Evidence, Findings], list[Figure]]:
        """Make a function that which draws."""
        self._figures = function
        return function

    def missing(self) -> tuple[str, ...]:
        """The decorators that no function stands under yet."""
        given = {"experiment": bool(self.experiments)}
        given |= {name: hasattr(self, f"_{kept}") for name, kept in _PARTS.items()}
        return tuple(name for name, there in given.items() if not there)

    def plan(self, settings: Settings) -> list[Cell]:
        """The cells at these settings."""
        return list(self._plan(Scale(settings)))

    def measure(self, cell: Cell, context: Context) -> Mapping[str, Any]:
        """One cell's values.

        Raises:
            ValueError: no experiment, or more than one, has such cells.
        """
        fitting = [experiment for experiment in self.experiments if experiment.measures(cell)]
        if len(fitting) != 1:
            names = ", ".join(experiment.name for experiment in fitting) or "no experiment"
            raise ValueError(f"the cell {dict(cell.parameters)} belongs to {names}; accepted is exactly one")
        return fitting[0](cell, context)

    def find(self, records: Sequence[Record], **changed: Any) -> Findings:
        """The findings of these records; `changed` are choices made otherwise."""
        return self._findings(Evidence(records, self.experiments), Choices(self.choices, changed))

    def judge(self, records: Sequence[Record]) -> Judgement:
        """The verdict of the rule, with what it would be under every alternative that the records allow."""
        if not records:
            return _not_measured("there are no records")
        evidence, choices = Evidence(records, self.experiments), Choices(self.choices)
        try:
            findings = self._findings(evidence, choices)
        except NotStoredError as reason:
            return _not_measured(str(reason))
        decision = self.rule.decide(findings, choices)
        robustness, flipping = self._vary(evidence, self.rule.read(findings, choices))
        judgement = Judgement(
            decision.gives.verdict,
            decision.gives.because,
            Headline(
                *(
                    findings.fill_known(text)
                    for text in (self.headline.paper, self.headline.ours, self.headline.control)
                )
            ),
            findings.measured,
            findings.control,
            findings.predicted,
            decision.gives.correction,
            decision.gives.decided_by,
            findings.notes,
            decision.gives.says,
            self.rule.quantities(),
            tuple(self.rule.would_change(findings, choices)),
            robustness,
        )
        return _qualified(judgement, flipping)

    def draw(self, records: Sequence[Record]) -> list[Figure]:
        """What a reader should look at."""
        evidence = Evidence(records, self.experiments)
        return self._figures(evidence, self._findings(evidence, Choices(self.choices)))

    def rule_in_words(self) -> list[str]:
        """The rule as it is executed, a line for each row."""
        return self.rule.words(Choices(self.choices))

    def _alternatives(self, evidence: Evidence) -> Iterator[tuple[Choice | None, str, Evidence, Choices]]:
        """Every alternative: its choice (None where seeds are left out), in words, and what is then judged."""
        chosen = Choices(self.choices)
        for choice, value, choices in chosen.alternatives():
            yield choice, f"{choice.label}: {in_words(value)} instead of {in_words(choice.value)}", evidence, choices
        groups = evidence.groups()
        for group in range(groups):
            what = f"{groups - 1} of {groups} groups of seeds, without group {group + 1}"
            yield None, what, evidence.without(group, groups), chosen

    def _vary(self, evidence: Evidence, as_is: Reading) -> tuple[Robustness, list[tuple[Choice | None, Alternative]]]:
        """Judge under every alternative; also those that give another verdict, with their choice (None for seeds)."""
        judged: list[tuple[Choice | None, Alternative]] = []
        not_judged, unchanged = [], []
        for choice, what, varied, choices in self._alternatives(evidence):
            try:
                found = self.rule.read(self._findings(varied, choices), choices)
            except NotStoredError as reason:
                not_judged.append(f"{what}: {reason}")
                continue
            if found.asked == as_is.asked:
                unchanged.append(what)
            else:
                judged.append((choice, Alternative(what, found.verdict, found.says)))
        alternatives = tuple(alternative for _, alternative in judged)
        robustness = Robustness(as_is.verdict, alternatives, tuple(not_judged), tuple(unchanged), as_is.says)
        return robustness, [(choice, one) for choice, one in judged if one.verdict is not as_is.verdict]


def _not_measured(reason: str) -> Judgement:
    """What is said of records that lack a part."""
    headline = Headline("", "", "")
    return Judgement(
        Verdict.INCONCLUSIVE,
        f"A part was not measured: {reason}.",
        headline,
        (),
        (),
        decided_by=reason,
        says="not measured",
    )


def _qualified(judgement: Judgement, flipping: Sequence[tuple[Choice | None, Alternative]]) -> Judgement:
    """The judgement with the conditions under which it holds; inconclusive where a choice without one turns it.

    An alternative that leaves the claim undecided does not contradict the verdict; another verdict does.
    """
    against = [(choice, one) for choice, one in flipping if one.verdict is not Verdict.INCONCLUSIVE]
    if judgement.verdict is Verdict.INCONCLUSIVE or not against:
        return judgement
    unexplained = [one for choice, one in against if choice is None or not choice.condition]
    if unexplained:
        turns = _turns(unexplained)
        return replace(
            judgement,
            verdict=Verdict.INCONCLUSIVE,
            says="hangs on a choice",
            because=f"{judgement.because} But the rule says “{judgement.verdict}” only as the choices were made, and "
            f"{turns}.",
            correction=None,
            decided_by="an experiment in which these choices do not matter",
            would_change=(),
        )
    held = dict.fromkeys(choice.condition.format(value=in_words(choice.value)) for choice, _ in against if choice)
    turns = _turns([one for _, one in against])
    return replace(judgement, because=f"{judgement.because} This holds {', '.join(held)}. The rule says {turns}.")


def _turns(alternatives: Sequence[Alternative]) -> str:
    return "; ".join(f"“{one.verdict}” with {one.what}" for one in alternatives)
