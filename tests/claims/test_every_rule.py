"""What holds for the rule of every claim, whatever is found."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonsmooth.claims import Choices, Estimate, Fact, Missing, Study, Verdict, load_claim
from nonsmooth.claims.framework.condition import Holds
from nonsmooth.claims.framework.registry import CLAIM_IDS

STUDIES = {claim_id: study for claim_id in CLAIM_IDS if isinstance(study := load_claim(claim_id), Study)}
every_study = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
numbers = st.one_of(st.floats(-3, 3), st.sampled_from([0.0, 0.5, 1.0, 1e6]))


def asked(study):
    """The quantities that a rule asks for, and whether each is a fact."""
    leaves = [leaf for row in study.rule.rows for leaf in row.when.leaves()]
    return {name: isinstance(leaf, Holds) for leaf in leaves for name in leaf.names()}


@st.composite
def found(draw, study):
    """Anything that could be found."""
    findings = {}
    for name, is_fact in asked(study).items():
        if is_fact:
            findings[name] = Fact(name, name, draw(st.booleans()))
        else:
            low, value, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
            findings[name] = Estimate(name, name, value, low, high, 10)
    return findings


@every_study
def test_nothing_found_decides_nothing(study):
    choices = Choices(study.choices)
    for nothing in ({}, {n: Missing(n, n) for n in asked(study)}, {n: Estimate(n, n, math.nan) for n in asked(study)}):
        assert study.rule.verdict(nothing, choices) is Verdict.INCONCLUSIVE
    assert study.judge([]).verdict is Verdict.INCONCLUSIVE


@every_study
@given(data=st.data())
def test_what_is_missing_never_turns_one_verdict_into_another(study, data):
    choices, findings = Choices(study.choices), data.draw(found(study))
    whole = study.rule.verdict(findings, choices)
    lost = data.draw(st.sets(st.sampled_from(sorted(findings)), min_size=1))
    left = {name: Missing(name, name) if name in lost else finding for name, finding in findings.items()}
    unknown = {
        n: replace(f, value=math.nan) if n in lost and isinstance(f, Estimate) else left[n] for n, f in findings.items()
    }
    for less in (left, unknown, {name: finding for name, finding in findings.items() if name not in lost}):
        assert study.rule.verdict(less, choices) in (whole, Verdict.INCONCLUSIVE)


@every_study
def test_every_verdict_of_the_rule_has_its_words_and_the_judge_no_other(study):
    gives = [row.gives for row in study.rule.rows] + [study.rule.otherwise]
    assert len(study.rule_in_words()) == len(gives)
    for line, outcome in zip(study.rule_in_words(), gives, strict=True):
        assert line.startswith(f"{outcome.verdict}: ")
    assert {Verdict.REPRODUCED, Verdict.NOT_REPRODUCED} <= {outcome.verdict for outcome in gives}


@every_study
def test_every_choice_is_used_and_has_a_reason(study):
    for choice in study.choices:
        assert choice.why
        assert choice.alternatives
    assert len({choice.name for choice in study.choices}) == len(study.choices)
