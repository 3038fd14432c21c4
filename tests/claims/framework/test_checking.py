import dataclasses
import random
from types import SimpleNamespace

import pytest

from nonsmooth.claims import check_claim
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Verdict
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.quantity import Value
from nonsmooth.lab import Cell

AXIS = Axis("axis")


def judge(records):
    """Reproduced, if the largest value is above 0."""
    largest = max(record["value"] for record in records)
    verdict = Verdict.REPRODUCED if largest > 0 else Verdict.NOT_REPRODUCED
    return Judgement(verdict, f"It is {largest}.", Headline("", "", ""), (Value("largest", "largest", largest),), ())


def without_rule(records):
    return judge(records)


def judges_nothing(records):
    """Whatever there is."""
    return judge(records) if records else Judgement(Verdict.NOT_REPRODUCED, "No.", Headline("", "", ""), (), ())


def is_inconclusive(records):
    """Whatever there is."""
    nothing = Judgement(Verdict.INCONCLUSIVE, "None.", Headline("", "", ""), (), (), decided_by="a record")
    return judge(records) if records else nothing


def gives_lists(records):
    """Whatever there is."""
    return dataclasses.replace(judge(records), measured=(Value("name", "label", [1.0]),))


def claim(**changes):
    parts = {
        "CLAIM": Claim("mine", "Title", "§0", "Statement.", "Explanation.", "Control."),
        "plan": lambda settings: [Cell("mine", {}, seed) for seed in settings.seed_range(3)],
        "measure": lambda cell, context: {"value": float(cell.seed + 1), "nothing": float("nan")},
        "judge": judge,
        "draw": lambda records: [
            Figure("title", "caption", (Panel("", AXIS, AXIS, (Series("line", "a", [1], [records[0]["value"]]),)),))
        ],
    }
    return SimpleNamespace(**{name: part for name, part in {**parts, **changes}.items() if part is not None})


def test_a_claim_that_keeps_the_rules_passes():
    assert check_claim(claim()).verdict is Verdict.REPRODUCED
    assert check_claim(claim(), Settings(seeds=1)).measured[0].value == 1.0
    assert check_claim(claim(judge=is_inconclusive)).verdict is Verdict.REPRODUCED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"draw": None}, "no function draw"),
        ({"CLAIM": "mine"}, "no CLAIM"),
        ({"plan": lambda settings: []}, "plan gives no cells"),
        ({"plan": lambda settings: ["cell"]}, "must give cells"),
        ({"plan": lambda settings: [Cell("other", {})]}, "the claim 'other'; it must be 'mine'"),
        ({"plan": lambda settings: [Cell("mine", {}), Cell("mine", {})]}, "a cell twice"),
        ({"plan": lambda settings: [Cell("mine", {}, random.randrange(10**9))]}, "other cells"),
        ({"measure": lambda cell, context: {"value": object()}}, "cannot be stored"),
        ({"measure": lambda cell, context: None}, "cannot be stored"),
        ({"measure": lambda cell, context: {"value": random.random()}}, "other values for the same cell"),
        ({"judge": without_rule}, "no docstring"),
        ({"judge": judges_nothing}, "a verdict without records"),
        ({"judge": gives_lists}, "results.json cannot hold"),
        ({"draw": lambda records: None}, "must give a list of figures"),
        ({"draw": lambda records: ["figure"]}, "must give figures"),
        ({"draw": lambda records: [Figure("empty", "", ())]}, "'empty' has no panels"),
    ],
)
def test_each_broken_rule_is_said_in_a_sentence(changes, words):
    with pytest.raises(AssertionError, match=words):
        check_claim(claim(**changes))
