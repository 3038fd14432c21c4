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
    seed, start = changes.pop("seed", 0), changes.pop("start", 10.0)
    cell = claim.network.cell(seed=seed, **runs.SETUP | {"part": part, "steps": 150, **changes})
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
        "l1_norms": [start * law.l1_norm(count), 2 * norm, norm, norm],
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
        "weak": record(penalty=1e-3, initialisation=runs.AT_KINK),
        "random labels": record(labels="shuffled"),
        "start": record(initialisation="fan-in"),
        "proximal": record(rule="proximal-sgd", norm=0.5, zeros=NARROW - 10),
    }
    return [r for r in (records | replaced).values() if r is not None]


def test_floor_with_the_papers_percentage_slip_is_reproduced_with_a_correction():
    judgement = claim.study.judge(evidence())
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "1.00%" in judgement.correction
    assert "0.01 is the fraction" in judgement.correction
    assert "69,178.77" in judgement.headline.ours


def test_the_papers_own_fraction_is_reproduced():
    judgement = claim.study.judge(evidence(full=record("full", below_small=1.2e-4)))
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
    assert claim.study.judge(evidence(**replaced)).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"random labels": record(labels="shuffled", norm=150.0)}, "it depends on the data"),
        ({"start": record(initialisation="fan-in", norm=300.0)}, "it depends on the data"),
        ({"full": record("full", below=[1.0] * len(runs.THRESHOLDS))}, "weights are not spread evenly"),
        ({"proximal": record(rule="proximal-sgd", norm=250.0)}, "proximal steps do it too"),
    ],
)
def test_controls_can_refute_the_explanation(replaced, says):
    judgement = claim.study.judge(evidence(**replaced))
    assert (judgement.verdict, judgement.says) == (Verdict.EXPLANATION_NOT_SUPPORTED, says)


def test_a_control_outside_the_laws_range_is_shown_and_decides_nothing():
    width = subgradient_law(0.01, 1.0).l1_norm(NARROW)
    wide = record(initialisation="fan-in", penalty=1.0, norm=0.9 * width, start=1.35)  # αλ: 1.5 times the start's |w|
    judgement = claim.study.judge(evidence(wide=wide))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert any("Another initialisation at λ = 1 ends at 0.900" in note for note in judgement.notes)
    only_wide = claim.study.judge(evidence(start=None, wide=wide))
    assert only_wide.verdict is Verdict.INCONCLUSIVE


def test_where_the_limit_of_the_range_decides_the_verdict_carries_it():
    wide = record(initialisation="fan-in", penalty=1.0, norm=0.9 * subgradient_law(0.01, 1.0).l1_norm(NARROW), start=3)
    judgement = claim.study.judge(evidence(wide=wide))
    assert "where αλ is at most 0.5 of the mean |w| of the start" in judgement.because
    assert any("1 instead of 0.5" in flip.what for flip in judgement.robustness.flips)


def test_controls_that_have_not_arrived_are_not_asked_for_the_floor():
    """At λ = 0.001 the paper's own run ends at three times the floor with 99.7 % of its weights there."""
    weak = {"penalty": 1e-3, "at_floor": 0.997, "start": 2000.0}
    late = {
        name: record("full", norm=3.06 * subgradient_law(0.01, 1e-3).l1_norm(PARAMETERS), **weak, **change)
        for name, change in claim.CONTROLS.items()
    }
    judgement = claim.study.judge(evidence(**{f"late {name}": one for name, one in late.items()}))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert sum("3.060 of P·αλ/2 and is left out" in note for note in judgement.notes) == 2
    alone = claim.study.judge(evidence(**late, start=None))
    assert alone.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("weak", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"norm": 2113.83, "at_floor": 0.997}, Verdict.WITH_CORRECTION),
        ({"norm": 1e6}, Verdict.NOT_REPRODUCED),
        ({"norm": 1e6, "at_floor": 0.2}, Verdict.INCONCLUSIVE),
        ({"norm": math.nan}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_run_at_the_smaller_penalty_decides_as_well(weak, verdict):
    judgement = claim.study.judge(evidence(**{"full weak": record("full", penalty=1e-3, start=2000.0, **weak)}))
    assert judgement.verdict is verdict


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"full": None}, "within αλ of 0, λ = 0.1 was not measured"),
        ({"full": record("full", at_floor=0.6)}, "a longer full-size run"),
        ({"full": record("full", norm=math.nan)}, "is not a number"),
        ({"sweep 1": None}, "was not measured"),
        ({"weak": None}, "has no run behind it"),
        ({"proximal": None}, "was not measured"),
        ({"random labels": None}, "no run of random labels"),
    ],
)
def test_too_little_evidence_is_inconclusive(replaced, words):
    judgement = claim.study.judge(evidence(**replaced))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert words in judgement.decided_by


