"""What ends a run: lines in a pipe, a table on a terminal."""

import io

import pytest
from rich.console import Console

from nonsmooth.claims.framework.claim import Verdict
from nonsmooth.cli.listing import print_results

LONG = "a finite sum of differentiable subproblems, " * 5


def entry(claim_id, verdict, status="judged"):
    headline = {"paper": LONG, "ours": "2.0", "control": "none"} if verdict else None
    robustness = {"verdict": verdict, "stands": 5, "alternatives": 6} if claim_id == "rate" else None
    says = "smooth ones do it too" if claim_id == "rate" else ""
    entry = {"id": claim_id, "verdict": verdict, "status": status, "headline": headline}
    return {**entry, "says": says, "robustness": robustness}


ENTRIES = [
    entry("unstable-convergence", str(Verdict.REPRODUCED)),
    entry("rate", str(Verdict.EXPLANATION_NOT_SUPPORTED)),
    entry("depth", None, "failed"),
    entry("bound", str(Verdict.REPRODUCED)),
]


def printed(width, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, highlight=False)
    print_results(ENTRIES, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [20, 80])
def test_in_a_pipe_each_claim_is_one_line_of_any_length(width):
    assert printed(width, terminal=False) == [
        f"unstable-convergence: reproduced (paper: {LONG}; ours: 2.0; control: none)",
        "rate: reproduced, explanation not supported, smooth ones do it too, stands under 5 of 6 "
        f"(paper: {LONG}; ours: 2.0; control: none)",
        "depth: failed",
        f"bound: reproduced (paper: {LONG}; ours: 2.0; control: none)",
        "Verdicts: 2 reproduced; 1 reproduced, explanation not supported; 1 failed",
    ]


@pytest.mark.parametrize("width", [80, 160])
def test_on_a_terminal_the_table_fits_and_breaks_no_word(width):
    lines = printed(width, terminal=True)
    assert max(map(len, lines)) == width
    text = "\n".join(lines)
    for word in ("unstable-convergence", "differentiable", "subproblems", "explanation", "supported", "failed"):
        assert word in text
    assert "…" not in text
    assert ("verdict" in text) == (width == 160)


def test_what_hangs_on_a_choice_says_what_its_rule_says():
    hanging = {
        **entry("rate", str(Verdict.INCONCLUSIVE)),
        "says": "hangs on a choice",
        "robustness": {"verdict": str(Verdict.REPRODUCED), "stands": 7, "alternatives": 9},
    }
    console = Console(file=io.StringIO(), force_terminal=False, width=80, color_system=None)
    print_results([hanging], console)
    assert "rate: inconclusive, hangs on a choice, “reproduced” under 7 of 9 (" in console.file.getvalue()
