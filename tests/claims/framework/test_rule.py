"""The rule as a table: three-valued answers, no verdict by default, and one source for what is run and printed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonsmooth.claims import (
    Choice,
    Findings,
    Outcome,
    Quantity,
    Row,
    Rule,
    Verdict,
    above,
    below,
    holds,
    surely,
    typically_below,
    within,
)
from nonsmooth.claims.framework.condition import Answer, Scope

SHARE, OTHER, FACT = Quantity("share", "share of cycles"), Quantity("other", "the other"), Quantity("fact", "it moves")
LIMIT = Choice("limit", 0.5, (0.4, 0.6), "the limit", "halfway")


def ask(condition, *findings, **choices):
    return condition.answer(Scope(Findings(findings), choices))


@pytest.mark.parametrize(
    ("low", "high", "answer"), [(0.1, 0.4, Answer.YES), (0.5, 0.9, Answer.NO), (0.4, 0.6, Answer.OPEN)]
)
def test_an_interval_decides_only_on_one_side(low, high, answer):
    found = SHARE.estimate((low + high) / 2, low, high)
    assert ask(below(SHARE, 0.5), found) is answer
    assert ask(~below(SHARE, 0.5), found) is {Answer.YES: Answer.NO, Answer.NO: Answer.YES}.get(answer, answer)
    assert ask(surely(below(SHARE, 0.5)), found) is (Answer.YES if answer is Answer.YES else Answer.NO)


def test_two_quantities_are_told_apart_by_disjoint_intervals():
    first = SHARE.estimate(1, 0.5, 1.5)
    assert ask(below(SHARE, OTHER), first, OTHER.estimate(3, 2, 4)) is Answer.YES
    assert ask(below(SHARE, OTHER), first, OTHER.estimate(1.6, 1, 2)) is Answer.OPEN
    assert ask(below(SHARE, OTHER), first, OTHER.estimate(0.3, 0.2, 0.5)) is Answer.NO
    assert ask(above(SHARE, OTHER), first, OTHER.estimate(0.3, 0.2, 0.4)) is Answer.YES


@pytest.mark.parametrize(
    "findings",
    [
        (),
        (SHARE.missing(),),
        (SHARE.number(math.nan),),
        (SHARE.estimate(math.nan, math.nan, math.nan),),
        (SHARE.word("a"),),
    ],
)
@pytest.mark.parametrize(
    "condition", [below(SHARE, 0.5), above(SHARE, 0.5), typically_below(SHARE, 0.5), within(SHARE, 0, 1), holds(SHARE)]
)
def test_what_is_missing_or_not_a_number_answers_nothing(condition, findings):
    for asked in (condition, ~condition, surely(condition), condition & condition, condition | condition):
        assert ask(asked, *findings) is Answer.MISSING


def test_and_and_or_are_decided_by_what_cannot_be_changed():
    no, yes, unknown = below(SHARE, 0), above(SHARE, 0), holds(OTHER)
    found = SHARE.number(1)
    assert ask(no & unknown, found) is Answer.NO
    assert ask(yes | unknown, found) is Answer.YES
    assert ask(yes & unknown, found) is Answer.MISSING
    assert ask(no | unknown, found) is Answer.MISSING


@given(st.sampled_from([Answer.YES, Answer.NO, Answer.OPEN, Answer.MISSING]), st.sampled_from(list(Answer)))
def test_de_morgan(first, second):
    one, two = below(SHARE, 0), below(OTHER, 0)
    ends = {Answer.YES: (-2, -1), Answer.NO: (1, 2), Answer.OPEN: (-1, 1)}
    found = {q.name: q.estimate(0, *ends[a]) for q, a in ((SHARE, first), (OTHER, second)) if a in ends}
    scope = Scope(found, {})
    assert (one.answer(scope), two.answer(scope)) == (first, second)
    assert (~(one & two)).answer(scope) is (~one | ~two).answer(scope)
    assert (~(one | two)).answer(scope) is (~one & ~two).answer(scope)


def rule(limit=LIMIT):
    return Rule(
        Row(below(SHARE, limit), Outcome(Verdict.NOT_REPRODUCED, "too few", "Only {share:.0%} do.")),
        Row(holds(FACT), Outcome(Verdict.WITH_CORRECTION, "it moves", correction="It moves in {share.hits} runs.")),
        otherwise=Outcome(Verdict.REPRODUCED, "as stated"),
        always="{share.hits} of {share.count} runs.",
    )


@pytest.mark.parametrize(
    ("successes", "fact", "verdict", "text"),
    [
        (0, False, Verdict.NOT_REPRODUCED, "0 of 40 runs. Only 0% do."),
        (40, True, Verdict.WITH_CORRECTION, "40 of 40 runs."),
        (40, False, Verdict.REPRODUCED, "40 of 40 runs."),
        (20, False, Verdict.INCONCLUSIVE, "It is open whether share of cycles: below 0.5"),
        (40, None, Verdict.INCONCLUSIVE, "It is not known whether it moves: yes"),
    ],
)
def test_the_first_row_that_is_met_open_or_missing_decides(successes, fact, verdict, text):
    findings = Findings([SHARE.share(successes, 40), FACT.missing() if fact is None else FACT.fact(fact)])
    decision = rule().decide(findings, {})
    assert decision.gives.verdict is verdict
    assert text in decision.gives.because


def test_nothing_measured_gives_no_verdict():
    decision = rule().decide(Findings(), {})
    assert decision.gives.verdict is Verdict.INCONCLUSIVE
    assert "share of cycles was not measured" in decision.gives.decided_by


def test_an_open_answer_says_how_many_would_decide():
    assert "about" in rule().decide(Findings([SHARE.share(22, 40), FACT.fact(True)]), {}).gives.decided_by


def test_a_changed_row_changes_what_is_run_and_what_is_printed():
    findings = Findings([SHARE.share(40, 40), FACT.fact(False)])
    before, after = rule(), rule(limit=1.5)
    assert before.decide(findings, {}).gives.verdict is Verdict.REPRODUCED
    assert after.decide(findings, {}).gives.verdict is Verdict.NOT_REPRODUCED
    assert before.words({})[0] == "not reproduced: share of cycles: below 0.5 (the limit)."
    assert after.words({})[0] == "not reproduced: share of cycles: below 1.5."


def test_a_changed_choice_changes_both_too():
    findings = Findings([SHARE.estimate(0.55, 0.52, 0.58), FACT.fact(False)])
    assert rule().decide(findings, {"limit": 0.5}).gives.verdict is Verdict.REPRODUCED
    assert rule().decide(findings, {"limit": 0.6}).gives.verdict is Verdict.NOT_REPRODUCED
    assert "0.6" in rule().words({"limit": 0.6})[0]


def test_what_would_change_the_verdict_is_found_by_asking_the_rule():
    findings = Findings([SHARE.share(40, 40), FACT.fact(False)])
    assert rule().would_change(findings, {}) == [
        f"not reproduced, if share of cycles: below 0.5 (now {findings['share']})",
        "reproduced with a correction, if it moves: yes (now no)",
    ]
    assert rule().would_change(Findings(), {}) == []


def test_what_would_change_is_asked_of_every_row_that_reads_the_finding():
    """The first row turns, and the second, which asks the same in other words, turns with it."""
    rows = (
        Row(above(SHARE, LIMIT), Outcome(Verdict.NOT_REPRODUCED, "they do")),
        Row(~above(SHARE, LIMIT), Outcome(Verdict.REPRODUCED, "they do not")),
    )
    twice = Rule(*rows, otherwise=Outcome(Verdict.EXPLANATION_NOT_SUPPORTED, "neither"))
    found = SHARE.share(40, 40)
    assert twice.would_change(Findings([found]), {}) == [
        f"reproduced, if share of cycles: below, or equal to, 0.5 (now {found})"
    ]


@pytest.mark.parametrize("condition", [below(SHARE, LIMIT), above(SHARE, LIMIT), below(SHARE, OTHER), holds(FACT)])
@pytest.mark.parametrize(("value", "fact"), [(0.1, True), (0.9, False)])
def test_a_finding_on_the_other_side_gives_the_other_answer(condition, value, fact):
    findings = Findings([SHARE.number(value), OTHER.estimate(0.5, 0.4, 0.6), FACT.fact(fact)])
    turned = condition.turned(Scope(findings, {}))
    answers = [condition.answer(Scope(f, {})) for f in (findings, {**findings, turned.name: turned})]
    assert set(answers) == {Answer.YES, Answer.NO}


def test_surely_is_printed_of_all_that_it_is_said_of():
    scope, either = Scope({}, {}), holds(FACT) | holds(OTHER)
    assert surely(either).words(scope) == "surely (it moves: yes or the other: yes)"
    assert (~surely(either) & holds(FACT)).words(scope) == (
        "not surely (it moves: yes or the other: yes) and it moves: yes"
    )
    assert (~~surely(holds(FACT))).words(scope) == "surely it moves: yes"


@pytest.mark.parametrize("says", ["", "one two three four five six"])
def test_five_words_or_fewer(says):
    with pytest.raises(ValueError, match="says is"):
        Outcome(Verdict.REPRODUCED, says)


def test_a_text_that_asks_for_an_unknown_finding_is_an_error():
    wrong = Rule(otherwise=Outcome(Verdict.REPRODUCED, "so", "{nothing}"))
    with pytest.raises(KeyError, match="nothing"):
        wrong.decide(Findings(), {})


def test_a_misspelt_name_is_an_error_at_the_beginning_of_every_reason_too():
    wrong = Rule(otherwise=Outcome(Verdict.REPRODUCED, "so"), always="{nothing}")
    with pytest.raises(KeyError, match="nothing"):
        wrong.decide(Findings([SHARE.share(1, 2)]), {})