@pytest.mark.parametrize("length", claim.LENGTH.alternatives)
def test_a_norm_that_still_falls_does_not_flip_the_verdict_silently(length):
    """The verdict is read at the end; earlier the control lies off the floor."""
    control = record(labels="shuffled")
    control.values["l1_norms"] = [4000.0, 500.0, 400.0, control["l1_norm"]]
    judgement = claim.study.judge(evidence(**{"random labels": control}))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any(f"{length:g} instead of 1" in flip.what for flip in judgement.robustness.flips)


def test_the_weights_are_not_called_uniform_where_the_norm_says_otherwise():
    judgement = claim.study.judge(evidence(full=record("full", norm=69_229.78)))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "+15 standard deviations" in judgement.because
    assert "are uniform" not in judgement.because


def test_a_live_network_is_told_from_a_dead_one():
    live = record("full")
    live.values["classes_named"][-1] = 10
    assert any("one class for every test image" in note for note in claim.study.judge(evidence()).notes)
    assert any("still tells test images apart" in note for note in claim.study.judge(evidence(full=live)).notes)


def test_draws_the_three_panels():
    (figure,) = claim.study.draw(evidence())
    assert [len(panel.series) > 1 for panel in figure.panels] == [True, True, True]
    below = figure.panels[2].series
    assert any(series.tone == "paper" and series.y == (claim.PAPER_BELOW[0.1],) for series in below)


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_plan_has_every_role(scale):
    cells = claim.study.plan(Settings(scale=scale))
    assert len({c.key for c in cells}) == len(cells)
    assert {runs.role(Record(c, {})) for c in cells} == set(claim.CONTROLS) | {"trained", runs.AT_KINK}


def test_the_quick_plan_is_quick():
    assert sum(c.cost for c in claim.study.plan(Settings())) < 150


def real(steps, **changes):
    few = {"part": "narrow", "steps": steps, "train_images": 20, "test_images": 10, "measurements": 4}
    cell = claim.network.cell(seed=1, **runs.SETUP | few | changes)
    return cell.parameters, claim.study.measure(cell, Context())


def test_a_real_narrow_run_follows_the_law():
    parameters, values = real(40, penalty=1.0)
    law = subgradient_law(parameters["step_size"], parameters["penalty"])
    assert values["l1_norm"] == pytest.approx(law.l1_norm(values["parameters"]), rel=0.05)
    assert values["below"] == pytest.approx([law.fraction_below(t) for t in values["thresholds"]], abs=0.03)
    assert values["l1_norms"][-1] == values["l1_norm"]
    assert values["step"] == [0, 10, 20, 30, 40]


def test_a_real_network_begun_at_the_kink_starts_where_the_larger_penalty_ends():
    _, values = real(1, penalty=1e-3, initialisation=runs.AT_KINK)
    assert values["l1_norms"][0] == pytest.approx(subgradient_law(0.01, 0.1).l1_norm(values["parameters"]), rel=0.01)


def test_a_real_proximal_twin_reaches_exact_zeros():
    _, values = real(20, penalty=1.0, rule="proximal-sgd")
    assert values["exact_zeros"] > 0.9 * values["parameters"]
