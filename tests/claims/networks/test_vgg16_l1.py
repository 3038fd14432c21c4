import math

import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.claims.networks import vgg16_l1 as claim
from nonsmooth.dynamics.stationary import subgradient_law
from nonsmooth.lab import Context, Record
from nonsmooth.models.vgg16 import PARAMETERS

NARROW = 500_000


def record(part="narrow", *, norm=None, at_floor=1.0, below_small=None, zeros=0, below=None, **changes):
    """A run that follows the two-cycle exactly, but for what is given."""
    cell = runs.cell("vgg16-l1", part, steps=150, seed=0, cost=1.0, **changes)
    p = cell.parameters
    law = subgradient_law(p["step_size"], p["penalty"])
    count = PARAMETERS if part == "full" else NARROW
    norm = law.l1_norm(count) if norm is None else norm
    thresholds = list(runs.THRESHOLDS)
    values = {
        "parameters": count,
        "l1_norm": norm,
        "exact_zeros": zeros,
        "below_small": law.fraction_below(runs.SMALL) if below_small is None else below_small,
        "at_floor": at_floor,
        "thresholds": thresholds,
        "below": [law.fraction_below(t) for t in thresholds] if below is None else below,
        "step": [0, 50, 100, 150],
        "l1_norms": [10 * norm, 2 * norm, norm, norm],
        "train_step": [0, 75],
        "train_cross_entropy": [6.9, 6.9],
        "test_step": [0, 150],
        "accuracy": [0.1, 0.1],
        "test_cross_entropy": [math.log(10), math.log(10)],
        "classes_named": [1, 1],
    }
    return Record(cell, values)


def evidence(**replaced):
    """Records by name, as the paper's explanation would have them."""
    records = {
        "full": record("full"),
        "sweep 0.1": record(),
        "sweep 1": record(penalty=1.0),
        "weak": record(penalty=1e-3, norm=6000.0, at_floor=0.2),
        "random labels": record(labels="shuffled"),
        "start": record(initialisation="fan-in"),
        "proximal": record(rule="proximal-sgd", norm=0.5, zeros=NARROW - 10),
    }
    return [r for r in (records | replaced).values() if r is not None]


def test_floor_with_the_papers_percentage_slip_is_reproduced_with_a_correction():
    judgement = claim.judge(evidence())
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "1.00%" in judgement.correction
    assert "0.01 is the fraction" in judgement.correction
    assert "69,178.77" in judgement.headline.ours


def test_the_papers_own_fraction_is_reproduced():
    judgement = claim.judge(evidence(full=record("full", below_small=1.2e-4)))
    assert judgement.verdict is Verdict.REPRODUCED


@pytest.mark.parametrize(
    "replaced",
    [
        {"full": record("full", norm=75_000.0)},
        {"sweep 1": record(penalty=1.0, norm=100.0)},
    ],
    ids=["another norm", "norm falls with λ"],
)
def test_other_numbers_are_not_reproduced(replaced):
    assert claim.judge(evidence(**replaced)).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"random labels": record(labels="shuffled", norm=150.0)}, "random labels ends -40.0%"),
        ({"start": record(initialisation="fan-in", norm=300.0)}, "another initialisation ends"),
        ({"proximal": record(rule="proximal-sgd", norm=250.0)}, "proximal twin"),
        ({"full": record("full", below=[1.0] * len(runs.THRESHOLDS))}, "fraction of weights below"),
    ],
)
def test_controls_can_refute_the_explanation(replaced, words):
    judgement = claim.judge(evidence(**replaced))
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    assert words in judgement.because


def test_a_control_outside_the_laws_range_is_shown_and_decides_nothing():
    wide = record(initialisation="fan-in", penalty=1.0, norm=0.9 * subgradient_law(0.01, 1.0).l1_norm(NARROW))
    wide.values["l1_norms"][0] = 1.5 * wide["l1_norm"]  # αλ is 1.5 times the mean |w| of the start
    judgement = claim.judge(evidence(wide=wide))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert any("Another initialisation at λ = 1 ends at 0.900" in note for note in judgement.notes)
    only_wide = claim.judge(evidence(start=None, wide=wide))
    assert only_wide.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"full": None}, "no full-size run"),
        ({"full": record("full", at_floor=0.6)}, "Only 60.0%"),
        ({"sweep 1": None}, "Fewer than two"),
        ({"proximal": None}, "proximal twin"),
    ],
)
def test_too_little_evidence_is_inconclusive(replaced, words):
    judgement = claim.judge(evidence(**replaced))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert words in judgement.because


def test_a_live_network_is_told_from_a_dead_one():
    live = record("full")
    live.values["classes_named"][-1] = 10
    assert any("one class for every test image" in note for note in claim.judge(evidence()).notes)
    assert any("still tells test images apart" in note for note in claim.judge(evidence(full=live)).notes)


def test_draws_the_three_panels():
    (figure,) = claim.draw(evidence())
    assert [len(panel.series) > 1 for panel in figure.panels] == [True, True, True]
    below = figure.panels[2].series
    assert any(series.tone == "paper" and series.y == (claim.PAPER_BELOW[0.1],) for series in below)


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_plan_has_every_role(scale):
    cells = claim.plan(Settings(scale=scale))
    assert len({c.key for c in cells}) == len(cells)
    assert {runs.role(Record(c, {})) for c in cells} == set(claim.CONTROLS) | {"trained"}


def test_the_quick_plan_is_quick():
    assert sum(c.cost for c in claim.plan(Settings())) < 150


def test_a_real_narrow_run_follows_the_law():
    cell = runs.cell(
        "vgg16-l1", "narrow", steps=40, seed=1, cost=1, penalty=1.0, train_images=20, test_images=10, measurements=4
    )
    values = claim.measure(cell, Context())
    law = subgradient_law(cell.parameters["step_size"], cell.parameters["penalty"])
    assert values["l1_norm"] == pytest.approx(law.l1_norm(values["parameters"]), rel=0.05)
    assert values["below"] == pytest.approx([law.fraction_below(t) for t in values["thresholds"]], abs=0.03)
    assert values["l1_norms"][-1] == values["l1_norm"]
    assert values["step"] == [0, 10, 20, 30, 40]


def test_a_real_proximal_twin_reaches_exact_zeros():
    cell = runs.cell(
        "vgg16-l1",
        "narrow",
        steps=20,
        seed=1,
        cost=1,
        penalty=1.0,
        train_images=20,
        test_images=10,
        rule="proximal-sgd",
    )
    values = claim.measure(cell, Context())
    assert values["exact_zeros"] > 0.9 * values["parameters"]
