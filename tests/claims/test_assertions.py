"""Every sentence of the paper has a claim or a reason, and every claim a sentence."""

import pytest

from nonsmooth.claims.assertions import ASSERTIONS, Assertion
from nonsmooth.claims.framework.registry import CLAIM_IDS


def test_every_claim_tests_a_sentence_and_every_sentence_names_claims_that_exist():
    assert {claim_id for assertion in ASSERTIONS for claim_id in assertion.claims} == set(CLAIM_IDS)


def test_no_sentence_stands_twice():
    assert len({assertion.says for assertion in ASSERTIONS}) == len(ASSERTIONS)


@pytest.mark.parametrize(("claims", "untested"), [((), ""), (("rate",), "a reason")])
def test_a_claim_or_a_reason_and_not_both(claims, untested):
    with pytest.raises(ValueError, match="one of them"):
        Assertion("§1", "It is so.", claims, untested)
