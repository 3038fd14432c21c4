"""Claim `huber`: frequencies against constructed losses, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import huber
from nonsmooth.dynamics.thresholds import turning_share
from nonsmooth.lab import Cell, Context, Record


def fabricate(*, diverging=(), frequencies=(0.0, 0.4, 0.8), late=None, first_rise=2.0, seeds=30):
    """Records of a world where the losses named diverge above α = 1 and Huber turns at the given shares."""
    alphas = list(huber.ALPHAS)
    early, lately = (
        [[of[0] if a < 0.5 else of[1] if a < 5 else of[2] for a in alphas]] * seeds
        for of in (frequencies, late or frequencies)
    )
    records = []
    kinds = [("uniform", "zero"), ("uniform", "uniform")]
    for name in ("huber", "squared", "pseudo-huber"):
        for entries, start in kinds:
            parameters = {"part": "sweep", "loss": name, "entries": entries, "start": start, "alphas": tuple(alphas)}
            records.append(
                Record(
                    Cell("huber", {**parameters, "seeds": seeds}),
                    {
                        "edge": [0.7] * seeds,
                        "diverged": [[name in diverging and a > 0.7 for a in alphas]] * seeds,
                        "late_largest": [[a**1.0 for a in alphas]] * seeds,
                        "relative_largest": [[first_rise] * len(alphas)] * seeds,
                        "first_step": [[1.0] * len(alphas)] * seeds,
                        "early_frequency": early,
                        "late_frequency": lately,
                        "trace_at": [0, 1],
                        "trace": [[1.0, 0.5]] * 3,
                    },
                )
            )
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({"diverging": ("squared", "pseudo-huber")}, Verdict.REPRODUCED),
        ({"diverging": ("squared",)}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "pseudo-huber"), "first_rise": 0.9}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "pseudo-huber"), "frequencies": (0.8, 0.4, 0.1)}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "pseudo-huber"), "first_rise": math.nan}, Verdict.INCONCLUSIVE),
        ({"diverging": ("squared", "pseudo-huber"), "seeds": 1}, Verdict.INCONCLUSIVE),
        ({"diverging": ("squared",), "frequencies": (0.8, 0.4, 0.1)}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared",), "first_rise": 0.9}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "huber")}, Verdict.NOT_REPRODUCED),
        ({"diverging": ()}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    judgement = huber.study.judge(records)
    assert judgement.verdict is verdict
    assert huber.study.draw(records)


def test_the_correction_says_where_the_loss_first_rises():
    judgement = huber.study.judge(fabricate(diverging=("squared",), first_rise=0.9))
    assert "first rises from none; not from zero (uniform data)" in judgement.correction
    assert "0% diverge with the C^∞ pseudo-Huber loss" in judgement.correction


def test_a_late_two_cycle_is_saturated_and_not_against_the_claim():
    world = {"diverging": ("squared", "pseudo-huber"), "late": (0.0, 1.0, 1.0)}
    judgement = huber.study.judge(fabricate(**world))
    assert judgement.verdict is Verdict.REPRODUCED
    assert not judgement.robustness.flips


def test_a_frequency_that_hangs_on_the_window_is_named():
    world = {"diverging": ("squared", "pseudo-huber"), "late": (0.0, 0.8, 0.4)}
    judgement = huber.study.judge(fabricate(**world))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert [one.what for one in judgement.robustness.flips] == [
        "steps in which the frequency is read: late instead of early"
    ]


@pytest.mark.parametrize("loss", ["huber", "squared", "pseudo-huber"])
def test_a_missing_loss_decides_nothing(loss):
    records = [r for r in fabricate(diverging=("squared", "pseudo-huber")) if r.parameters["loss"] != loss]
    assert huber.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_the_share_of_turns():
    zigzag = np.array([1.0, 2.0] * 6)[:, None]
    slow = np.array([1.0, 2.0, 3.0, 2.0] * 3)[:, None]
    falling = np.linspace(1, 0, 12)[:, None]
    rounding = 1e-20 * zigzag
    losses = np.concatenate([zigzag, slow, falling, rounding], axis=1)
    assert turning_share(losses, np.ones(4)).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_small_steps_converge_and_large_ones_alternate_without_diverging():
    parameters = {"part": "sweep", "entries": "uniform", "start": "zero", "steps": 400, "seeds": 1}
    values = {
        name: huber.study.measure(Cell("huber", {**parameters, "loss": name, "alphas": huber.PAPER_ALPHAS}), Context())
        for name in ("huber", "squared", "pseudo-huber")
    }
    assert values["huber"]["diverged"] == [[False, False, False]]
    assert values["pseudo-huber"]["diverged"] == [[False, False, False]]
    assert values["squared"]["diverged"] == [[False, True, True]]
    assert values["huber"]["late_frequency"][0][0] == 0.0
    assert values["huber"]["late_frequency"][0][1] > 0.9
    assert values["huber"]["edge"] == values["squared"]["edge"]


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_the_plan_covers_the_papers_step_sizes(scale):
    cells = huber.study.plan(Settings(scale=scale))
    assert len(set(cells)) == len(cells)
    assert all(set(huber.PAPER_ALPHAS) <= set(cell.parameters["alphas"]) for cell in cells)
