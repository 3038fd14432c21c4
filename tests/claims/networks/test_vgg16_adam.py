import math

import pytest

from nonsmooth.claims.framework import Choices, Settings, Verdict
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.claims.networks import vgg16_adam as claim
from nonsmooth.lab import Cell, Context, Record

SGD = {"rule": "sgd", "step_size": 0.03}
ADAM = {"rule": "adam", "step_size": 0.01}


def run(norm, settled=True, seed=0, **changes):
    cell = claim.network.cell(seed=seed, **runs.SETUP | {"part": "narrow", "steps": 100, **changes})
    norms = [20 * norm, 10 * norm] + [norm] * 18 if settled else [norm * 0.7**i for i in range(20)]
    values = {
        "parameters": 1000,
        "step": list(range(20)),
        "l1_norms": norms,
        "l1_norm": norms[-1],
        "accuracy": [0.1, 0.1],
    }
    return Record(cell, values)


def pair(growth, settled=True, **changes):
    return [run(1.0, settled, penalty=0.001, **changes), run(growth, settled, penalty=0.1, **changes)]


def law(growth, settled=True):
    records = []
    for penalty, mean in ((0.001, 1e-3), (0.1, growth * 1e-3)):
        cell = Cell("vgg16-adam", {"part": "law", "rule": "adam", "step_size": 0.01, "penalty": penalty})
        records.append(Record(cell, {"mean_magnitude": mean, "settled": settled}))
    return records


def evidence(sgd=(10.0,), adam=(10.0,), control=10.0, by_law=10.0):
    records = []
    for index, growth in enumerate(sgd):
        records += pair(growth, rule="sgd", step_size=0.03 * (index + 1))
    for index, growth in enumerate(adam):
        records += pair(growth, rule="adam", step_size=0.01 / (index + 1))
    return [*records, *pair(control, labels="shuffled", **ADAM), *law(by_law)]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"by_law": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"control": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"adam": (0.5, 0.9), "sgd": (0.9,)}, Verdict.NOT_REPRODUCED),
        ({"adam": (0.5, 0.9)}, Verdict.WITH_CORRECTION),
        ({"sgd": (0.9,)}, Verdict.WITH_CORRECTION),
        ({"adam": (10.0, 0.9)}, Verdict.WITH_CORRECTION),
        ({"adam": (math.nan,)}, Verdict.INCONCLUSIVE),
        ({"adam": ()}, Verdict.INCONCLUSIVE),
        ({"sgd": ()}, Verdict.INCONCLUSIVE),
    ],
)
def test_verdict_follows_the_evidence(changes, verdict):
    assert claim.study.judge(evidence(**changes)).verdict is verdict


def test_the_halves_are_stated_apart():
    judgement = claim.study.judge(evidence(adam=(0.2, 0.67), by_law=1.0))
    assert judgement.says == "with SGD, not with Adam"
    assert "explains a ratio of 1 and none below it" in judgement.correction
    assert "Adam, α = 0.005" in claim.study.judge(evidence(adam=(10.0, 0.9))).correction


def test_the_laws_failures_are_counted():
    """At α = 0.01, λ = 0.001 the full-size network ended six times above the law and counted as settled."""
    records = evidence()
    records[-1].values["mean_magnitude"] = records[-2].values["mean_magnitude"] = 1 / 6000
    assert claim.study.judge(records).notes == ("Of 2 settled runs under Adam, 0 end within 10% of their law.",)


def test_a_growth_near_the_limit_flips_nothing_silently():
    judgement = claim.study.judge(evidence(adam=(1.08,), control=1.08, by_law=1.08))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("1.1 instead of 1.05" in flip.what for flip in judgement.robustness.flips)


def test_unsettled_runs_decide_nothing():
    records = [*pair(10.0, **SGD), *pair(10.0, settled=False, **ADAM), *pair(10.0, labels="shuffled", **SGD), *law(1.0)]
    judgement = claim.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "Adam has no settled pair of runs" in judgement.decided_by
    assert any("2 runs had not settled" in note for note in judgement.notes)


def test_a_law_that_has_not_settled_is_noted():
    assert not any("laws" in note for note in claim.study.judge(evidence()).notes)
    moving = claim.study.judge([r for r in evidence() if r.parameters["part"] != "law"] + law(10.0, settled=False))
    assert "2 of the 2 laws on λ|w| had not settled when they were recorded." in moving.notes


def test_settled_norm_is_the_mean_of_the_last_fifth():
    assert runs.settled_norm(run(2.0, settled=False)) == pytest.approx(2.0 * sum(0.7**i for i in range(16, 20)) / 4)
    assert not runs.has_settled(run(1.0, settled=False))
    assert not runs.has_settled(run(float("nan")))


def test_draws_runs_and_laws():
    (figure,) = claim.study.draw(evidence())
    assert [panel.title for panel in figure.panels] == ["Adam, narrow", "At the end"]
    assert any(series.tone == "theory" for series in figure.panels[1].series)


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_plan_has_pairs_controls_and_laws(scale):
    cells = claim.study.plan(Settings(scale=scale))
    assert len({c.key for c in cells}) == len(cells)
    keys = {tuple(c.parameters[name] for name in claim.LAW_PARAMETERS) for c in cells if c.parameters["part"] != "law"}
    laws = {tuple(c.parameters[name] for name in claim.LAW_PARAMETERS) for c in cells if c.parameters["part"] == "law"}
    assert keys == laws
    narrow = [c for c in cells if c.parameters["part"] == "narrow"]
    assert len({c.seed for c in narrow if c.parameters["labels"] == "shuffled"}) == claim.CONTROL_SEEDS


def test_the_headline_shows_how_far_the_controls_lie_apart():
    shuffled = [*pair(0.5, labels="shuffled", seed=1, **ADAM), *pair(2.0, labels="shuffled", seed=2, **ADAM)]
    assert claim.study.judge([*evidence(control=1.5), *shuffled]).headline.control.endswith("× 0.5 to 2")


def test_cost_of_the_plans():
    assert sum(c.cost for c in claim.study.plan(Settings())) < 150
    assert sum(c.cost for c in claim.study.plan(Settings(scale="standard"))) < 1500


def test_real_narrow_runs_under_adam_end_at_the_floor_of_the_law_at_both_penalties():
    settings = {"part": "narrow", "steps": 80, "train_images": 20, "test_images": 10, "measurements": 20}
    records = []
    for penalty in runs.PENALTIES:
        cell = claim.network.cell(**runs.SETUP | settings | ADAM | {"penalty": penalty})
        records.append(Record(cell, claim.study.measure(cell, Context())))
        parameters = {"part": "law", "penalty": penalty, "coordinates": 2000, **ADAM}
        law_cell = Cell("vgg16-adam", parameters)
        predicted = claim.study.measure(law_cell, Context())["mean_magnitude"]
        assert runs.settled_norm(records[-1]) / records[-1]["parameters"] == pytest.approx(predicted, rel=0.25)
    (found,) = claim.pairs_of(records, "trained", Choices(claim.study.choices))
    assert not found.growth > claim.GROWTH.value
    assert found.growth == pytest.approx(1.0, abs=0.05)
